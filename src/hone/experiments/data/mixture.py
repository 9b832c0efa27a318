"""The order of training rows: shuffled by a seed, and drawn from several sources by their weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]


def shuffled(keys: Keys, seed: int, epoch: int = 0) -> Indices:
    """The order of rows for a seed. `keys` are made of their contents: where in a file a row stands changes nothing."""
    word = _scrambled(np.array([seed % 2**64], dtype=np.uint64) + np.uint64(epoch))
    return np.argsort(_scrambled(keys ^ word), kind="stable").astype(np.int64)


def mixed(
    parts: Sequence[Indices], keys: Keys, weights: Sequence[float], draws: int, *, seed: int, shuffle: bool = True
) -> Indices:
    """The row of each draw. A source gives each of its rows once before it gives any again, in another order.

    Args:
        parts: For each source its rows, as indices into `keys`; none is empty.
    """
    turns = schedule(weights, draws, seed if shuffle else None)
    order = np.empty(draws, dtype=np.int64)
    for number, rows in enumerate(parts):
        wanted = int(np.count_nonzero(turns == number))
        epochs = range(-(-wanted // len(rows)))
        orders = [rows[shuffled(keys[rows], seed, epoch)] if shuffle else rows for epoch in epochs]
        order[turns == number] = np.concatenate([np.empty(0, dtype=np.int64), *orders])[:wanted]
    return order


def schedule(weights: Sequence[float], draws: int, seed: int | None) -> Indices:
    """The source of each draw. After any number of draws, a source has been drawn its share of times, to within a few.

    A source of share s is due every 1/s draws; when first is drawn from the seed, or without one is the middle.
    """
    shares = np.asarray(weights, dtype=np.float64) / sum(weights)
    first = np.full(len(shares), 0.5) if seed is None else np.random.default_rng(seed).random(len(shares))
    due, source = [], []
    for number, share in enumerate(shares):
        times = (np.arange(np.ceil(draws * share) + 1) + first[number]) / share
        due.append(times)
        source.append(np.full(len(times), number, dtype=np.int64))
    order = np.argsort(np.concatenate(due), kind="stable")[:draws]
    return np.concatenate(source)[order]


def _scrambled(keys: Keys) -> Keys:
    """Another number for each, every bit of it depending on every bit (the finaliser of SplitMix64: Steele, Lea and
    Flood 2014, "Fast splittable pseudorandom number generators")."""
    x = keys + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
