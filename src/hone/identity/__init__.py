"""Who may ask: organisations, projects, users and API keys; what their work costs; who did what."""
