"""Hone: train, serve and keep improving thousands of LoRA adapters on shared base models."""

__version__ = "0.1.0"
