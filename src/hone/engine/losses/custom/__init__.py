"""Losses that clients trace: rebuilt from a list of allowed operations, bounded, never evaluated as code."""
