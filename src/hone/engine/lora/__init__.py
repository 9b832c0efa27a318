"""LoRA adapters: geometry, state, and the projection that applies many of them in one pass."""
