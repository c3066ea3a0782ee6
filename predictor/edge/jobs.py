"""What clients do with jobs over HTTP: submit one, look how far it is, read results, cancel.

Bodies are streams both ways: what one end does not take, the other does not send. A job's body
has no limit but those of its lines and their number.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from time import monotonic

import msgspec

from predictor.core.errors import (
    HeadwayError,
    InvalidRequest,
    JobsNotKept,
    UnknownJob,
)
from predictor.core.jobs import Jobs, JobStart, JobStatus
from predictor.core.shown import shown
from predictor.edge.asgi import (
    Headers,
    Receive,
    Scope,
    Send,
    check_encoding,
    send_error,
    send_json,
    send_not_allowed,
)
from predictor.edge.bodies import Bodies
from predictor.edge.exchange import TIER_HEADER, TIMEOUT_HEADER, ClientGoneError
from predictor.edge.job_lines import LineChecker, checked_lines
from predictor.edge.job_streams import JobStream, JobStreams
from predictor.edge.service import InferService
from predictor.edge.statuses import INTERNAL_MESSAGE, error_body

MAX_STREAMS = 64  # jobs that one edge receives or gives out at a time; each holds a few MiB
MAX_OWNER_BYTES = 256
BLOCK_BYTES = 1 << 16  # results are sent in blocks of about this size
NDJSON_TYPE = b"application/x-ndjson"
STATE_HEADER = b"x-headway-job-state"

_LOG = logging.getLogger("headway.edge")
_SUBMIT = re.compile(r"/v2/models/([^/]+)/jobs")
_JOB = re.compile(r"/v2/jobs/([A-Za-z0-9-]{1,64})(/results)?")
_JOBS_PREFIX = "/v2/jobs/"


class _Submitted(msgspec.Struct, frozen=True):
    """The answer to a submission."""

    id: str
    state: str
    total: int


class _Progress(JobStatus, frozen=True, kw_only=True):
    """A job's status as clients see it."""

    ratio: float = msgspec.field(name="progress")


class JobRoutes:
    """ASGI: the routes of jobs. `jobs` is None where this server keeps none.

    `owner_header`: in small letters. Where there is one, whoever it names owns the jobs that they
    submit, and to others these do not exist.
    """

    def __init__(
        self, service: InferService, jobs: Jobs | None, bodies: Bodies, owner_header: str = ""
    ) -> None:
        self._owner_header = owner_header
        self._service = service
        self._bodies = bodies
        self._kept = jobs
        self._streams = JobStreams(monotonic)

    @staticmethod
    def takes(path: str) -> bool:
        return path.startswith(_JOBS_PREFIX) or _SUBMIT.fullmatch(path) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except ClientGoneError:
            return
        except HeadwayError as error:
            await send_error(send, error)
        except Exception:
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            await send_json(send, HTTPStatus.INTERNAL_SERVER_ERROR, error_body(INTERNAL_MESSAGE))

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        owner = self._owner(scope)
        submission = _SUBMIT.fullmatch(path)
        if submission is not None:
            if method != "POST":
                await send_not_allowed(send, "POST")
                return
            with self._streams.open(MAX_STREAMS) as stream:
                await self._submit(submission[1], owner, scope, receive, send, stream)
            return
        job = _JOB.fullmatch(path)
        if job is None:
            raise UnknownJob("no such job; use the id that the submission was answered with")
        job_id, results = job.groups()
        if results and method == "GET":
            with self._streams.open(MAX_STREAMS) as stream:
                await self._results(job_id, owner, receive, send, stream)
        elif not results and method in {"GET", "DELETE"}:
            act = self._jobs.status if method == "GET" else self._jobs.cancel
            await send_json(send, HTTPStatus.OK, _progress(await act(job_id, owner)))
        else:
            await send_not_allowed(send, "GET" if results else "GET, DELETE")

    async def _submit(
        self, model: str, owner: str, scope: Scope, receive: Receive, send: Send, stream: JobStream
    ) -> None:
        headers: Headers = dict(scope["headers"])
        codec = self._service.codec(model)
        jobs = self._jobs
        check_encoding(headers)
        if TIMEOUT_HEADER.encode() in headers:
            raise InvalidRequest(f"{TIMEOUT_HEADER}: a job has no deadline; leave it out")
        tier, priority = self._tier(headers)
        parts = _counted(self._bodies.parts(receive), stream)
        checker = LineChecker(codec, tier, priority, self._service.lifecycle.budget)
        lines = checked_lines(parts, checker)
        status = await jobs.submit(JobStart(model=model, tier=tier, owner=owner), lines)
        await send_json(
            send,
            HTTPStatus.ACCEPTED,
            msgspec.json.encode(_Submitted(status.id, status.state, status.total)),
            ((b"location", (_JOBS_PREFIX + status.id).encode()),),
        )

    async def _results(
        self, job_id: str, owner: str, receive: Receive, send: Send, stream: JobStream
    ) -> None:
        status = await self._jobs.status(job_id, owner)
        headers = [(b"content-type", NDJSON_TYPE), (STATE_HEADER, status.state.encode())]
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
            async for block in _blocks(self._jobs.results(job_id)):
                async with asyncio.timeout(self._bodies.idle_s):
                    message = {"type": "http.response.body", "body": block, "more_body": True}
                    await stream.waiting(send(message))
                stream.moved(len(block))
                if gone.done():
                    return
            await send({"type": "http.response.body", "body": b""})
        except (HeadwayError, TimeoutError) as error:
            # Too late for a status. That the body has no end tells the client.
            reason = (
                error.message if isinstance(error, HeadwayError) else "the client does not read"
            )
            _LOG.warning("the results of job %s were cut short: %s", job_id, reason)
        except asyncio.CancelledError:
            if not stream.ends_here():
                raise
            _LOG.warning("the results of job %s were cut short: another needs the place", job_id)
        except Exception:
            _LOG.exception("the results of job %s were cut short", job_id)
        finally:
            gone.cancel()

    @property
    def _jobs(self) -> Jobs:
        if self._kept is None:
            raise JobsNotKept("this server keeps no jobs; start it with --redis_url")
        return self._kept

    def _owner(self, scope: Scope) -> str:
        """Empty where nobody is asked for. Raises InvalidRequest where the header names nobody."""
        if not self._owner_header:
            return ""
        name = self._owner_header.encode()
        owners = [value.strip() for key, value in scope["headers"] if key == name]
        if len(owners) != 1 or not 0 < len(owners[0]) <= MAX_OWNER_BYTES:
            raise InvalidRequest(
                f"{self._owner_header}: must name the caller, once; ask by way of the proxy that"
                " sets it"
            )
        owner: bytes = owners[0]
        return owner.decode("latin-1")

    def _tier(self, headers: Headers) -> tuple[str, int | None]:
        status = self._service.engine.status()
        named = headers.get(TIER_HEADER.encode())
        tier = status.bulk_tier if named is None else named.decode("latin-1")
        if not tier:
            raise InvalidRequest(
                f"{TIER_HEADER}: every tier has an SLO; name the one that the job is to run in"
            )
        if tier not in status.tiers:
            raise InvalidRequest(
                f"{TIER_HEADER}: tier {shown(tier)} is unknown; use one of: "
                + ", ".join(status.tiers)
            )
        return tier, status.tiers[tier]


def _progress(status: JobStatus) -> bytes:
    shown = _Progress(**msgspec.structs.asdict(status), ratio=status.progress)
    return msgspec.json.encode(shown)


async def _counted(parts: AsyncIterator[bytes], stream: JobStream) -> AsyncIterator[bytes]:
    """The parts of a body, awaited on the client's account."""
    while True:
        try:
            part = await stream.waiting(anext(parts))
        except StopAsyncIteration:
            return
        stream.moved(len(part))
        yield part


async def _blocks(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines with their ends, several to a block."""
    block = bytearray()
    async for line in lines:
        block += line
        block += b"\n"
        if len(block) >= BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
