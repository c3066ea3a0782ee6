"""Traces: what is read, and what is refused, by line."""

import json
from pathlib import Path

import pytest

from loadtest.bench.errors import BenchError
from loadtest.replay import trace_document
from loadtest.trace import TracedRequest, read_trace

REQUESTS = [
    TracedRequest(time_s=0.0, tokens=12, tier="bulk"),
    TracedRequest(time_s=0.5),
    TracedRequest(time_s=2.0, tokens=7),
]
CSV = "time_s, tokens, tier\n102,7,\n100,12,bulk\n100.5,,\n"
NDJSON = """{"time_s": 102, "tokens": 7}

{"time_s": 100, "tokens": 12, "tier": "bulk"}
{"time_s": 100.5}
"""


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("a.ndjson", NDJSON), ("a", NDJSON)])
def test_csv_and_ndjson_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_trace(path) == REQUESTS


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.csv", "time_s\n1\nsoon\n", r"line 3: .*time_s"),
        ("a.csv", "time_s,tokens\n1,0\n", r"line 2: .*tokens"),
        ("a.csv", "time_s\n1,2\n", "line 2: more values"),
        ("a.csv", "time_s,tokens\n,3\n", r"line 2: .*time_s"),
        ("a.csv", "when\n1\n", "line 1: the header must be time_s"),
        ("a.csv", "time_s\n", "has no request"),
        ("a.csv", "", "line 1: the header"),
        ("a.ndjson", '{"time_s": 1}\n{"time_s": }\n', "line 2: not JSON"),
        ("a.ndjson", '{"time_s": "1"}\n', r"line 1: .*time_s"),
        ("a.ndjson", '{"time_s": -1}\n', r"line 1: .*time_s"),
        ("a.ndjson", '{"time_s": 1, "size": 2}\n', r"line 1: .*size"),
        ("a.ndjson", "[1]\n", "line 1: "),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BenchError, match=complaint):
        read_trace(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"absent\.csv cannot be read: No such file"):
        read_trace(tmp_path / "absent.csv")


def test_k6_is_told_only_what_is_known() -> None:
    assert json.loads(trace_document(REQUESTS)) == [
        {"at_s": 0.0, "tokens": 12, "tier": "bulk"},
        {"at_s": 0.5},
        {"at_s": 2.0, "tokens": 7},
    ]
