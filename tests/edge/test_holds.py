"""An edge that spares the engine the refusals it can foresee."""

from typing import Any

import pytest

from predictor.core import errors
from predictor.core.facts import EdgeRefused
from predictor.core.rows import Outcome
from predictor.edge.holds import MAX_SHARE_OF_SLO, Holds
from predictor.edge.http import EdgeApp
from predictor.edge.service import InferService
from predictor.engine.port import Submission
from tests.edge.asgi import ids_input, infer, nothing_here
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import SIMULATED, FakeEngine

KIND = ("sim", None, None)


def test_a_refusal_holds_for_about_as_long_as_it_took() -> None:
    holds = Holds()
    assert not holds.holds(KIND, 10.0)
    holds.shed(KIND, took_s=0.001, slo_s=0.1, now_s=10.0)
    assert holds.holds(KIND, 10.0019)
    assert not holds.holds(("other", None, None), 10.0)
    assert not holds.holds(KIND, 10.0021)


def test_it_never_holds_so_long_that_the_queue_could_run_dry() -> None:
    holds = Holds()
    holds.shed(KIND, took_s=5.0, slo_s=0.1, now_s=10.0)
    assert not holds.holds(KIND, 10.0 + MAX_SHARE_OF_SLO * 0.1)


class SlowEngine(FakeEngine):
    """Every submission takes it a second, on a clock that stands still otherwise."""

    now_s = 100.0
    tightest_slo_s = 3600.0

    def note(self, submission: Submission) -> None:
        super().note(submission)
        self.now_s += 1.0


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine({"sim": SIMULATED})


@pytest.fixture
def clocked(engine: SlowEngine) -> EdgeApp:
    service = InferService(engine, ("sim",), MAX_ROWS, lambda: engine.now_s)
    return EdgeApp(service, nothing_here, MAX_BODY_BYTES)


async def test_the_next_ones_are_refused_without_asking(
    clocked: EdgeApp, engine: SlowEngine
) -> None:
    engine.refuse = errors.Shed("it would miss its deadline")
    first = await infer(clocked, "sim", {"inputs": [ids_input(1)]})
    engine.refuse = None
    held = await infer(clocked, "sim", {"inputs": [ids_input(1)]})
    assert (first.status, held.status) == (429, 429)
    assert held.headers["retry-after"] == "1"
    assert engine.refusals == [EdgeRefused("sim", "http", Outcome.SHED)]
    assert len(engine.submissions) == 1
    engine.now_s += 2.0
    after = await infer(clocked, "sim", {"inputs": [ids_input(1)]})
    assert after.status == 200


ROWS = {"name": "input_ids", "datatype": "INT64", "shape": [2, 1], "data": [1, 2]}
MASK = {"name": "attention_mask", "datatype": "INT64", "shape": [2, 1], "data": [1, 1]}


@pytest.mark.parametrize(
    "request_body",
    [
        pytest.param(
            {"inputs": [ids_input(1)], "parameters": {"timeout": 10_000_000}}, id="timeout"
        ),
        pytest.param({"inputs": [ROWS, MASK]}, id="two rows"),
        pytest.param({"inputs": [ids_input(1)], "parameters": {"priority": 2}}, id="another tier"),
    ],
)
async def test_a_refusal_that_says_nothing_of_others_holds_nobody(
    clocked: EdgeApp, engine: SlowEngine, request_body: dict[str, Any]
) -> None:
    engine.refuse = errors.Shed("it would miss its deadline")
    refused = await infer(clocked, "sim", request_body)
    engine.refuse = None
    served = await infer(clocked, "sim", {"inputs": [ids_input(1)]})
    assert (refused.status, served.status) == (429, 200)
