"""`python -m loadtest.bench_gpu`: benchmarks on this machine's GPU, for BENCHMARKS.md.

Needs a CUDA device. `--tiny` rehearses everything with small models where there is none.
"""

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pynvml

from loadtest.bench.errors import BenchError
from loadtest.bench.report import this_machine
from loadtest.bench.running import add_output_option, command_told, names_among, run_scenarios
from loadtest.bench.scenarios.context import Result
from loadtest.bench_gpu import (
    bulk,
    device,
    generation,
    low_load,
    overload,
    rivals,
    single,
    speech,
    tiers,
)
from loadtest.bench_gpu.context import GpuContext
from loadtest.bench_gpu.pace import FULL
from loadtest.bench_gpu.rival_servers import RIVALS

Scenario = Callable[[GpuContext], Result]

# In the order in which one loaded server serves as many as possible.
SCENARIOS: Mapping[str, Scenario] = {
    "gpu_device": device.run,
    "gpu_bulk": bulk.run,
    "gpu_single": single.run,
    "gpu_overload": overload.run,
    "gpu_tiers": tiers.run,
    "gpu_low_load": low_load.run,
    "gpu_speech": speech.run,
    "gpu_generation": generation.run,
}
RIVAL_SCENARIOS: Mapping[str, Scenario] = {name: rivals.scenario_of(name) for name in RIVALS}
EXIT_NO_GPU = 2
MOST_WORKERS = 8


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 if a benchmark could not run, 2 where there is no GPU."""
    options = _options(arguments)
    gpu = gpu_name()
    if gpu is None and not options.tiny:
        print(
            "bench-gpu: this machine has no NVIDIA GPU that its driver knows of; run it where there"
            " is one, or rehearse it here with --tiny",
            file=sys.stderr,
        )
        return EXIT_NO_GPU
    with tempfile.TemporaryDirectory(prefix="headway-bench-gpu-") as folder:
        contexts: list[GpuContext] = []

        def make_context(say: Callable[[str], None]) -> GpuContext:
            context = GpuContext(
                tiny=options.tiny,
                device="cuda" if gpu else "cpu",
                gpu=gpu or "no GPU",
                folder=Path(folder),
                workers=options.workers,
                generators=options.generators,
                say=say,
                rival_sites=options.rival_sites,
                rival_settings=options.rival_settings,
                search_limit_s=options.search_limit_s,
            )
            contexts.append(context)
            return context

        try:
            failures = run_scenarios(
                _chosen(options),
                make_context,
                command=command_told("loadtest.bench_gpu", arguments),
                machine=this_machine(gpu or "no GPU"),
                output=options.output,
            )
        finally:
            for context in contexts:
                context.stop_server()
    return 1 if failures else 0


def _chosen(options: argparse.Namespace) -> Mapping[str, Callable[[GpuContext], Result]]:
    wanted = tuple(SCENARIOS) if options.only is None and not options.rivals else options.only
    chosen = {name: SCENARIOS[name] for name in wanted or ()}
    chosen |= {f"gpu_{name}": RIVAL_SCENARIOS[name] for name in options.rivals}
    return {name: partial(guarded, scenario) for name, scenario in chosen.items()}


def guarded(scenario: Scenario, context: GpuContext) -> Result:
    """GPUs are rented by the minute: a bug in one benchmark must not cost the others."""
    try:
        return scenario(context)
    except BenchError:
        raise
    except Exception as error:
        raise BenchError("".join(traceback.format_exception(error)[-3:]).strip()) from error


def gpu_name() -> str | None:
    """What NVML calls the first device, or None where it finds none.

    Torch would open the device here and hold memory on it for as long as the benchmarks run.
    """
    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return None
    return str(name)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    cores = os.cpu_count() or 2
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench_gpu", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--only",
        type=names_among(tuple(SCENARIOS)),
        help=(
            f"benchmarks to run, comma separated; of {','.join(SCENARIOS)} (default: all, or none"
            " beside --rivals)"
        ),
    )
    parser.add_argument(
        "--rivals",
        type=names_among(tuple(RIVAL_SCENARIOS)),
        default=(),
        help=f"compare with these too, of {','.join(RIVAL_SCENARIOS)}; about 2 minutes each",
    )
    parser.add_argument(
        "--rival_settings",
        type=int,
        default=4,
        help="how many of a rival's settings to try, the likeliest first (default: %(default)s)",
    )
    parser.add_argument(
        "--search_limit_s",
        type=float,
        help=(
            f"time for one search of a capacity (default: {FULL.search_limit_s:.0f}); with --tiny,"
            " measure at length"
        ),
    )
    parser.add_argument(
        "--rival_sites",
        type=Path,
        help="a folder with a folder of packages for each rival that is not in this environment",
    )
    parser.add_argument(
        "--tiny", action="store_true", help="tiny models and short runs: is everything wired?"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=max(1, min(MOST_WORKERS, cores // 2)),
        help="edge processes of the server (default here: %(default)s)",
    )
    parser.add_argument(
        "--generators",
        type=int,
        default=max(1, min(6, cores // 4)),
        help="processes of the load generator (default here: %(default)s)",
    )
    add_output_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
