"""A server whose model generates words without a device, and what is known of it."""

from tests.edge.server_process import Server
from tests.server.process import metrics

MODEL = "words"
GENERATES = (
    *("--model_name", MODEL, "--task", "simulated"),
    *("--simulated_fixed_ms", "1", "--simulated_token_us", "1"),
    *("--simulated_output_tokens", "40"),
)


def running(found: dict[str, float]) -> dict[str, float]:
    """Rows that generate, by tier."""
    label = f'headway_rows_running{{model="{MODEL}",tier="'
    return {
        name.removeprefix(label).split('"')[0]: rows
        for name, rows in found.items()
        if name.startswith(label)
    }


def all_are_gone(server: Server) -> None:
    """Returns once no row runs; then no page is held, and nothing waits."""
    while sum(running(left := metrics(server)).values()):
        pass  # each scrape is a round trip
    assert {"interactive", "bulk"} <= set(running(left))
    assert left[f'headway_kv_pages{{model="{MODEL}",state="used"}}'] == 0
    assert sum(value for name, value in left.items() if name.startswith("headway_queue_depth")) == 0
