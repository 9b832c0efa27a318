"""Reinforcement learning: episodes, credit for their tokens, and three loops that differ in when they sample."""
