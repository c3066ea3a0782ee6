"""Jobs over ASGI: every status, every bad line, streams both ways."""

import asyncio
import json
from typing import Any

import pytest

from predictor.core import errors
from predictor.core.jobs import MAX_LINE_BYTES
from predictor.edge import jobs as routes
from predictor.edge.asgi import Message, Scope
from predictor.edge.http import EdgeApp
from predictor.edge.job_lines import EdgeLineRunner
from predictor.edge.service import InferService
from tests.edge.asgi import Answer, answered, call, ids_input, infer, nothing_here, text_input
from tests.edge.conftest import MAX_BODY_BYTES, MAX_ROWS
from tests.edge.fake_engine import FakeEngine
from tests.edge.fake_jobs import FakeJobs

SUBMIT = "/v2/models/sim/jobs"
DOWN = errors.Unavailable("jobs: Redis cannot be reached", 5.0)


@pytest.fixture
def jobs() -> FakeJobs:
    return FakeJobs()


@pytest.fixture
def service(engine: FakeEngine) -> InferService:
    return InferService(engine, ("sim", "topics", "later"), MAX_ROWS)


@pytest.fixture
def app(service: InferService, jobs: FakeJobs) -> EdgeApp:
    return EdgeApp(service, nothing_here, MAX_BODY_BYTES, jobs)


def line(*ids: int, **more: Any) -> bytes:
    return json.dumps({"inputs": [ids_input(*ids)], **more}).encode()


def body(*lines: bytes) -> bytes:
    return b"".join(each + b"\n" for each in lines)


async def submit(app: EdgeApp, *lines: bytes, model: str = "sim", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await answered(app, f"/v2/models/{model}/jobs", body(*lines), headers=named)


async def get(app: EdgeApp, path: str, method: str = "GET") -> Answer:
    return await answered(app, path, b"", method=method)


async def test_a_job_from_submission_to_results(
    app: EdgeApp, jobs: FakeJobs, service: InferService, engine: FakeEngine
) -> None:
    submitted = await submit(app, line(1, 2, id="a"), line(3, -1), line(4, id="c"))
    assert submitted.status == 202
    assert submitted.json == {"id": "job-0", "state": "queued", "total": 3}
    path = submitted.headers["location"]
    assert path == "/v2/jobs/job-0"
    assert not engine.submissions
    await jobs.work("job-0", EdgeLineRunner(service), 2, 0)
    status = (await get(app, path)).json
    assert (status["state"], status["done"], status["progress"]) == ("running", 2, 2 / 3)
    half = await get(app, path + "/results")
    assert half.headers["x-headway-job-state"] == "running"
    assert half.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(each)["index"] for each in half.body.splitlines()] == [0, 2]
    await jobs.work("job-0", EdgeLineRunner(service), 1)
    results = await get(app, path + "/results")
    assert results.headers["x-headway-job-state"] == "done"
    first, second, third = map(json.loads, results.body.splitlines())
    answer = (await infer(app, "sim", {"id": "a", "inputs": [ids_input(1, 2)]})).json
    assert first == {"index": 0, **answer}
    assert second == {"index": 1, "error": "the model raised for this row"}
    assert (third["id"], third["outputs"][0]["data"]) == ("c", [4])
    assert [each.tier for each in engine.submissions] == ["bulk"] * 3 + [None]
    assert {each.protocol for each in engine.reports} == {"jobs", "http"}


async def test_the_tier_of_a_job(app: EdgeApp, jobs: FakeJobs, engine: FakeEngine) -> None:
    agreeing = line(1, parameters={"priority": 1})
    assert (await submit(app, agreeing, x_headway_tier="interactive")).status == 202
    assert jobs.kept["job-0"].status.tier == "interactive"
    unknown = await submit(app, line(1), x_headway_tier="express")
    assert (unknown.status, "interactive, bulk" in unknown.error) == (400, True)
    engine.bulk_tier = ""
    assert "every tier has an SLO" in (await submit(app, line(1))).error


async def test_a_line_may_have_several_rows(
    app: EdgeApp, jobs: FakeJobs, service: InferService, engine: FakeEngine
) -> None:
    both = json.dumps({"inputs": [text_input("the bus", "is late")]}).encode()
    assert (await submit(app, both, model="topics")).status == 202
    await jobs.work("job-0", EdgeLineRunner(service), 0)
    result = json.loads(jobs.kept["job-0"].results[0])
    assert result["outputs"][0]["shape"] == [2]


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "truncated"),
    "not UTF-8": (b"\xff\xfe", ""),
    "no object": (b"[]", "Expected `object`"),
    "blank": (b"  ", "blank"),
    "no inputs": (b"{}", "missing required field `inputs`"),
    "unknown input": (json.dumps({"inputs": [text_input("x")]}).encode(), "input 'text'"),
    "wrong shape": (
        json.dumps({"inputs": [ids_input(1) | {"shape": [1, 2]}]}).encode(),
        "does not match the 1 elements",
    ),
    "wrong type": (
        json.dumps({"inputs": [ids_input(1) | {"data": ["x"]}]}).encode(),
        "inputs[0].data",
    ),
    "too many tokens": (line(*range(4097)), "4097 ids"),
    "unknown output": (line(1, outputs=[{"name": "mood"}]), "'mood'"),
    "binary input": (
        json.dumps({"inputs": [ids_input(1) | {"parameters": {"binary_data_size": 8}}]}).encode(),
        "binary_data_size",
    ),
    "binary outputs": (line(1, parameters={"binary_data_output": True}), "binary"),
    "other tier": (line(1, parameters={"priority": 1}), "the job's tier is 'bulk' (priority 2)"),
    "timeout": (line(1, parameters={"timeout": 5}), "no deadline"),
}


@pytest.mark.parametrize("case", BAD_LINES)
async def test_a_broken_line_7_refuses_the_job(app: EdgeApp, jobs: FakeJobs, case: str) -> None:
    broken, problem = BAD_LINES[case]
    answer = await submit(app, *[line(1)] * 6, broken, line(1))
    assert answer.status == 400
    assert answer.error.startswith("line 7: ")
    assert problem in answer.error
    assert not jobs.kept


async def test_a_text_that_is_no_text(app: EdgeApp, jobs: FakeJobs) -> None:
    wrong = {"inputs": [text_input("x") | {"shape": [1, 1, 1]}]}
    answer = await submit(app, json.dumps(wrong).encode(), model="topics")
    assert answer.error.startswith("line 1: input 'text': shape must be")


async def test_a_line_too_long(app: EdgeApp, jobs: FakeJobs) -> None:
    answer = await submit(app, line(1), line(1, id="x" * MAX_LINE_BYTES))
    assert (answer.status, "line 2 is over" in answer.error) == (413, True)
    assert not jobs.kept


async def test_long_lines_that_are_well(app: EdgeApp, jobs: FakeJobs) -> None:
    long = json.dumps({"inputs": [text_input("the bus " * 10_000)]}).encode()
    assert (await submit(app, long, long, model="topics")).status == 202


async def test_a_body_in_any_pieces(app: EdgeApp, jobs: FakeJobs) -> None:
    """Larger than the limit of a request, cut anywhere, with CRLF and without the last end."""
    whole = b"\r\n".join(line(number) for number in range(200))
    assert len(whole) > MAX_BODY_BYTES
    for size in (1, 7, 1000, len(whole)):
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        answer = await answered(app, SUBMIT, pieces)
        assert (answer.status, answer.json["total"]) == (202, 200)
    kept = [job.lines for job in jobs.kept.values()]
    assert kept == [kept[0]] * 4


async def test_an_empty_body(app: EdgeApp, jobs: FakeJobs) -> None:
    assert (await submit(app)).status == 400
    assert not jobs.kept


async def test_models_that_are_not_there(app: EdgeApp, engine: FakeEngine) -> None:
    assert (await submit(app, line(1), model="nobody")).status == 404
    loading = await submit(app, line(1), model="later")
    assert (loading.status, loading.headers["retry-after"]) == (503, "1")
    engine.draining = True
    assert (await submit(app, line(1))).status == 503


async def test_headers_that_a_job_cannot_have(app: EdgeApp) -> None:
    assert (await submit(app, line(1), x_headway_timeout_ms="5")).status == 400
    assert (await submit(app, line(1), content_encoding="gzip")).status == 400


PATHS = ["/v2/jobs/job-0", "/v2/jobs/job-0/results"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2/jobs/nobody",
        "/v2/jobs/nobody/results",
        "/v2/jobs/../../metrics",
        "/v2/jobs/..",
        "/v2/jobs/",
        "/v2/jobs/a/b",
        "/v2/jobs/a/results/",
        "/v2/jobs/a:b",
        "/v2/jobs/é",
        "/v2/jobs/" + "a" * 65,
    ],
)
async def test_jobs_that_are_not_there(app: EdgeApp, path: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await get(app, path, method)
        assert answer.status in ({404, 405} if path.endswith("results") else {404})


async def test_methods(app: EdgeApp) -> None:
    for path, allowed in ((SUBMIT, "POST"), (PATHS[0], "GET, DELETE"), (PATHS[1], "GET")):
        answer = await get(app, path, "PUT")
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


async def test_two_clients_cancel_at_once(app: EdgeApp) -> None:
    await submit(app, line(1))
    both = await asyncio.gather(*(get(app, PATHS[0], "DELETE") for _ in range(2)))
    assert [answer.status for answer in both] == [200, 200]
    assert both[0].json["state"] == "cancelled"


async def test_no_place_for_jobs(service: InferService) -> None:
    app = EdgeApp(service, nothing_here, MAX_BODY_BYTES)
    for answer in (await submit(app, line(1)), *[await get(app, path) for path in PATHS]):
        assert (answer.status, "--redis_url" in answer.error) == (503, True)
        assert "retry-after" not in answer.headers
    assert (await submit(app, line(1), model="nobody")).status == 404


async def test_a_job_is_its_submitters_alone_where_a_header_names_them(
    service: InferService, jobs: FakeJobs
) -> None:
    app = EdgeApp(service, nothing_here, MAX_BODY_BYTES, jobs, job_owner_header="x-forwarded-user")
    assert (await submit(app, line(1), x_forwarded_user="ada")).status == 202

    async def asked(path: str, method: str = "GET", **named: str) -> int:
        headers = {name.replace("_", "-"): value for name, value in named.items()}
        return (await answered(app, path, b"", method=method, headers=headers)).status

    for path, method in ((PATHS[0], "GET"), (PATHS[1], "GET"), (PATHS[0], "DELETE")):
        assert await asked(path, method, x_forwarded_user="bob") == 404
        assert await asked(path, method) == 400
        assert await asked(path, method, x_forwarded_user=" ") == 400
    for path, method in ((PATHS[0], "GET"), (PATHS[1], "GET"), (PATHS[0], "DELETE")):
        assert await asked(path, method, x_forwarded_user="ada") == 200
    nameless = await submit(app, line(1))
    assert (nameless.status, "x-forwarded-user" in nameless.error) == (400, True)


async def test_the_place_for_jobs_is_away(app: EdgeApp, jobs: FakeJobs) -> None:
    jobs.down = DOWN
    for answer in (await submit(app, line(1)), *[await get(app, path) for path in PATHS]):
        assert (answer.status, answer.error) == (503, DOWN.message)
        assert answer.headers["retry-after"] == "5"
    assert (await infer(app, "sim", {"inputs": [ids_input(1)]})).status == 200


async def test_results_that_break_off_have_no_end(
    app: EdgeApp, jobs: FakeJobs, service: InferService
) -> None:
    await submit(app, line(1), line(2))
    await jobs.work("job-0", EdgeLineRunner(service), 0, 1)
    jobs.down, jobs.cut_after = DOWN, 1
    cut = await get(app, PATHS[1])
    assert (cut.status, cut.whole) == (200, False)


async def test_an_error_that_nobody_expected_shows_no_stack(app: EdgeApp, jobs: FakeJobs) -> None:
    jobs.kept = None  # type: ignore[assignment]
    answer = await get(app, PATHS[0])
    assert (answer.status, "NoneType" in answer.error) == (500, False)


async def test_a_client_that_hangs_up_while_it_submits(app: EdgeApp, jobs: FakeJobs) -> None:
    chunks: list[Message] = [{"type": "http.request", "body": line(1), "more_body": True}]

    async def receive() -> Message:
        return chunks.pop() if chunks else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("there is nobody to answer")

    scope: Scope = {"type": "http", "method": "POST", "path": SUBMIT, "headers": []}
    await app(scope, receive, send)
    assert not jobs.kept


async def test_a_client_that_stops_sending(service: InferService, jobs: FakeJobs) -> None:
    app = EdgeApp(service, nothing_here, MAX_BODY_BYTES, jobs, body_idle_s=0.01)
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("it never comes")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "POST", "path": SUBMIT, "headers": []}
    await app(scope, receive, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert not jobs.kept


async def test_a_reader_that_hangs_up_ends_the_stream(
    app: EdgeApp, jobs: FakeJobs, service: InferService
) -> None:
    """A large job's results are sent in blocks; after a hang-up no more are fetched."""
    many = 4000
    await submit(app, *[line(number) for number in range(many)])
    await jobs.work("job-0", EdgeLineRunner(service), *range(many))
    whole = await get(app, PATHS[1])
    assert len(whole.body.splitlines()) == many
    gone = asyncio.Event()
    blocks: list[bytes] = []

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        blocks.append(message.get("body", b""))
        if len(blocks) == 3:  # the start and two blocks
            gone.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    scope: Scope = {"type": "http", "method": "GET", "path": PATHS[1], "headers": []}
    await app(scope, receive, send)
    assert len(blocks) < 6
    assert max(map(len, blocks)) < 2 * routes.BLOCK_BYTES


async def test_no_more_streams_than_there_is_room_for(
    app: EdgeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "MAX_STREAMS", 0)
    answer = await submit(app, line(1))
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


async def test_others_are_served_while_a_job_is_checked(app: EdgeApp, jobs: FakeJobs) -> None:
    """A body that is all there at once does not keep the loop to itself."""
    submission = asyncio.ensure_future(submit(app, *[line(1)] * 20_000))
    while not submission.done():
        assert (await infer(app, "sim", {"inputs": [ids_input(1)]})).status == 200
        if not jobs.kept:
            break
    assert not submission.done()
    assert (await submission).status == 202


async def test_a_runner_that_is_told_to_stop_takes_its_rows_back(
    service: InferService, engine: FakeEngine
) -> None:
    engine.hold = True
    running = asyncio.ensure_future(EdgeLineRunner(service).run("sim", "bulk", line(1)))
    await engine.submitted.wait()
    running.cancel()
    await asyncio.wait([running])
    assert engine.held[0][1].cancelled()


async def test_a_runner_knows_when_lines_would_be_taken(
    service: InferService, engine: FakeEngine
) -> None:
    runner = EdgeLineRunner(service)
    assert runner.ready("sim")
    assert not runner.ready("later")
    engine.refuse = errors.QueueFull("full")
    with pytest.raises(errors.QueueFull):
        await runner.run("sim", "bulk", line(1))


async def test_others_are_served_while_many_lines_begin(
    app: EdgeApp, service: InferService, engine: FakeEngine
) -> None:
    runner = EdgeLineRunner(service)
    many = [asyncio.ensure_future(runner.run("sim", "bulk", line(n))) for n in range(500)]
    assert (await infer(app, "sim", {"inputs": [ids_input(1)]})).status == 200
    assert len(engine.submissions) < len(many)
    for number, answer in enumerate(await asyncio.gather(*many)):
        assert json.loads(answer)["outputs"][0]["data"] == [number]


async def test_a_tier_that_an_edit_took_away(service: InferService, engine: FakeEngine) -> None:
    """Its jobs go on where jobs go that name none."""
    runner = EdgeLineRunner(service)
    await runner.run("sim", "overnight", line(1))
    assert engine.submissions[-1].tier == "bulk"
    engine.bulk_tier = ""
    with pytest.raises(errors.Unavailable, match="overnight"):
        await runner.run("sim", "overnight", line(1))


async def test_other_paths_are_not_ours(app: EdgeApp) -> None:
    for path in ("/v2/models//jobs", "/v2/models/a/b/jobs", "/v2/jobs"):
        assert (await get(app, path)).error == "the app behind"
    assert await call(app, "/v2/models/sim/jobs/1", method="GET") is not None
