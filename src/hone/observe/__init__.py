"""Seeing what Hone does: logs, metrics, progress."""
