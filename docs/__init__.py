"""The documentation; `generate` makes its reference pages from the code."""
