"""How steps are planned: who takes part, who waits, and who is let in. In virtual time."""

from collections.abc import Sequence
from typing import Any

import pytest

from predictor.core.errors import InvalidRequest, Shed
from predictor.core.generation import Sampling
from predictor.core.model import GenerationSpec
from predictor.core.parameters import parse_plain
from predictor.core.rows import AT_ITS_END, NO_DEADLINE, Batch, Outcome, Packing, Progress, Row
from predictor.policy.gap_tail import INITIAL
from predictor.policy.generating_model import BULK_LEAVES
from predictor.policy.pages import chained_hashes
from predictor.policy.scheduler import Dispatch, Scheduler
from predictor.policy.service_time import ServiceTimeModel
from predictor.simulation.simulator import Arrival, Run, Simulator

MODEL, ENCODER = "model", "encoder"
LAW = (1e-3, 1e-5, 5e-6, 1e-8, 0.0, 0.0)  # fixed, row, token of a prompt, position of context
PAGE_TOKENS = 16
ITL_S = 0.02


def document(
    *, rows: int = 64, tokens: int = 8192, bulk: dict[str, Any] | None = None, **urgent: Any
) -> dict[str, Any]:
    return {
        "generation": 1,
        "models": {MODEL: {"max_batch_size": rows, "max_batch_tokens": tokens}},
        "tiers": {
            "interactive": {"priority": 1, "slo_ms": 300, "itl_slo_ms": ITL_S * 1e3} | urgent,
            "bulk": {"priority": 2, "max_queue_size": 100_000} | (bulk or {}),
        },
    }


def scheduler(
    given: dict[str, Any] | None = None, *, pages: int = 10_000, slots: int = 64
) -> Scheduler:
    made = Scheduler(parse_plain(given or document()))
    spec = GenerationSpec(page_tokens=PAGE_TOKENS, pages=pages, slots=slots, end_ids=())
    made.add_model(MODEL, [ServiceTimeModel(Packing.PAGED, LAW)], spec)
    return made


def law(batch: Batch) -> float:
    work = batch.work
    assert work is not None
    if batch.packing is not Packing.PAGED:
        return 2e-3 + 1e-5 * work.tokens
    fixed, row, token, context, *_ = LAW
    prompt_tokens = work.tokens - work.rows
    return fixed + row * work.rows + token * prompt_tokens + context * work.context


def arrival(
    time_s: float, prompt: int, output: int, tier: str = "interactive", **more: Any
) -> Arrival:
    return Arrival(time_s, prompt, MODEL, tier, output_tokens=output, **more)


def simulate(made: Scheduler, arrivals: Sequence[Arrival]) -> Run:
    return Simulator(made, law).simulate(sorted(arrivals, key=lambda each: each.time_s))


def a_row(
    tokens: int,
    tier: str = "interactive",
    *,
    most: int = 10,
    payload: bytes = b"",
    slo_s: float = 0.3,
) -> Row:
    if tier == "bulk":
        slo_s = NO_DEADLINE
    progress = Progress(Sampling(max_tokens=most), tokens, chained_hashes(payload, PAGE_TOKENS))
    return Row(MODEL, tier, tokens, 0.0, slo_s, payload, progress=progress)


def next_step(made: Scheduler, now_s: float = 0.0) -> Batch:
    action = made.next_action(now_s).action
    assert isinstance(action, Dispatch)
    return action.batch


def finish(made: Scheduler, step: Batch, now_s: float, ended: Sequence[Row] = ()) -> None:
    for piece in step.pieces:
        if piece.samples and piece.row not in ended and piece.row.progress is not None:
            piece.row.progress.took(1, now_s)
    made.completed(step, now_s, ended)


def test_one_row_from_its_prompt_to_its_end() -> None:
    made = scheduler()
    run = simulate(made, [arrival(0.0, 100, 5)])
    (ended,) = run.settlements
    progress = ended.row.progress
    assert progress is not None
    assert ended.outcome is Outcome.OK
    assert progress.first_token_s == pytest.approx(law(run.executions[0].batch))
    assert [len(step.batch.pieces) for step in run.executions[:5]] == [1] * 5
    assert [step.batch.tokens for step in run.executions[:5]] == [100, 1, 1, 1, 1]


def test_a_long_prompt_is_cut_so_that_others_have_their_next_token_in_time() -> None:
    run = simulate(scheduler(), [arrival(0.0, 50, 300), arrival(0.05, 7000, 5)])
    assert all(each.outcome is Outcome.OK and each.in_time for each in run.settlements)
    assert all(each.itl_s <= ITL_S for each in run.settlements)
    chunks = [p.tokens for s in run.executions for p in s.batch.pieces if p.start != AT_ITS_END]
    assert len(chunks) > 2
    longest_s = max(step.finished_s - step.started_s for step in run.executions)
    assert longest_s > 0.95 * (1.0 - INITIAL) * ITL_S, "chunks are as large as may be"


def test_a_prompt_may_be_longer_than_a_step() -> None:
    run = simulate(scheduler(document(tokens=256)), [arrival(0.0, 1000, 5)])
    assert run.settlements[0].outcome is Outcome.OK
    assert max(step.batch.tokens for step in run.executions) == 256


def test_urgent_prompts_go_before_bulk_and_bulk_fills_the_rest() -> None:
    made = scheduler()
    bulk = [a_row(3000, "bulk") for _ in range(4)]
    urgent = a_row(500)
    assert made.submit(bulk, 0.0).refusal is None
    assert made.submit([urgent], 0.0).refusal is None
    step = next_step(made)
    assert step.rows[0] is urgent
    assert step.pieces[0].tokens == 500
    assert [row.tier for row in step.rows[1:]] == ["bulk"] * (step.size - 1)
    assert step.size > 1
    most_s = (1.0 - BULK_LEAVES * INITIAL) * (1.0 - INITIAL) * ITL_S
    assert 0.95 * most_s < step.predicted_s <= most_s


def test_a_slice_limits_steps_with_bulk_and_no_others() -> None:
    given = document(bulk={"max_slice_ms": 5})
    made = scheduler(given)
    urgent = a_row(2000)
    made.submit([urgent], 0.0)
    made.submit([a_row(3000, "bulk")], 0.0)
    step = next_step(made)
    assert step.rows == [urgent], "a long urgent prompt leaves bulk no room"
    finish(made, step, 0.02)
    step = next_step(made, 0.02)
    assert step.size == 2
    assert step.predicted_s <= 5e-3


def test_a_tier_that_is_owed_goes_first() -> None:
    """Urgent prompts would take all that there is."""
    given = document(bulk={"min_share": 0.3}, overload="relegate", slo_ms=2000)
    urgent = [arrival(0.004 * n, 700, 2) for n in range(400)]
    bulk = [arrival(0.0, 1000, 2, "bulk") for _ in range(200)]
    run = simulate(scheduler(given), [*urgent, *bulk])
    while_urgent = [step for step in run.executions if 0.2 < step.started_s < 1.6]
    tokens = {"interactive": 0, "bulk": 0}
    for step in while_urgent:
        for piece in step.batch.pieces:
            tokens[piece.row.tier] += piece.tokens
    assert tokens["bulk"] / sum(tokens.values()) == pytest.approx(0.3, abs=0.1)


def test_no_more_is_let_in_than_has_its_first_token_in_time() -> None:
    """Twice as much as the device can do."""
    run = simulate(scheduler(), [arrival(0.005 * n, 2000, 20) for n in range(400)])
    refused = [each for each in run.settlements if each.outcome is Outcome.SHED]
    answered = [each for each in run.settlements if each.outcome is Outcome.OK]
    assert len(answered) + len(refused) == 400
    assert 150 < len(answered) < 250
    assert sum(each.in_time and each.itl_s <= ITL_S for each in answered) > 0.99 * len(answered)
    at_once = sum(each.settled_s == each.row.arrival_s for each in refused)
    assert at_once > 0.9 * len(refused)


def test_a_refusal_says_when_to_come_back() -> None:
    made = scheduler()
    refusals = [made.submit([a_row(3000)], 0.0).refusal for _ in range(40)]
    assert refusals[0] is None
    shed = refusals[-1]
    assert isinstance(shed, Shed)
    waits = sum(refusal is None for refusal in refusals)
    assert 0.5 < shed.retry_after_s / (waits * 3000 * LAW[2]) < 3.0


def test_no_more_rows_are_let_in_than_can_decode_in_time() -> None:
    """A row of 8,000 tokens reads its context for 0.08 ms in each step."""
    given = document(slo_ms=60_000, rows=1024)
    made = scheduler(given, pages=1 << 20, slots=1024)
    rows = [a_row(8000, most=2000, slo_s=60.0) for _ in range(400)]
    admitted = [row for row in rows if made.submit([row], 0.0).refusal is None]
    assert len(admitted) * (LAW[1] + 8000 * LAW[3]) < ITL_S
    assert len(admitted) * (LAW[1] + 8000 * LAW[3]) > 0.7 * ITL_S


def test_a_deadline_that_no_token_can_meet_is_said_to_be_one() -> None:
    refusal = scheduler(document(itl_slo_ms=0.5)).submit([a_row(100)], 0.0).refusal
    assert isinstance(refusal, Shed)
    assert "a token takes about 1.0 ms, and itl_slo_ms of tier 'interactive' is 0.5" in str(refusal)


def test_what_can_never_fit_is_refused_by_its_size() -> None:
    made = scheduler(pages=10)
    refusal = made.submit([a_row(150, most=20)], 0.0).refusal
    assert isinstance(refusal, InvalidRequest)
    assert "needs 11 pages of 16 tokens, and the device has 10" in str(refusal)
    assert made.submit([a_row(150, most=11)], 0.0).refusal is None


def test_bulk_rows_are_paused_before_any_is_evicted() -> None:
    """Eight rows that come to 5 pages each, on 20 pages."""
    made = scheduler(pages=20)
    run = simulate(made, [arrival(0.0, 20, 55, "bulk", max_tokens=60) for _ in range(8)])
    assert len(run.answered) == 8
    (seen,) = made.snapshot(run.ended_s).generation
    assert seen.recomputed_tokens == 0
    assert seen.pages_free + seen.pages_cached == 20


def test_an_urgent_row_takes_the_pages_of_the_bulk_row_that_loses_least() -> None:
    made = scheduler(pages=20)
    old, new = a_row(150, "bulk", most=20), a_row(100, "bulk", most=20)
    made.submit([old, new], 0.0)
    finish(made, next_step(made), 0.01)
    urgent = a_row(64, most=2)
    assert made.submit([urgent], 0.01).refusal is None
    step = next_step(made, 0.01)
    assert urgent in step.rows
    assert old in step.rows
    assert new not in step.rows
    assert new.progress is not None
    assert (new.progress.evictions, new.progress.pages) == (1, [])


def test_a_cached_prompt_is_less_work() -> None:
    made = scheduler()
    payload = bytes(range(160))
    first, second = (a_row(160, payload=payload) for _ in range(2))
    made.submit([first], 0.0)
    finish(made, next_step(made), 0.01, [first])
    made.submit([second], 0.01)
    step = next_step(made, 0.01)
    assert (step.pieces[0].start, step.pieces[0].tokens) == (144, 16)  # the last is computed
    assert second.progress is not None
    assert second.progress.cached_tokens == 144
    assert list(step.pieces[0].pages) == second.progress.pages


def tokens_of(step: Batch) -> list[tuple[int, int]]:
    return [(piece.start, piece.tokens) for piece in step.pieces]


def test_choices_of_one_prompt_wait_for_the_first_and_share_its_pages() -> None:
    made = scheduler()
    payload = bytes(number % 251 for number in range(330))
    rows = [a_row(330, payload=payload) for _ in range(3)]
    other = a_row(40, payload=bytes(40))
    made.submit([*rows, other], 0.0)
    first = next_step(made)
    assert [piece.row for piece in first.pieces] == [rows[0], other]
    finish(made, first, 0.01, [rows[0]])
    second = next_step(made, 0.01)
    assert [piece.row for piece in second.pieces if piece.fresh] == rows[1:]
    assert tokens_of(second)[:2] == [(320, 10)] * 2
    pages = [piece.pages for piece in second.pieces[:2]]
    assert pages[0][:20] == pages[1][:20]
    assert pages[0][20] != pages[1][20]
    (seen,) = made.snapshot(0.01).generation
    assert seen.pages_used == 20 + 2 + 3  # shared; the rest of each; the other row


def test_a_row_waits_for_no_more_than_what_is_under_way() -> None:
    """Those that compute its prompt too may be in no hurry."""
    made = scheduler(document(tokens=400, bulk={"max_slice_ms": 2}))
    payload = bytes(number % 251 for number in range(8000))
    made.submit([a_row(8000, "bulk", payload=payload)], 0.0)
    urgent = a_row(8000, payload=payload, slo_s=3.0)
    under_way = [next_step(made), next_step(made)]
    made.submit([urgent], 0.0)
    now_s, steps = 0.0, 0
    while all(urgent not in step.rows for step in under_way):
        now_s, steps = now_s + 0.002, steps + 1
        finish(made, under_way.pop(0), now_s)
        under_way.append(next_step(made, now_s))
    assert 1 < steps <= 4
    assert urgent.progress is not None
    assert urgent.progress.cached_tokens > 0


def test_a_row_that_began_again_has_pages_that_its_earlier_steps_did_not_compute() -> None:
    made = scheduler(document(tokens=32, overload="relegate"))
    payload = bytes(number % 251 for number in range(400))
    row = a_row(400, payload=payload)
    assert row.progress is not None
    made.submit([row], 0.0)
    stale = next_step(made)
    assert tokens_of(stale) == [(0, 32)]
    assert row.deadline_s < NO_DEADLINE
    made.next_action(0.29)  # too late for its first token: it goes on without a deadline
    assert row.deadline_s == NO_DEADLINE
    again = next_step(made, 0.29)
    assert tokens_of(again) == [(0, 32)]
    pages = made._generating[MODEL].cache.pages
    finish(made, stale, 0.3)
    assert pages.found(row.progress.page_hashes, 25) == 0
    finish(made, again, 0.31)
    assert pages.found(row.progress.page_hashes, 25) == 2


def test_what_a_failed_row_computed_is_found_by_no_other() -> None:
    made = scheduler()
    payload = bytes(160)
    failed, next_one = (a_row(160, payload=payload) for _ in range(2))
    made.submit([failed], 0.0)
    finish(made, next_step(made), 0.01)  # its prompt is computed, and named
    assert failed.progress is not None
    decode = next_step(made, 0.01)
    failed.progress.ended = True
    made.completed(decode, 0.02, [failed], [failed])
    made.submit([next_one], 0.02)
    assert tokens_of(next_step(made, 0.02)) == [(0, 160)]
    (seen,) = made.snapshot(0.02).generation
    assert seen.pages_used + seen.pages_free == 10_000


def test_pages_that_rows_share_are_counted_once_when_rows_are_let_in() -> None:
    payload = bytes(number % 251 for number in range(1600))
    made = scheduler(pages=210)  # two such prompts, and no third, without what they share

    def begin(tail: int) -> Row:
        row = a_row(1616, most=8, payload=payload + bytes([tail] * 16))
        assert made.submit([row], 0.0).refusal is None
        finish(made, next_step(made), 0.0)
        return row

    rows = [begin(tail) for tail in range(8)]
    assert [row.progress.cached_tokens for row in rows if row.progress] == [0] + [1600] * 7
    assert isinstance(made.submit([a_row(1616, payload=bytes(1616))], 0.0).refusal, Shed)


def test_prompts_that_begin_alike_have_their_first_token_sooner() -> None:
    system = chained_hashes(bytes(number % 251 for number in range(4000)), PAGE_TOKENS)

    def ttft_s(shared: bool) -> float:
        """Of the slower half, where prompts take most of the device's time."""
        own = chained_hashes(bytes(160), PAGE_TOKENS, after=b"x")
        arrivals = [
            arrival(0.04 * number, 4160, 10, page_hashes=[*system, *own] if shared else ())
            for number in range(100)
        ]
        run = simulate(scheduler(), arrivals)
        waits = [
            each.row.progress.first_token_s - each.row.arrival_s
            for each in run.settlements
            if each.row.progress is not None and each.outcome is Outcome.OK
        ]
        assert len(waits) == len(arrivals)
        return sorted(waits)[len(waits) // 2]

    assert ttft_s(shared=True) < ttft_s(shared=False) / 4


def test_a_row_that_is_cancelled_takes_part_in_no_further_step() -> None:
    leaving = arrival(0.0, 50, 500, leaves_s=0.1)
    staying = arrival(0.0, 50, 500)
    made = scheduler()
    run = simulate(made, [leaving, staying])
    assert {each.outcome for each in run.settlements} == {Outcome.OK, Outcome.CANCELLED}
    gone = next(each.row for each in run.settlements if each.outcome is Outcome.CANCELLED)
    last_s = max(step.started_s for step in run.executions if gone in step.batch.rows)
    assert last_s < 0.1 + 3e-3
    (seen,) = made.snapshot(run.ended_s).generation
    assert (seen.pages_used, seen.running["interactive"]) == (0, 0)


def test_an_encoder_shares_the_device_and_both_keep_their_deadlines() -> None:
    given = document()
    given["models"][ENCODER] = {"max_batch_size": 64, "max_batch_tokens": 4096}
    made = scheduler(given)
    made.add_model(ENCODER, [ServiceTimeModel(Packing.PACKED, (2e-3, 0.0, 1e-5, 0.0))])
    texts = [arrival(0.02 * n, 200, 60) for n in range(100)]
    rows = [Arrival(0.004 * n, 100, ENCODER) for n in range(500)]
    run = simulate(made, [*texts, *rows])
    assert len(run.settlements) == 600
    in_time = [each.in_time and each.itl_s <= ITL_S for each in run.settlements]
    assert sum(in_time) >= 0.99 * len(in_time)


def test_the_same_seed_is_the_same_run() -> None:
    def told() -> list[tuple[Outcome, float, float]]:
        arrivals = [arrival(0.01 * n, 50 + 37 * n % 900, 5 + n % 50) for n in range(200)]
        run = simulate(scheduler(pages=400), arrivals)
        return [(each.outcome, each.settled_s, each.itl_s) for each in run.settlements]

    assert told() == told()


def test_steps_that_hold_no_more_tokens_follow_one_another() -> None:
    """A step may take a minute and ends in 42 ms, because it is full: then comes the next one."""
    made = scheduler(document(tokens=8192, itl_slo_ms=60_000), pages=100_000)
    rows = [a_row(5000) for _ in range(40)]
    admitted = [row for row in rows if made.submit([row], 0.0).refusal is None]
    fixed, _, token, *_ = LAW
    fits = 0.3 / ((fixed + 8192 * token) / 8192) / 5000
    assert 0.7 * fits <= len(admitted) <= fits
