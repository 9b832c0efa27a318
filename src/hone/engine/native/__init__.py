"""The decoding step in C, for small models on a CPU. Optional: log-probabilities have the same bits without it."""
