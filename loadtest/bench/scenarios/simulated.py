"""The simulated accelerator that the serving benchmarks share, and what it can do at best."""

from dataclasses import dataclass

from loadtest.bench.servers import ServerCommand, one_model_parameters
from predictor.core.parameters import ModelParameters, Policy

FIXED_MS = 5.0
TOKEN_US = 10.0
SLO_MS = 100.0
LARGEST_BATCH = 64
# The client's clock starts before the server's, and stops after all answers of a batch have
# been written, one after the other.
SERVER_SLO_MS = 85.0
# To find a capacity the server sheds later than the client demands: a burst then shows in
# p99, which is asked for, and not as a refusal, of which a single one would fail the run.
PATIENT_SLO_MS = 250.0
MODEL = "sim"
TYPICAL_TOKENS = 88.0  # mean of the lengths, for first guesses only


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to serve the simulated accelerator. `expected_ratio` is where to start looking."""

    label: str
    packed: bool
    batching: ModelParameters
    expected_ratio: float

    @property
    def expected_rate_per_s(self) -> float:
        return self.expected_ratio * bound_per_s(TYPICAL_TOKENS)

    def command(self, slo_ms: float = SERVER_SLO_MS) -> ServerCommand:
        return simulated_server(self.packed, self.batching, slo_ms=slo_ms)


def bound_per_s(mean_tokens: float) -> float:
    """Requests per second of a device that always runs full batches without padding."""
    return 1 / (FIXED_MS / 1e3 / LARGEST_BATCH + TOKEN_US / 1e6 * mean_tokens)


def simulated_server(
    packed: bool,
    batching: ModelParameters,
    *,
    fixed_ms: float = FIXED_MS,
    token_us: float = TOKEN_US,
    slo_ms: float = SERVER_SLO_MS,
) -> ServerCommand:
    return ServerCommand(
        module="predictor",
        model=MODEL,
        flags=(
            *("--task", "simulated", "--host", "127.0.0.1"),
            *("--simulated_fixed_ms", f"{fixed_ms:g}", "--simulated_token_us", f"{token_us:g}"),
            *("--simulated_packed", "true" if packed else "false"),
        ),
        parameters=one_model_parameters(MODEL, batching, slo_ms),
    )


def no_op_server() -> ServerCommand:
    """The whole predictor around a device that takes no time."""
    return simulated_server(True, ADAPTIVE, fixed_ms=0, token_us=0, slo_ms=10 * SLO_MS)


ADAPTIVE = ModelParameters(policy=Policy.ADAPTIVE, max_batch_size=LARGEST_BATCH)
# The best sizes and window of the constant policy for this device, found in virtual time.
CONSTANT_PACKED = ModelParameters(
    policy=Policy.CONSTANT, max_batch_size=LARGEST_BATCH, max_wait_ms=5
)
CONSTANT_PADDED = ModelParameters(policy=Policy.CONSTANT, max_batch_size=6, max_wait_ms=5)

PACKED_ADAPTIVE = Setup("packed, adaptive", True, ADAPTIVE, expected_ratio=0.85)
PADDED_ADAPTIVE = Setup("padded, adaptive", False, ADAPTIVE, expected_ratio=0.45)
PACKED_CONSTANT = Setup("packed, constant", True, CONSTANT_PACKED, expected_ratio=0.8)
PADDED_CONSTANT = Setup("padded, constant", False, CONSTANT_PADDED, expected_ratio=0.28)
