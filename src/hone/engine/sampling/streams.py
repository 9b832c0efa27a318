"""Uniform numbers by seed and index: counter-based, so they depend on nothing else."""

import numpy as np

PROMPT_STREAM = 2**64 - 1
"""The index of the draws in the place of prompt tokens; samples have the indices from 0."""


def uniform_stream(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed & (2**64 - 1), index], np.uint64)))
