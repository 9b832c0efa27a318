from hone.observe.metrics import Counter, Gauge, Histogram, count_operation, exposition


def test_counters_by_label() -> None:
    counter = Counter("x_total", "x")
    counter.add(kind="a")
    counter.add(2, kind="a")
    counter.add(kind='quo"te\\\n')
    assert counter.value(kind="a") == 3
    assert list(counter.lines()) == ['x_total{kind="a"} 3', 'x_total{kind="quo\\"te\\\\\\n"} 1']


def test_gauges_are_set() -> None:
    gauge = Gauge("x", "x")
    gauge.set(3)
    gauge.set(2)
    assert list(gauge.lines()) == ["x{} 2"]


def test_histograms_count_up() -> None:
    histogram = Histogram("x", "x", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value, route="/")
    assert list(histogram.lines()) == [
        'x_bucket{route="/",le="0.1"} 2',
        'x_bucket{route="/",le="1.0"} 3',
        'x_bucket{route="/",le="+Inf"} 4',
        'x_sum{route="/"} 7.65',
        'x_count{route="/"} 4',
    ]


def test_operations_and_their_tokens_are_on_the_page() -> None:
    count_operation("test_kind", True, {})
    count_operation("test_kind", False, {"sample": 5, "checkpoint": 1})
    page = exposition()
    assert 'hone_operations_total{kind="test_kind",outcome="failed"} 1\n' in page
    assert 'hone_operations_total{kind="test_kind",outcome="succeeded"} 1\n' in page
    assert 'hone_tokens_total{kind="sample"}' in page
    assert 'kind="checkpoint"' not in page
    assert "# TYPE hone_request_seconds histogram\n" in page
    assert page.endswith("\n")
