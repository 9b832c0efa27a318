"""Continuous batching: prompts join and sequences leave the running batch at every step."""
