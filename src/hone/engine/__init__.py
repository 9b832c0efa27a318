"""Trains and samples LoRA adapters on frozen base models; knows adapters, not users. Start at `contract.py`."""
