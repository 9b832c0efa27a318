"""Files with training data: conversations, preferences and prompts, one JSON object a line."""
