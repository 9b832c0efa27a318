import re
from dataclasses import replace
from pathlib import Path

from hone.cli.demo import report
from hone.cli.demo.results import Comparison
from tests.unit.cli.demo.test_results import demo


def test_the_page_stands_alone_and_escapes_what_models_say(tmp_path: Path) -> None:
    result = demo()
    odd = replace(result.stages[0].adapters[0], examples=(Comparison("q?", "<b>", "<script>", "<b>"),))
    result = replace(result, stages=(replace(result.stages[0], adapters=(odd,)), *result.stages[1:]))
    path = tmp_path / "deep" / "report.html"
    report.write(result, path)
    page = path.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page), "nothing is fetched"
    assert page.count("<svg") == 2
    for adapter in result.adapters:
        assert adapter.checkpoint in page
