"""How fast the dashboard's pages are over a week of a hundred replicas, from a real Prometheus."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.bench.blocks import Stretch, write_blocks
from loadtest.bench.paints import FIRST, Paint, dashboard_on, paint
from loadtest.bench.past import DAY_S, SCRAPE_S, recorded, scraped
from loadtest.bench.prometheus import running_prometheus
from loadtest.bench.report import Table, verdict
from loadtest.bench.scenarios.context import FULL, Context

REPLICAS = 100
DAYS = 7
RULES_EVERY_S = 60
SCRAPED_FOR_S = 1200
# It is written for a while ahead, so that it has no gap before now when it is read.
AHEAD_S = 600
MOST_FIRST_S = 3.0
PAGES = (
    ("Overview", "15 min"),
    *((page, "7 d") for page in ("Overview", "Latency", "Batching", "Cost")),
)


class ScaleResult(msgspec.Struct, frozen=True, kw_only=True):
    replicas: int
    days: float
    samples: int
    wrote_s: float
    paints: Sequence[Paint]

    def table(self) -> Table:
        return Table(
            title="Dashboard at scale",
            intro=(
                f"{self.replicas} replicas, {self.days:g} days of what the recording rules keep "
                f"at a step of {RULES_EVERY_S} s, and {SCRAPED_FOR_S // 60} minutes of what the "
                "Overview reads of each replica, in a real Prometheus "
                f"({self.samples / 1e6:.1f} million samples, written in {self.wrote_s:.0f} s). "
                "A page is drawn whole, with all that it reads, but by no browser: first for a "
                "reader who is the first to ask, then for a second one. Required: the Overview "
                f"over 7 days within {MOST_FIRST_S:g} s. The second reader looks at once; a window "
                "moves on by a 200th of its length, and then is read anew."
            ),
            columns=("page", "range", "first, s", "queries", "second, s", "queries", "held"),
            rows=[
                (
                    each.page,
                    each.range_name,
                    f"{each.first_s:.2f}",
                    f"{each.queries}",
                    f"{each.again_s:.2f}",
                    f"{each.queries_again}",
                    verdict(_held(each)),
                )
                for each in self.paints
            ],
        )


def _held(each: Paint) -> bool | None:
    if (each.page, each.range_name) != (FIRST, "7 d"):
        return None
    return each.first_s <= MOST_FIRST_S


def run(context: Context) -> ScaleResult:
    """Takes two gigabytes of disk for a while. Raises BenchError where a page shows an error."""
    days = DAYS if context.pace == FULL else 1
    with tempfile.TemporaryDirectory(prefix="headway-scale-") as name:
        data = Path(name) / "data"
        data.mkdir()
        context.say(f"dashboard_scale: writing {days} days of {REPLICAS} replicas")
        began_s = time.monotonic()
        samples = write_past(data, days * DAY_S, REPLICAS, time.time())
        wrote_s = time.monotonic() - began_s
        with running_prometheus(data=data) as url, dashboard_on(url):
            context.say("dashboard_scale: the first page also imports what all of them need")
            paint(url, FIRST, "5 min")
            paints = []
            for page, range_name in PAGES:
                context.say(f"dashboard_scale: {page}, {range_name}")
                paints.append(paint(url, page, range_name))
    return ScaleResult(
        replicas=REPLICAS, days=days, samples=samples, wrote_s=wrote_s, paints=paints
    )


def write_past(data: Path, lasts_s: float, replicas: int, now_s: float) -> int:
    """How many samples were written; the last of them are AHEAD_S from now."""
    ends_s = int(now_s) + AHEAD_S
    scraped_from_s = int(now_s) - SCRAPED_FOR_S
    return write_blocks(
        data,
        [
            Stretch(
                sorted(recorded(replicas, ends_s), key=lambda line: line.name),
                int(ends_s - lasts_s),
                ends_s,
                RULES_EVERY_S,
                holds_s=3600,
            ),
            Stretch(
                sorted(scraped(replicas, scraped_from_s), key=lambda line: line.name),
                scraped_from_s,
                ends_s,
                SCRAPE_S,
                holds_s=SCRAPE_S,
            ),
        ],
    )
