"""`make load` and `make load-proof`: the script steady against a server of its own, or yours.

The server's device is simulated and slow (20 ms a batch and 0.2 ms a token), so that neither
this machine nor k6 is the bottleneck and the figures are alike everywhere. The thresholds are
the same at any rate: answers in time, few failures, and as many good answers a second as the
rate that is known to be held. Beyond capacity refusals are right; being late is not.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence

from loadtest.bench.errors import BenchError
from loadtest.bench.scenarios.simulated import simulated_server
from loadtest.bench.servers import running_server
from loadtest.k6.result import K6Result
from loadtest.k6.run import RESULTS, TEXT, as_settings, run_k6
from predictor.core.parameters import ModelParameters, Policy

FIXED_MS = 20.0
TOKEN_US = 200.0
LENGTHS = "lognormal:24:0.5"  # few so long that a burst of them is late at any rate
RATE = 80.0  # of some 140/s that this device can do
YOUR_RATE = 10.0
HELD = 0.9  # of RATE that must be answered in time, whatever is sent
SLO_MS = 200.0
# The client's clock starts before the server's and stops after it, on a machine that is busy.
SERVER_SLO_MS = 150.0
FACTOR = 3.0  # of the proof
LIMIT_S = 600.0


def main(arguments: Sequence[str]) -> int:
    """0: as it should be, 1: thresholds missed, or no result, 2: wrong usage, 130: Ctrl-C."""
    flags = _parse(arguments)
    try:
        if flags.proof:
            return _prove(as_settings(flags.settings))
        result = _load(flags.url, flags.policy, flags.rate_factor, as_settings(flags.settings))
    except BenchError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("load: stopped", file=sys.stderr)
        return 130
    return 0 if result.thresholds_ok else 1


def _prove(settings: Mapping[str, str]) -> int:
    """Adaptive holds the rate; at FACTOR times that, constant fails and adaptive still holds."""
    expected = (
        (Policy.ADAPTIVE, 1.0, True),
        (Policy.CONSTANT, FACTOR, False),
        (Policy.ADAPTIVE, FACTOR, True),
    )
    seen = [_load("", policy, factor, settings) for policy, factor, _ in expected]
    as_expected = True
    for (policy, factor, meant), result in zip(expected, seen, strict=True):
        right = result.valid and result.thresholds_ok is meant
        as_expected &= right
        good = sum(tier.within_slo for tier in result.tiers.values()) / result.seconds
        word = "as expected" if right else "UNEXPECTED" if result.valid else "INVALID"
        print(
            f"{word:<12} {policy:<9} at {factor:g}x:"
            f" {'meets' if result.thresholds_ok else 'misses'} its thresholds,"
            f" {good:.1f}/s answered in time"
        )
    return 0 if as_expected else 1


def _load(url: str, policy: Policy, factor: float, given: Mapping[str, str]) -> K6Result:
    """One run, printed. With a `url`, that server is loaded as it is."""
    if url:
        return _steady({"URL": url}, _rate(given, YOUR_RATE), factor, given)
    batching = ModelParameters(policy=policy)
    command = simulated_server(
        True, batching, fixed_ms=FIXED_MS, token_us=TOKEN_US, slo_ms=SERVER_SLO_MS
    )
    print(f"starting a server with a simulated device, policy {policy}", flush=True)
    with running_server(command) as server:
        own = {
            "URL": f"http://127.0.0.1:{server.http_port}",
            "MODEL": server.model,
            "TASK": "simulated",
            "LENGTHS": LENGTHS,
        }
        return _steady(own, _rate(given, RATE), factor, given)


def _steady(
    server: Mapping[str, str], rate: float, factor: float, given: Mapping[str, str]
) -> K6Result:
    settings = {
        **server,
        "DURATION": "10s",
        "SLO_MS": f"{SLO_MS:g}",
        "ERROR_RATE": "0.01",
        "GOODPUT": "none",
        "GOODPUT_PER_S": f"{HELD * rate:g}",
        **given,
        "RATE": f"{factor * rate:g}",
    }
    print(f"sending {factor * rate:g} requests a second for {settings['DURATION']}", flush=True)
    result = run_k6("steady", settings, results=RESULTS, limit_s=LIMIT_S)
    print((result.folder / TEXT).read_text(), flush=True)
    return result


def _rate(given: Mapping[str, str], usual: float) -> float:
    try:
        return float(given.get("RATE", usual))
    except ValueError:
        raise BenchError(f"RATE is {given['RATE']!r}; it must be a number, as 50") from None


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.k6.load",
        description="Load a server and judge it by the same thresholds at any rate.",
    )
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="such as RATE=50")
    parser.add_argument("--url", default="", help="load this server, not one of our own")
    parser.add_argument("--rate_factor", type=float, default=1.0, help="times RATE")
    parser.add_argument(
        "--policy", type=Policy, choices=list(Policy), default=Policy.ADAPTIVE, help="of our own"
    )
    parser.add_argument(
        "--proof", action="store_true", help="all three runs, and whether they are as they should"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
