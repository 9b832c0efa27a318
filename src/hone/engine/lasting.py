"""Memory of a CPU for what lasts: adapters and sampler versions, each in a mapping of its own.

The allocator's heap keeps what is freed for the next step, which is what makes steps fast (see `remote.py`). What lasts
would lie there between what passes, and keep it apart: a thousand adapters took a tenth more than they hold. A mapping
goes back to the operating system as soon as nobody holds it, and pages that nobody has written to cost nothing: so the
moments of an adapter that never made a step.
"""

import mmap

import torch
from torch import Tensor

ALIGNED = 16
"""Numbers between possible starts of a vector, as the framework's own allocator has it."""
_POPULATE: int = getattr(mmap, "MAP_POPULATE", 0)


def zeros(count: int, size: int, at_once: bool = False) -> tuple[Tensor, ...]:
    """Float32 vectors of `size`, which is not 0, in one mapping. Its pages are there `at_once`, which is quicker for
    what is filled anyway, or when they are written to."""
    row = -(-size // ALIGNED) * ALIGNED
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (_POPULATE if at_once else 0)
    mapping = mmap.mmap(-1, 4 * count * row, flags=flags)
    return tuple(torch.frombuffer(mapping, dtype=torch.float32).view(count, row)[:, :size])


def copied(vector: Tensor) -> Tensor:
    """The same on a GPU in the framework's own way, which has no such heap."""
    if vector.device.type != "cpu" or vector.dtype != torch.float32:
        return vector.clone()
    (copy,) = zeros(1, len(vector), at_once=True)
    return copy.copy_(vector)
