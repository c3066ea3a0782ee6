"""The benchmark of step policies: its search, its rivals and its table."""

import math

import msgspec
import pytest

from loadtest.bench.generation_capacity import RESOLUTION, highest, ours, prefill_first, static
from loadtest.bench.generation_world import CHAT, LONG_PROMPTS, Shared, World, serve, serve_both
from loadtest.bench.scenarios.generation_policy import Beside, Cell, GenerationPolicyResult

SMALL = World(mix=LONG_PROMPTS, itl_s=0.04, least_requests=60, span_s=0.0)


@pytest.mark.parametrize("start", [1.0, 37.0, 400.0])
def test_the_highest_rate_is_found_from_anywhere(start: float) -> None:
    found = highest(lambda rate: rate <= 37.0, start, 0.1, 1e6)
    assert 37.0 / RESOLUTION <= found <= 37.0


def test_there_may_be_none_and_there_may_be_no_end() -> None:
    assert highest(lambda _: False, 10.0, 1.0, 100.0) == 0.0
    assert highest(lambda _: True, 10.0, 1.0, 100.0) >= 100.0


def test_at_a_low_rate_everybody_is_served_in_time_but_where_prompts_go_first() -> None:
    for planner in (ours, static(4096)):
        assert serve(SMALL, planner(SMALL), 5.0).good == 60
    assert serve(SMALL, prefill_first(SMALL), 5.0, to_the_end=True).good < 60


def test_a_small_chunk_is_late_where_prompts_are_long() -> None:
    world = World(mix=LONG_PROMPTS, itl_s=0.04, least_requests=400, span_s=0.0)
    rate = 0.9 / world.work_s()
    assert serve(world, ours(world), rate, to_the_end=True).sustained
    assert serve(world, static(512)(world), rate, to_the_end=True).good < 300


def test_bulk_beside_interactive_requests_at_a_shortage_of_pages() -> None:
    world = World(mix=CHAT, itl_s=0.04, pages=3000)
    shared = serve_both(world, 50.0, 3.0, 2000)
    assert shared.good_share == 1.0
    assert shared.bulk_tokens_per_s > 10_000
    assert shared.recomputed <= 0.05


def test_the_table_says_what_held() -> None:
    cell = Cell(
        world=SMALL,
        prefill_first=0.0,
        usual=30.0,
        best=45.0,
        best_chunk=6760,
        ours=48.6,
        goodput=[1.2, 1.3],
    )
    shared = Shared(good_share=1.0, bulk_tokens_per_s=66.0, recomputed=0.02, longest_bulk_s=math.pi)
    beside = Beside(mix="chat", plenty=shared, alone_tokens_per_s=100.0, short=shared)
    table = GenerationPolicyResult(cells=[cell], beside=[beside]).table()
    (row,) = table.rows
    assert len(row) == len(table.columns)
    assert "1.08 (≥ 1.1)" in row
    assert row[-1] == "**no**"
    assert "0.94 of what is left" in table.notes[0]
    assert "held: yes" in table.notes[0]
    assert "3.1 s" in table.notes[1]
    more = msgspec.structs.replace(cell, best=52.0)
    (note,) = GenerationPolicyResult(cells=[more], beside=[]).table().notes
    assert note.endswith("than the limit: long prompts, Poisson, 40 ms: 57 of 54")
