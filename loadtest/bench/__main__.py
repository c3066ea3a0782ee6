"""`python -m loadtest.bench`: runs the benchmarks and writes their tables into BENCHMARKS.md."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from loadtest.bench.report import this_machine
from loadtest.bench.running import add_output_option, command_told, names_among, run_scenarios
from loadtest.bench.scenarios import (
    capacity,
    dashboard_scale,
    edge,
    generation,
    generation_policy,
    low_load,
    minilm,
    order,
    overload,
    preview,
    step_times,
    tiers,
)
from loadtest.bench.scenarios.context import FULL, QUICK, Context, Result

Scenario = Callable[[Context], Result]

SCENARIOS: Mapping[str, Scenario] = {
    "edge": edge.run,
    "low_load": low_load.run,
    "capacity": capacity.run,
    "overload": overload.run,
    "order": order.run,
    "tiers": tiers.run,
    "minilm": minilm.run,
    "generation": generation.run,
    "step_times": step_times.run,
    "generation_policy": generation_policy.run,
    "preview": preview.run,
    "dashboard_scale": dashboard_scale.run,
}


def main(arguments: Sequence[str], scenarios: Mapping[str, Scenario] = SCENARIOS) -> int:
    """Exit code 1 if a benchmark could not run; a bound that was missed is in its table."""
    options = _options(arguments, tuple(scenarios))
    failures = run_scenarios(
        {name: scenarios[name] for name in options.only},
        lambda say: Context(pace=QUICK if options.quick else FULL, say=say),
        command=command_told("loadtest.bench", arguments),
        machine=this_machine(),
        output=options.output,
    )
    return 1 if failures else 0


def _options(arguments: Sequence[str], names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    parser.add_argument(
        "--only",
        type=names_among(names),
        default=names,
        help=f"benchmarks to run, comma separated; of {','.join(names)} (default: all)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="short runs: is everything wired? not for figures"
    )
    add_output_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
