"""Several engines in one exposition, read by the library's own parsers."""

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from predictor.core.facts import EdgesConnected, EdgeTimed, ProcessRestarted, Settled
from predictor.core.parameters import TierParameters
from predictor.core.rows import Outcome
from predictor.metrics.exposition import EMPTY_SNAPSHOT
from predictor.metrics.merging import merged
from predictor.metrics.observer import PrometheusObserver

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def exposition(requests: int, accept: str) -> bytes:
    observer = PrometheusObserver(
        lambda: EMPTY_SNAPSHOT, ['a"b'], lambda: {"fast": TierParameters(priority=1)}
    )
    for _ in range(requests):
        observer.observe(Settled('a"b', "fast", Outcome.OK, 1, 0.01))
        observer.observe(EdgeTimed('a"b', "http", 1e-3, 1e-3, 1e-3))
    observer.observe(EdgesConnected(2))
    observer.observe(ProcessRestarted("edge", 3))
    return observer.exposition(accept)[0]


def test_each_series_says_whose_it_is() -> None:
    for accept, parse in (("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)):
        alone = list(parse(exposition(2, accept).decode()))
        both = list(
            parse(merged({"0": exposition(2, accept), "1": exposition(5, accept)}).decode())
        )
        assert [family.name for family in both] == [family.name for family in alone]
        for family, of_one in zip(both, alone, strict=True):
            assert (family.type, family.documentation) == (of_one.type, of_one.documentation)
            assert len(family.samples) == 2 * len(of_one.samples)
            for engine in ("0", "1"):
                labels = [s.labels for s in family.samples if s.labels["engine"] == engine]
                assert labels == [{**s.labels, "engine": engine} for s in of_one.samples]
        served = {
            sample.labels["engine"]: sample.value
            for family in both
            for sample in family.samples
            if sample.name == "headway_requests_total" and sample.labels["outcome"] == "ok"
        }
        assert served == {"0": 2.0, "1": 5.0}


def test_a_family_that_one_engine_lacks() -> None:
    body = merged(
        {"0": b"# TYPE a gauge\na 1\n# TYPE c gauge\nc 3\n", "1": b'# TYPE b gauge\nb{x="{"} 2\n'}
    )
    assert body.decode().splitlines() == [
        *("# TYPE a gauge", 'a{engine="0"} 1', "# TYPE c gauge", 'c{engine="0"} 3'),
        *("# TYPE b gauge", 'b{engine="1",x="{"} 2'),
    ]
