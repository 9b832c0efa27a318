"""In which order this machine's math library adds, found without the code that depends on it."""

import torch

HUGE = 2.0**80
"""Hides every one that is added to it."""


def adds_in_chains() -> bool:
    """Whether products are chains over their inputs that are cut at 192, as `hone.engine.native` knows them. On a
    machine where they are not, nothing is served in C, and its tests have nothing to compare."""
    return all(_left(inputs, last) == inputs - covered for inputs, last, covered in _CHAINS)


_CHAINS = ((128, 1, 2), (128, 64, 65), (128, 127, 128), (384, 100, 101), (384, 191, 192), (384, 192, 384))
"""Inputs; where a huge number that stands first is taken away again; how many terms have been added by then."""


def _left(inputs: int, last: int) -> int:
    """Of so many ones, those that are added after the huge number is gone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x = torch.ones(4, inputs)
    x[:, 0], x[:, last] = HUGE, -HUGE
    left = int(x.mm(torch.ones(256, inputs).t())[0, 0])
    torch.set_num_threads(threads)
    return left
