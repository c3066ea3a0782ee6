"""What was learned, read back from metrics, and what the simulator makes of it."""

import pytest

from loadtest.bench.errors import BenchError
from loadtest.bench.scenarios.simulated import bound_per_s
from loadtest.bench.scrapes import Scrape
from loadtest.bench.servers import one_model_parameters
from loadtest.learned import Learned, learned_from
from loadtest.prediction import Traffic, predicted_capacity
from predictor.core.model import Step
from predictor.core.parameters import ModelParameters, PackingChoice, Policy
from predictor.core.rows import Packing
from predictor.metrics import names
from predictor.policy.service_time import ServiceTimeModel, Work
from predictor.policy.steps import SteppedServiceTime

MODEL = "sim"
DEVICE = Learned([ServiceTimeModel(Packing.PACKED, [5e-3, 0.0, 10e-6, 0.0])])


def scrape_of(*services: ServiceTimeModel) -> Scrape:
    samples = {}
    for service in services:
        labels = {("model", MODEL), ("packing", service.packing.value)}
        samples[names.SERVICE_MODEL_BATCHES.name, frozenset(labels)] = float(service.batches)
        for feature, value in service.weights.items():
            told = (
                names.SERVICE_MODEL_COEFFICIENT.name,
                frozenset(labels | {("feature", feature)}),
            )
            samples[told] = value
    return Scrape(samples)


def test_the_packing_in_use_decides() -> None:
    padded = ServiceTimeModel(Packing.PADDED, [8e-3, 20e-6, 0.0])
    learned = learned_from(scrape_of(*DEVICE.services, padded), MODEL)
    assert learned.for_batching(ModelParameters()).weights == DEVICE.services[0].weights
    forced = ModelParameters(packing=PackingChoice.PADDED)
    assert learned.for_batching(forced).weights == padded.weights


def test_steps_are_read_too() -> None:
    stepped = SteppedServiceTime([Step(64, 4), Step(256, 16)])
    for _ in range(3):
        stepped.learn(Work.alike(2, 20), 1e-3)
        stepped.learn(Work.alike(4, 50), 2e-3)
    (read,) = learned_from(scrape_of(stepped), MODEL).services
    for work in (Work.alike(1, 10), Work.alike(4, 60), Work.alike(20, 60)):
        assert read.predict_s(work) == pytest.approx(stepped.predict_s(work))


def test_a_server_without_a_model_is_said() -> None:
    with pytest.raises(BenchError, match="no service-time model of 'sim'"):
        learned_from(Scrape({}), MODEL)


def test_the_bound_is_that_of_the_benchmarks() -> None:
    assert DEVICE.bound_per_s(ModelParameters(), 88.3) == pytest.approx(bound_per_s(88.3), rel=1e-3)


def test_tokens_limit_the_bound() -> None:
    small = ModelParameters(max_batch_tokens=400)
    assert DEVICE.bound_per_s(small, 100.0) == pytest.approx(4 / (5e-3 + 4e-3))


@pytest.mark.parametrize("lengths", ["lognormal", "lognormal:30:0", "short", "mixed", "long"])
def test_lengths_have_the_mean_that_was_measured(lengths: str) -> None:
    traffic = Traffic(mean_tokens=88.0, lengths=lengths, even=True)
    tokens = [each.tokens for each in traffic.arrivals(1000.0, 10.0, MODEL, "interactive", 1)]
    assert len(tokens) == pytest.approx(10_000, abs=1)
    assert sum(tokens) / len(tokens) == pytest.approx(88.0, rel=0.05)


def test_a_prediction_lies_below_the_bound_and_the_best_policy_above() -> None:
    def capacity(batching: ModelParameters) -> float:
        return predicted_capacity(
            one_model_parameters(MODEL, batching, 250.0),
            MODEL,
            DEVICE,
            Traffic(mean_tokens=88.0),
            tier="interactive",
            slo_ms=100.0,
            seconds=10.0,
        ).rate_per_s

    adaptive = capacity(ModelParameters())
    small = capacity(ModelParameters(policy=Policy.CONSTANT, max_batch_size=4, max_wait_ms=50))
    assert 0 < small < adaptive < DEVICE.bound_per_s(ModelParameters(), 88.0)
