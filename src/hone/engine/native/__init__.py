"""The decoding step in C, for small models on a CPU. Optional: what it computes has the same bits without it."""
