"""Where a base model is computed, and what differs by that: a CPU, bit for bit, or a GPU."""
