"""Every environment variable that Hone reads, declared once. Loading this is cheap: the standard library only."""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from hone.errors import UserError

MIB = 1 << 20


def variable(name: str, default: Any) -> Any:
    return field(default=default, metadata={"name": name})


@dataclass(frozen=True)
class Settings:
    data_dir: Path | None = variable("HONE_DATA_DIR", None)
    """Where everything is kept. Unset: `~/.local/share/hone` (or under XDG_DATA_HOME)."""
    api_key: str | None = variable("HONE_API_KEY", None)
    """The key that clients must send, instead of the one made on first start; TINKER_API_KEY comes after it."""
    public_url: str | None = variable("HONE_PUBLIC_URL", None)
    """The URL that clients reach this server by, for the links that it hands out. Unset: the one of their request."""
    database_url: str | None = variable("HONE_DATABASE_URL", None)
    """`postgresql://USER:PASSWORD@HOST/NAME` (needs hone[postgres]) or `sqlite:///FILE`. Unset: an SQLite file in the
    data directory. Of Postgres, which must be there already, everything goes by its own settings, such as
    `?options=-c%20synchronous_commit%3Doff`."""
    blobs_url: str | None = variable("HONE_BLOBS_URL", None)
    """Where checkpoints and snapshots are kept: `s3://BUCKET/PREFIX` (needs hone[s3]), with AWS's own variables for
    keys and region and, for another service, `?endpoint_url=https://...`. The data directory is then a cache of them.
    Unset: in the data directory only."""
    sqlite_synchronous: str = variable("HONE_SQLITE_SYNCHRONOUS", "NORMAL")
    """NORMAL survives a crash of any process; FULL also a power cut, for one disk flush per group of requests."""
    threads: int | None = variable("HONE_THREADS", None)
    """Threads of the math library, for what the engine does not divide among its own. Unset: 1, with which results are
    equal to the bit under any load; with more they are to rounding."""
    training_threads: int | None = variable("HONE_TRAINING_THREADS", None)
    """Threads of the engine itself, which compute parts of a training pass, shares of many running samples, and parts
    of large matrix products at the same time. Unset: one on every core that this process may use (its affinity and
    its container's quota count), divided by HONE_THREADS. Another number gives gradients other last bits. Of models
    that transformers runs only the products are divided."""
    device: str = variable("HONE_DEVICE", "cpu")
    """What the engine computes on: `cpu`, `cuda`, `cuda:1`, or `auto`, a GPU where there is one. GPUs have to be asked
    for, because none has run this yet."""
    dtype: str = variable("HONE_DTYPE", "auto")
    """Of base models: `float32`, `bfloat16`, or `auto`, which is bfloat16 on GPUs that have it and float32 elsewhere.
    Adapters, their moments and gradients are float32 in any case."""
    invariant: bool = variable("HONE_INVARIANT", False)
    """On a GPU, compute so that trainer and sampler give a token the same log-probability to the bit, whoever is beside
    it. Slower. In float32 on a CPU it is always so."""
    long_poll_seconds: float = variable("HONE_LONG_POLL_SECONDS", 30.0)
    """How long a poll for a result is held; clients give up after 45."""
    gap_seconds: float = variable("HONE_GAP_SECONDS", 120.0)
    """How long requests wait for one with a lower sequence number before they fail: a client may die between chunks."""
    max_body_bytes: int = variable("HONE_MAX_BODY_BYTES", 256 * MIB)
    """Largest request body, unpacked. Raising it lets one request take that much memory."""
    max_bodies_bytes: int = variable("HONE_MAX_BODIES_BYTES", 1024 * MIB)
    """Request bodies in memory at once, of all clients together; what comes on top is asked to come again."""
    metadata_only_bytes: int = variable("HONE_METADATA_ONLY_BYTES", 4 * MIB)
    """Results from this size on are announced before they are sent, to clients that ask for it."""
    snapshot_operations: int = variable("HONE_SNAPSHOT_OPERATIONS", 256)
    """A model is snapshotted when more operations than this would have to be computed again after a crash."""
    snapshot_bytes: int = variable("HONE_SNAPSHOT_BYTES", 128 * MIB)
    """The same for the bytes of their requests, which the journal keeps until a snapshot covers them."""
    snapshot_seconds: float = variable("HONE_SNAPSHOT_SECONDS", 5.0)
    """The same for the age of the oldest of them. Lower: faster recovery, more writing. Large adapters wait longer."""
    idle_seconds: float = variable("HONE_IDLE_SECONDS", 5.0)
    """A model that has had no work for this long is snapshotted."""
    project_weights: str = variable("HONE_PROJECT_WEIGHTS", "")
    """Shares of the device while projects compete for it, such as `prj-1=4,prj-2=0.5`; 1 for those not named."""
    project_priorities: str = variable("HONE_PROJECT_PRIORITIES", "")
    """Which projects go first, such as `prj-1=1,prj-2=-1`; 0 for those not named. While a project of a higher priority
    has work, that of lower ones waits, however long: meant for work that is in no hurry."""
    memory_bytes: int | None = variable("HONE_MEMORY_BYTES", None)
    """What both processes may take together, base models included. What is left beside them is divided: a quarter for
    the activations of a training pass (which computes layers again rather than take more), a quarter for keys and
    values of sequences and prefixes, three eighths for adapters in training, an eighth for sampler versions. Request
    bodies have a limit of their own. Unset: three quarters of the machine's memory, or of the container's."""
    adapter_bytes: int | None = variable("HONE_ADAPTER_BYTES", None)
    """Adapters in training, with moments and gradients, that the engine keeps in memory. The least recently used ones
    wait in their snapshots and are loaded when work comes; work for more than fit takes turns. Unset: its share of
    HONE_MEMORY_BYTES."""
    loaded_versions: int | None = variable("HONE_LOADED_VERSIONS", None)
    """Sampler versions kept in the engine's memory; others are read from disk when they are next sampled from. Unset:
    64, or as many as fit into their share of HONE_MEMORY_BYTES."""
    cache_bytes: int | None = variable("HONE_CACHE_BYTES", None)
    """Keys and values of what is being sampled and of beginnings that may come again, for each base model. When it is
    full, the youngest samples wait and are computed again later; a prompt that is longer than all of it is refused.
    More than 131,072 tokens take (1,048,576 on a GPU), or one whole context if that is longer, is not used. Unset: its
    share of HONE_MEMORY_BYTES."""
    silent_session_hours: float = variable("HONE_SILENT_SESSION_HOURS", 24.0 * 3)
    """A session whose client has not been heard from for this long is finished; its checkpoints stay."""
    max_waiting_samples: int = variable("HONE_MAX_WAITING_SAMPLES", 10_000)
    """Sample requests under way at once; clients are asked to hold back what comes on top. Each holds some memory."""
    result_grace_seconds: float = variable("HONE_RESULT_GRACE_SECONDS", 30.0)
    """How long a finished result stays in memory; after that it is read from the database."""
    result_retention_hours: float = variable("HONE_RESULT_RETENTION_HOURS", 24.0 * 7)
    """How long results can be retrieved at all."""
    checked_parameters: int = variable("HONE_CHECKED_PARAMETERS", 2_000_000_000)
    """Exports are compared with what transformers computes, for base models of at most so many parameters: that loads
    the model once more, in a process of its own, and takes seconds. 0: none are."""
    publish_tokenizers: bool = variable("HONE_PUBLISH_TOKENIZERS", True)
    """Lay the served models' tokenizers into the local Hugging Face cache, where clients on this machine find them."""
    jwt_auth: bool = variable("HONE_JWT_AUTH", False)
    """Have clients exchange their key for tokens of one hour, which `tinker auth whoami` can read."""
    prices: str | None = variable("HONE_PRICES", None)
    """What work costs in US dollars: JSON, or a file of it, `{"<model or *>": {"training": 0.4, "prefill": 0.1,
    "cached_prefill": 0.01, "sample": 0.4, "storage": 0.03}}`, per million tokens and per gigabyte and month.
    Limits on spending have no effect on what has no price."""
    otel: bool = variable("HONE_OTEL", False)
    """Send OpenTelemetry spans of requests and operations, as OTLP over HTTP. Needs `hone[otel]`; the library's own
    variables, such as OTEL_EXPORTER_OTLP_ENDPOINT, say where to."""
    log_level: str = variable("HONE_LOG_LEVEL", "INFO")
    """DEBUG, INFO, WARNING or ERROR."""


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    given = {}
    for entry in fields(Settings):
        text = environment.get(entry.metadata["name"], "")
        if text:
            given[entry.name] = _convert(entry.metadata["name"], text, str(entry.type), entry.default)
    given.setdefault("api_key", environment.get("TINKER_API_KEY") or None)
    settings = Settings(**given)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """What would otherwise fail late, or be ignored."""
    for name, value, allowed in (
        ("HONE_SQLITE_SYNCHRONOUS", settings.sqlite_synchronous.upper(), ("NORMAL", "FULL", "EXTRA")),
        ("HONE_LOG_LEVEL", settings.log_level.upper(), ("DEBUG", "INFO", "WARNING", "ERROR")),
    ):
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
    if settings.dtype not in ("auto", "float32", "bfloat16"):
        raise UserError(f"HONE_DTYPE is {settings.dtype!r}; it must be auto, float32 or bfloat16")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", settings.device):
        raise UserError(f"HONE_DEVICE is {settings.device!r}; it must be auto, cpu, cuda or cuda:1")
    for name, least in (("adapter_bytes", 1), ("loaded_versions", 1)):
        if (found := getattr(settings, name)) is not None and found < least:
            raise UserError(f"HONE_{name.upper()} is {found}; it must be at least {least}")
    if settings.threads is not None and settings.threads < 1:
        raise UserError(f"HONE_THREADS is {settings.threads}; it must be at least 1")
    if settings.training_threads is not None and settings.training_threads < 1:
        raise UserError(f"HONE_TRAINING_THREADS is {settings.training_threads}; it must be at least 1")
    if settings.database_url is not None and "://" not in settings.database_url:
        raise UserError(
            f"HONE_DATABASE_URL is {settings.database_url!r}; it must be a URL, such as postgresql://HOST/NAME"
        )
    project_weights(settings)
    project_priorities(settings)


def project_weights(settings: Settings) -> dict[str, float]:
    weights = {project: _number(float, text) for project, text in _by_project(settings.project_weights)}
    for project, weight in weights.items():
        if not project or weight is None or not 0 < weight < math.inf:
            found = settings.project_weights
            raise UserError(f"HONE_PROJECT_WEIGHTS is {found!r}; it must be like PROJECT=2, with numbers above 0")
    return {project: weight for project, weight in weights.items() if weight is not None}


def project_priorities(settings: Settings) -> dict[str, int]:
    priorities = {project: _number(int, text) for project, text in _by_project(settings.project_priorities)}
    if "" in priorities or None in priorities.values():
        found = settings.project_priorities
        raise UserError(f"HONE_PROJECT_PRIORITIES is {found!r}; it must be like PROJECT=-1, with whole numbers")
    return {project: priority for project, priority in priorities.items() if priority is not None}


def _by_project(text: str) -> Iterator[tuple[str, str]]:
    for entry in filter(None, text.split(",")):
        project, _, value = entry.partition("=")
        yield project.strip(), value


NumberT = TypeVar("NumberT", int, float)


def _number(kind: Callable[[str], NumberT], text: str) -> NumberT | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _convert(name: str, text: str, kind: str, default: object) -> Any:
    try:
        if isinstance(default, bool):
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        if "Path" in kind:
            return Path(text)
        if "int" in kind:
            return int(text)
        if "float" in kind:
            return float(text)
    except (ValueError, KeyError):
        wanted = "1, true, 0 or false" if isinstance(default, bool) else "a number"
        raise UserError(f"{name} is {text!r}; it must be {wanted}") from None
    return text
