"""The page as a reader and a browser have it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hone.experiments.conclusion import conclude
from hone.experiments.report import write_report
from hone.experiments.report.page import render
from tests.support.experiment_records import HOSTILE, arm, failed_arm, measurement, record, showcase

VOID = {"meta", "img", "br", "link", "input", "hr"}
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


class Page(HTMLParser):
    """Elements, their text, and whether they are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def html() -> str:
    return render(showcase())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_element_is_closed_where_it_should_be(page: Page) -> None:
    assert page.open == []


def test_it_needs_nothing_else(html: str, page: Page) -> None:
    for _, attributes in page.elements:
        assert not {"src", "srcset", "href", "action", "data"} & attributes.keys()
    assert not re.search(r"url\(|@import|https?://", html)
    assert len(html) < 120_000


def test_every_part_is_there(page: Page) -> None:
    for part in (
        "DPO beats SFT",
        "95 % interval corrected for 4 candidates",
        "Caveats",
        "What to try next",
        "Groups beside each other",
        "Learning curves",
        "Over algorithm.params.lr",
        "What differs between the groups",
        "Forgetting",
        "Ledger of openings",
        "three rows are the names of months",
        "Answers before and after training",
        "the loss was not a number",
        "algorithm.params.lr (log)",
        "a hosted model",
        "11.9",
        "8d9f0e",
        "tokens 1000000",
        "Cost per task",
    ):
        assert part in page.text, part


def test_nothing_that_a_model_said_is_run(html: str, page: Page) -> None:
    assert HOSTILE in "".join(page.words)
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "script-src 'sha256-" in policy
    assert "default-src 'none'" in policy


def test_names_and_reasons_are_escaped_everywhere() -> None:
    hostile = [
        arm(HOSTILE, measurement([0.4] * 9, step=0), measurement([0.5] * 9), cell={HOSTILE: 1}, tags=[HOSTILE]),
        arm("b", measurement([0.1] * 9), cell={HOSTILE: 2}),
        failed_arm("c", HOSTILE),
    ]
    text = render(record(hostile, config={"hypothesis": HOSTILE, HOSTILE: HOSTILE}, code={HOSTILE: HOSTILE}))
    assert len(Page(text).all("script")) == 1
    assert "<img" not in text


def test_tables_and_charts_say_what_they_are(page: Page) -> None:
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    drawn = [one for one in page.all("svg") if one.get("aria-hidden") != "true"]
    assert len(drawn) == 3
    assert all(one["role"] == "img" and one["aria-label"] for one in drawn)
    assert page.all("html")[0]["lang"] == "en"


def test_the_chosen_arm_stands_out_and_failed_ones_come_last(html: str) -> None:
    best = conclude(showcase()).best
    assert best is not None
    assert re.search(rf'<tr class="chosen">\s*<th scope="row">{re.escape(best.arm)} ', html)
    assert html.index("sft-lr1e-05-s0</th>") < html.index("grpo-lr0.01-s0</th>")


def test_the_same_record_gives_the_same_bytes(html: str, tmp_path: Path) -> None:
    write_report(showcase(), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text() == html


def test_a_recorded_conclusion_is_shown_as_it_stands() -> None:
    kept = conclude(showcase()).model_copy(update={"reason": "As it was said then, with `code`."})
    shown = render(showcase().model_copy(update={"conclusion": kept.model_dump(mode="json")}))
    assert "As it was said then, with <code>code</code>." in shown


@pytest.mark.parametrize(
    "experiment",
    [
        record([]),
        record([], metric=None),
        record([failed_arm("a")]),
        record([arm("a", measurement([0.5]))]),
        record([arm("a", measurement([1.0] * 5)), arm("b", measurement([1.0] * 5))]),
        record([arm("a", training="waiting", evaluation="waiting")], status="running"),
    ],
)
def test_little_is_shown_too(experiment: object) -> None:
    assert Page(render(experiment)).open == []  # type: ignore[arg-type]


def browse(page: Path, home: Path) -> str:
    """What the page has become once its scripts ran."""
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={home}",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no browser is installed")
def test_in_a_browser_it_sorts_and_runs_nothing_else(html: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(html, encoding="utf-8")
    assert "<title>three-methods: supported</title>" in browse(page, tmp_path / "a")

    click = """<script>
      const table = document.querySelector("table.sortable");
      const first = () => table.tBodies[0].rows[0].cells[0].textContent.trim().split(" ")[0];
      const metric = table.tHead.querySelectorAll("button")[2];
      metric.click(); const low = first(); metric.click();
      document.title = low + " " + first() + " " + metric.closest("th").getAttribute("aria-sort");
    </script></body>"""
    page.write_text(html.replace("</body>", click), encoding="utf-8")
    assert "<title>three-methods: supported</title>" in browse(page, tmp_path / "b")  # the policy lets none in
    page.write_text(re.sub(r"<meta http-equiv.*?>", "", html).replace("</body>", click), encoding="utf-8")
    title = re.search("<title>(.*?)</title>", browse(page, tmp_path / "c"))
    assert title is not None
    low, high, order = title[1].split()
    assert (low.startswith("sft-lr1e-05"), high.startswith("dpo-lr0.001"), order) == (True, True, "descending")
