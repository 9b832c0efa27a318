"""What is measured. A chapter's systems run side by side, started for it with one setting."""

from dataclasses import dataclass

from benchmarks.peers.work import Publish, Sample, Setting, Train, Work


@dataclass(frozen=True)
class Row:
    name: str
    work: Work


@dataclass(frozen=True)
class Chapter:
    title: str
    setting: Setting
    rows: tuple[Row, ...]


def _train(sequences: int, length: int, tenants: int = 1) -> Row:
    who = f"{tenants} tenants, each " if tenants > 1 else ""
    return Row(f"{who}{sequences} x {length} tokens", Train(sequences, length, tenants))


def _tenants(count: int) -> Chapter:
    """Sampling with a fixed batch, since some compile every other size anew. What takes longest comes last: whoever
    takes too long is ended."""
    sampled = Row(f"{count} adapters, a prompt of 64 each, 64 new tokens", Sample(count, 1, 64, 64, count))
    rows = (sampled, _train(1, 64, count), _train(4, 128, count))
    return Chapter(f"{count} tenants", Setting(tenants=count, sampled_together=count), rows)


def _rank(rank: int) -> Chapter:
    return Chapter(f"Training, rank {rank}", Setting(rank=rank), (_train(8, 128),))


CHAPTERS = {
    "sampling": Chapter(
        "Sampling, one prompt",
        Setting(),
        (
            Row("1 sequence, 64 new tokens", Sample(1, 1, 64, 64)),
            Row("1 sequence, 256 new tokens", Sample(1, 1, 64, 256)),
            Row("4 sequences, 64 new tokens", Sample(1, 4, 64, 64)),
            Row("16 sequences, 64 new tokens", Sample(1, 16, 64, 64)),
            Row("64 sequences, 64 new tokens", Sample(1, 64, 64, 64)),
            Row("a group of 16, prompt of 1,024", Sample(1, 16, 1024, 64)),
            Row("published, to the first token of the new weights", Publish()),
        ),
    ),
    "prompts": Chapter(
        "Sampling, 16 prompts at once",
        Setting(sampled_together=16),
        (Row("16 prompts of 64, 64 new tokens", Sample(16, 1, 64, 64)),),
    ),
    "training": Chapter(
        "Training, one adapter of rank 8",
        Setting(),
        (
            _train(1, 8),
            _train(1, 128),
            _train(4, 128),
            _train(16, 128),
            _train(64, 128),
            _train(4, 256),
            _train(4, 512),
            _train(4, 1024),
        ),
    ),
    **{f"tenants-{count}": _tenants(count) for count in (4, 16, 64)},
    **{f"rank-{rank}": _rank(rank) for rank in (8, 32, 64)},
}
