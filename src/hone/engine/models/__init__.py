"""Frozen base models: Llama-3 and Qwen3 decoders, dense and mixture-of-experts, and whatever else transformers runs."""
