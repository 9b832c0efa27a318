"""Sampling by text, for the OpenAI- and Anthropic-compatible routes: chat templates, tokenizers, tool calls."""
