"""The command line of `python -m loadtest`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from predictor.core.parameters import Policy

URL, MODEL, PARAMETERS = "http://127.0.0.1:8080", "topics", Path("run/parameters.yaml")
RESULTS = Path("results")
WAITS_MS, SIZES, RATES_PER_S = (0.0, 5.0, 20.0, 50.0), (1, 4, 16, 64), (20.0, 40.0, 60.0)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description="Load tests with k6.")
    parser.add_argument("--url", default=URL, help=f"of a server that runs; default {URL}")
    commands = parser.add_subparsers(dest="command", required=True)
    _capacity(commands.add_parser("capacity", help="the highest rate that meets the SLO"))
    _sweep(commands.add_parser("sweep", help="latency and utilisation over max_wait_ms and size"))
    _replay(commands.add_parser("replay", help="send a trace of arrivals, faster or slower"))
    return parser.parse_args(arguments)


def _capacity(parser: argparse.ArgumentParser) -> None:
    _add_server(parser)
    _add_load(parser, seconds=8.0)
    parser.add_argument(
        "--compare",
        type=_policies,
        default=(),
        help="policies to edit in live, one after the other, such as constant,adaptive",
    )
    parser.add_argument(
        "--resolution", type=_above_one, default=1.03, help="of the rate, a ratio; default 1.03"
    )
    parser.add_argument(
        "--limit_s", type=_positive, default=600.0, help="longest search of a policy; default 600"
    )


def _sweep(parser: argparse.ArgumentParser) -> None:
    _add_server(parser)
    _add_load(parser, seconds=4.0)
    parser.add_argument("--waits_ms", type=_numbers, default=WAITS_MS, help="N; as 0,5,20,50")
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="K; as 1,4,16,64")
    parser.add_argument("--rates", type=_numbers, default=RATES_PER_S, help="as 20,40,60")
    parser.add_argument(
        "--price_per_hour", type=_positive, default=1.0, help="of the device; default 1"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        choices=range(1, 11),
        default=1,
        help="how often each cell is measured; the best one counts, as shared machines stutter",
    )
    parser.add_argument("--title", default="", help="of the report; default: the model")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="go on with a sweep that was stopped; its grid and load hold, and those given do not",
    )


def _replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="CSV or NDJSON: time_s, tokens, tier")
    parser.add_argument("--speed", type=_speed, default=1.0, help="2: twice as fast; default 1")
    _add_url(parser)
    parser.add_argument("--model", default=MODEL, help=f"its name; default {MODEL}")
    parser.add_argument("--task", choices=("auto", "text", "simulated"), default="auto")
    parser.add_argument("--tier", default="interactive", help="of lines that name none")
    parser.add_argument("--slo_ms", type=_positive, default=200.0, help="default 200")
    _add_results(parser)


def _add_url(parser: argparse.ArgumentParser) -> None:
    """Also after the command; what stood before it is not undone."""
    parser.add_argument("--url", default=argparse.SUPPRESS, help=f"default {URL}")


def _add_server(parser: argparse.ArgumentParser) -> None:
    _add_url(parser)
    parser.add_argument("--model", default=MODEL, help=f"its name; default {MODEL}")
    parser.add_argument(
        "--parameters",
        type=Path,
        default=PARAMETERS,
        help=f"the file that the server follows; default {PARAMETERS}",
    )
    parser.add_argument(
        "--serve",
        metavar="FLAGS",
        help="start a server with these flags of `python -m predictor`, for as long as it takes",
    )
    parser.add_argument(
        "--server_slo_ms",
        type=_positive,
        help="with --serve: SLO of the tier in the server; default: --slo_ms",
    )


def _add_load(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument(
        "--task", choices=("auto", "text", "simulated"), default="auto", help="what is sent"
    )
    parser.add_argument("--tier", help="default: the most urgent one")
    parser.add_argument("--slo_ms", type=_positive, help="for p99; default: the tier's")
    parser.add_argument(
        "--seconds", type=_positive, default=seconds, help=f"of a run; default {seconds:g}"
    )
    parser.add_argument("--arrivals", choices=("poisson", "even"), default="poisson")
    parser.add_argument(
        "--lengths", help="short, mixed, long or lognormal:MEDIAN:SIGMA; default: by the task"
    )
    _add_results(parser)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help=f"folder to write to; default {RESULTS}"
    )
    parser.add_argument("--prometheus_url", help="a Prometheus that takes k6's own series")


def _policies(text: str) -> tuple[Policy, ...]:
    try:
        return tuple(Policy(name) for name in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: use constant,adaptive") from None


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are not numbers such as 5,20") from None
    if any(not 0 <= number <= 1e6 for number in numbers) or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: give different numbers from 0 to 1e6")
    return numbers


def _sizes(text: str) -> tuple[int, ...]:
    numbers = _numbers(text)
    if any(number != int(number) or not 1 <= number <= 4096 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r}: sizes are whole numbers from 1 to 4096")
    return tuple(int(number) for number in numbers)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, at most 1e6")
    return number


def _speed(text: str) -> float:
    speed = _positive(text)
    if not 1e-3 <= speed <= 1e3:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0.001 to 1000")
    return speed


def _above_one(text: str) -> float:
    number = _positive(text)
    if number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 1")
    return number
