"""From sources to standard rows: read, transformed, divided, mixed, fingerprinted."""
