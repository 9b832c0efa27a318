"""Measuring beside other systems: ratios, missing features, the page. The systems are stand-ins with known times."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import worker
from benchmarks.peers.measure import lacks, measure_chapter, measure_row, measure_starts
from benchmarks.peers.results import Report, Result, read_report, write_report
from benchmarks.peers.rows import CHAPTERS, Chapter, Row
from benchmarks.peers.systems import OURS, SYSTEMS
from benchmarks.peers.table import page
from benchmarks.peers.work import Publish, Sample, Setting, Train, Work, dumps, loads


@dataclass
class Timed:
    """Answers with the given seconds, one after another; the last one again and again."""

    seconds: list[float]
    cannot: str = ""
    start_seconds: float = 2.0
    done: list[Work] = field(default_factory=list)
    closed: bool = False
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1

    def run(self, work: Work) -> dict[str, Any]:
        self.done.append(work)
        if self.cannot:
            return {"cannot": self.cannot}
        return {"seconds": self.seconds[min(len(self.done) - 1, len(self.seconds) - 1)]}

    def memory(self) -> dict[str, Any]:
        return {"cannot": self.cannot} if self.cannot else {"megabytes": 100.0 * len(self.seconds)}

    def close(self) -> None:
        self.closed = True


ROW = Row("4 x 8 tokens", Train(4, 8))
CHAPTER = Chapter("Training", Setting(), (ROW, Row("published", Publish())))


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # a phase in which everything is slow, and a round in which only one of them is disturbed
    warm = 9.0
    ours, theirs = Timed([warm, 1.0, 10.0, 1.0]), Timed([warm, 2.0, 20.0, 50.0])
    result = measure_row(CHAPTER, ROW, {"hone": ours, "trl": theirs}, 3, 60.0)
    assert result.values == {"hone": [1.0, 10.0, 1.0], "trl": [2.0, 20.0, 50.0]}
    assert result.ratio("trl") == 2.0
    assert result.shown("hone") == 32.0  # tokens in a median second


def test_rounds_end_early_but_not_before_three() -> None:
    result = measure_row(CHAPTER, ROW, {"hone": Timed([1.0])}, 50, 0.0)
    assert len(result.values["hone"]) == 3


def test_whoever_is_slow_is_in_the_first_round_only() -> None:
    ours, theirs = Timed([1.0, 2.0, 4.0, 4.0]), Timed([300.0, 100.0])
    result = measure_row(CHAPTER, ROW, {"hone": ours, "skyrl": theirs}, 3, 60.0)
    assert result.values == {"hone": [2.0, 4.0, 4.0], "skyrl": [100.0]}
    assert result.ratio("skyrl") == 50.0


def test_what_a_system_cannot_do_is_said_and_the_others_go_on() -> None:
    systems = {"hone": Timed([1.0]), "trl": Timed([], cannot="fails with KeyError: x")}
    results = measure_chapter(CHAPTER, systems, {"vllm": "vLLM did not start"}, 3, 60.0)
    assert [r.name for r in results] == ["4 x 8 tokens", "published", "resident memory afterwards"]
    assert all(r.missing["vllm"] == "vLLM did not start" for r in results)
    assert results[0].missing["trl"] == "fails with KeyError: x"
    assert "trl" not in results[0].values
    assert results[2].missing["trl"] == "fails with KeyError: x"
    assert len(systems["trl"].done) == 1  # what it is known to lack it is never asked


def test_starts_are_counted_from_nothing() -> None:
    launched: list[Timed] = []

    def launch() -> Timed:
        launched.append(Timed([3.0]))
        return launched[-1]

    def broken() -> Timed:
        raise OSError("no such program")

    slow = Timed([3.0], start_seconds=70.0)
    ready, stepped, memory = measure_starts({"hone": launch, "vllm": broken, "skyrl": lambda: slow}, 2)
    assert ready.values == {"hone": [2.0, 2.0], "skyrl": [70.0]}
    assert ready.ratio("skyrl") == 35.0
    assert all(2.0 <= s < 3.0 for s in stepped.values["hone"])  # by our clock: the stand-in takes no time
    assert memory.values == {"hone": [100.0, 100.0], "skyrl": [100.0]}
    assert ready.missing == {"vllm": "no such program"}
    assert all(system.closed for system in launched)


def test_measured_again_replaces_the_row_in_its_place(tmp_path: Path) -> None:
    report = Report(results=[Result("A", "x", "s"), Result("A", "y", "s")])
    report.add([Result("A", "x", "s", values={"hone": [1.0]}), Result("B", "x", "s")])
    assert [(r.chapter, r.name, bool(r.values)) for r in report.results] == [
        ("A", "x", True),
        ("A", "y", False),
        ("B", "x", False),
    ]
    write_report(report, tmp_path / "results.json")
    assert read_report(tmp_path / "results.json") == report
    assert read_report(tmp_path / "none.json") == Report()


def test_the_page_says_where_we_lose_and_what_is_missing() -> None:
    rows = [
        Result("Training", "fast", "tokens/s", 100, {"hone": [1.0], "skyrl": [4.0]}, {"trl": "it sleeps"}),
        Result("Training", "slow", "ms", None, {"hone": [0.002], "skyrl": [0.001]}, {"trl": "it sleeps"}),
    ]
    text = page(Report(results=rows, conditions={"Training": "At noon"}))
    assert "## Training\n\nAt noon.\n" in text
    assert "| fast | tokens/s | 100 | [1] | 25 (4.00 x) |" in text
    assert "| slow | ms | 2 | [1] | 1 (**0.50 x**) |" in text
    assert text.count("it sleeps") == 1
    assert "| Hone | SkyRL tx | 2 | 1 | 1 | 0.50, 4.00, 4.00 |" in text


def test_beside_a_library_stand_the_ratios_of_server_and_engine() -> None:
    seconds = {"hone": [4.0], "hone-engine": [1.0], "trl": [2.0], "skyrl": [8.0]}
    text = page(Report(results=[Result("Training", "step", "tokens/s", 100, seconds)]))
    assert "|  | unit | Hone | Hone, engine alone | TRL | SkyRL tx |" in text
    assert "| step | tokens/s | 25 | 100 | 50 (**0.50 x**, engine 2.00 x) | 12.5 (2.00 x) |" in text
    assert "| Hone | TRL | 1 | 0 | 0 | 0.50, 0.50, 0.50 |" in text
    assert "| Hone, engine alone | TRL | 1 | 1 | 0 | 2.00, 2.00, 2.00 |" in text
    assert "| Hone, engine alone | SkyRL tx |" not in text


def test_growth_is_against_the_first_size() -> None:
    rows = [
        Result("Training", f"{n} x 128 tokens", "tokens/s", n * 128, {"hone": [n / 4], "skyrl": [1.0]})
        for n in (4, 16, 64)
    ]
    text = page(Report(results=rows))
    assert "| tokens (sequences of 128) | 512 / 2,048 / 8,192 | 1.0 / 4.0 / 16.0 |" in text


@pytest.mark.parametrize("work", [Train(2, 3, 4), Sample(1, 2, 3, 4, 5), Publish()])
def test_work_is_the_same_after_its_way_to_another_process(work: Work) -> None:
    assert loads(dumps(work)) == work


def test_everybody_gets_the_same_tokens_and_prompts_are_new_each_time() -> None:
    assert np.array_equal(Train(2, 8).batch(3), Train(2, 8, 16).batch(3))
    assert not np.array_equal(Train(2, 8).batch(0), Train(2, 8).batch(1))
    assert not np.array_equal(Sample(2, 1, 8, 4).prompts(0), Sample(2, 1, 8, 4).prompts(1))
    assert Train(2, 8).batch(0).shape == (2, 9)


def test_rows_have_names_of_their_own_and_settings_that_suffice() -> None:
    for chapter in CHAPTERS.values():
        names = [row.name for row in chapter.rows]
        assert len(set(names)) == len(names)
        assert all(getattr(row.work, "tenants", 1) <= chapter.setting.tenants for row in chapter.rows)
    titles = [chapter.title for chapter in CHAPTERS.values()]
    assert len(set(titles)) == len(titles)


def test_every_system_has_a_module_and_requirements() -> None:
    peers = Path(__file__).parents[3] / "benchmarks" / "peers"
    for name, about in SYSTEMS.items():
        assert (peers / "systems" / f"{about.module}.py").exists()
        assert name in OURS or (peers / "requirements" / f"{about.module}.txt").exists()


def test_what_a_system_lacks_is_not_asked_of_it() -> None:
    vllm = Timed([1.0])
    result = measure_row(CHAPTER, ROW, {"hone": Timed([1.0]), "vllm": vllm}, 3, 60.0)
    assert result.missing == {"vllm": "vLLM samples only"}
    assert not vllm.done
    assert lacks("trl", Train(4, 8, tenants=2)) == "TRL trains one adapter"
    assert lacks("trl", Train(4, 8)) is None


@dataclass
class Quick:
    """A system that counts what it does."""

    pid: int = 0
    steps: int = 0
    seeds: list[int] = field(default_factory=list)

    def train(self, work: Train) -> float:
        self.steps += 1
        return 0.1

    def sample(self, work: Sample, seed: int) -> None:
        self.seeds.append(seed)

    def publish(self, work: Publish) -> float:
        return 0.01

    def close(self) -> None: ...


def test_a_step_is_repeated_and_its_mean_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOKING_SECONDS", 0.0)
    quick = Quick()
    assert worker.run(quick, Train(1, 8), 0) == pytest.approx(0.1)
    assert quick.steps == 1, "what warms up is done once"
    assert worker.run(quick, Train(1, 8), 1) == pytest.approx(0.1)
    assert quick.steps == 4
    assert worker.run(quick, Publish(), 2) == 0.01
    assert worker.run(quick, Sample(1, 1, 4, 4), 3) < 0.1
    assert quick.seeds == [3], "another prompt each time"
