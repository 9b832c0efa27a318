"""The Tinker protocol as plain data: no torch, no web framework, no SQL."""
