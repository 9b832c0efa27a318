"""The adapters that all systems train: every projection of the layers, not the output layer."""

SITES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALPHA = 32
