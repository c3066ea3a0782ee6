"""How a query is read: its series, its labels, and how many elements it answers."""

import pytest

from manifests.check import promql


def test_every_series_is_found_with_its_matchers() -> None:
    query = """
        clamp_min(sum by (pod, le) (rate(a_total{x="1,}", y=~"p|q"}[5m] offset 1h))
        / on (pod) group_left (node) b, 0) > 14.4 * 1e-2
        unless avg without (z) (max_over_time(c:d:rate1m[30m:10s])) or vector(0)
    """
    found = promql.selectors(query)
    assert [each.metric for each in found] == ["a_total", "b", "c:d:rate1m"]
    assert found[0].matchers == [promql.Matcher("x", "=", "1,}"), promql.Matcher("y", "=~", "p|q")]
    assert found[0].matchers[1].alternatives == ["p", "q"]
    assert promql.grouping_labels(query) == {"pod", "le", "node", "z"}


@pytest.mark.parametrize(
    ("query", "single"),
    [
        ("sum(a)", True),
        ("-sum(a)", True),
        ("(count(a) or vector(0))", True),
        ("clamp_min(sum(a) - 0.7 * clamp_max(count(b) or vector(0), 1), 0)", True),
        ("sum(max by (model) (a)) + max(b)", True),
        ("a", False),
        ("sum by (pod) (a)", False),
        ("sum(a) by (pod)", False),
        ("sum(a) + b", False),
        ("clamp_min(a, 0)", False),
        ("rate(a[1m])", False),
        ("0.7", False),  # a scalar, which KEDA cannot read
    ],
)
def test_an_aggregate_over_everything_answers_one_element(query: str, single: bool) -> None:
    assert promql.answers_one_element(query) is single


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "it is empty"),
        ("sum(a", r"a \( is not closed"),
        ("a]5m[", "brackets are crossed"),
        ("sum(a) ; b", "; b' is not understood"),
        ('{job="x"}', "no metric name"),
        ("a{job}", "no list of matchers"),
    ],
)
def test_what_is_no_query_says_why(query: str, said: str) -> None:
    with pytest.raises(promql.PromqlError, match=said):
        promql.selectors(query)
