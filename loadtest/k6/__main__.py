"""`python -m loadtest.k6 SCRIPT [NAME=VALUE …]`: one run, kept in a folder of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.bench.errors import BenchError
from loadtest.k6.run import RESULTS, SCRIPTS, TEXT, as_settings, run_k6

LIMIT_S = 7200.0


def main(arguments: Sequence[str]) -> int:
    """0: all thresholds met, 1: some missed, or no result, 2: wrong usage, 130: Ctrl-C."""
    flags = _parse(arguments)
    try:
        result = run_k6(
            flags.script,
            as_settings(flags.settings),
            results=flags.results,
            limit_s=flags.limit_s,
            prometheus_url=flags.prometheus,
        )
    except BenchError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("loadtest: stopped", file=sys.stderr)
        return 130
    print((result.folder / TEXT).read_text())
    print(f"kept in {result.folder}")
    return 0 if result.thresholds_ok else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.k6",
        description="Run a k6 script; its settings are in loadtest/lib/settings.js.",
    )
    parser.add_argument("script", choices=sorted(each.stem for each in SCRIPTS.glob("*.js")))
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="such as RATE=50")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument(
        "--limit_s", type=float, default=LIMIT_S, help="a run that takes longer is ended"
    )
    parser.add_argument(
        "--prometheus", metavar="URL", help="a Prometheus that takes k6's series by remote write"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
