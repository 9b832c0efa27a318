"""Optimizers over flat adapter vectors."""
