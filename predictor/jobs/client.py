"""A client of the routes of jobs, for bodies and results of any size."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self
from urllib.parse import quote

import httpx
import msgspec

from predictor.core.jobs import JobState, JobStatus
from predictor.core.shown import without_secrets

BLOCK_BYTES = 1 << 16
CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 90.0  # also between two pieces of a body
PATIENCE_S = 120.0  # a job is followed through an outage of so long
FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 2.0

_ENDED = (JobState.DONE, JobState.CANCELLED)
_ALLOWED = httpx.Timeout(ANSWER_WITHIN_S, connect=CONNECT_WITHIN_S)
_STATE_HEADER = "x-headway-job-state"
_TIER_HEADER = "x-headway-tier"


class JobsFailed(Exception):
    """What was asked did not happen, and why. `passing`: it may, later."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class Submitted(msgspec.Struct, frozen=True):
    id: str
    state: JobState
    total: int


class _Error(msgspec.Struct):
    error: str


class JobsClient:
    """Talks to one server. All methods raise JobsFailed. Close it, or use it in `with`."""

    def __init__(
        self, url: str, transport: httpx.BaseTransport | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._url = without_secrets(url)  # as it is shown
        self._patience_s = patience_s
        try:
            self._http = httpx.Client(base_url=url, timeout=_ALLOWED, transport=transport)
        except (httpx.InvalidURL, ValueError):  # whose text quotes parts of it
            raise JobsFailed(
                f"--url {self._url} is not a URL such as http://127.0.0.1:8080"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, model: str, body: Iterable[bytes], tier: str | None = None) -> Submitted:
        """Send NDJSON, in whatever pieces."""
        headers = {"content-type": "application/x-ndjson"}
        if tier is not None:
            headers[_TIER_HEADER] = tier
        path = f"/v2/models/{quote(model, safe='')}/jobs"
        with self._answer("POST", path, content=body, headers=headers) as answer:
            return msgspec.json.decode(answer.read(), type=Submitted)

    def status(self, job_id: str) -> JobStatus:
        return self._told("GET", job_id)

    def cancel(self, job_id: str) -> JobStatus:
        return self._told("DELETE", job_id)

    @contextmanager
    def results(self, job_id: str) -> Iterator[tuple[JobState, Iterator[bytes]]]:
        """The job's state, and its results so far as NDJSON, in pieces."""
        with self._answer("GET", f"{_path(job_id)}/results") as answer:
            yield JobState(answer.headers[_STATE_HEADER]), answer.iter_raw(BLOCK_BYTES)

    def follow(
        self, job_id: str, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[JobStatus]:
        """Status after status, until the job has ended. Outages are waited out."""
        look_s = FIRST_LOOK_S  # HTTP has nobody who would tell us
        well_s = time.monotonic()
        while True:
            try:
                status = self.status(job_id)
            except JobsFailed as failure:
                if not failure.passing or time.monotonic() - well_s > self._patience_s:
                    raise
            else:
                well_s = time.monotonic()
                yield status
                if status.state in _ENDED:
                    return
            sleep(look_s)
            look_s = min(1.5 * look_s, LONGEST_LOOK_S)

    def _told(self, method: str, job_id: str) -> JobStatus:
        with self._answer(method, _path(job_id)) as answer:
            return msgspec.json.decode(answer.read(), type=JobStatus)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        content: Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, path, content=content, headers=headers) as answer:
                if not answer.is_success:
                    raise _refusal(answer)
                yield answer
        except httpx.HTTPError as error:
            reason = without_secrets(str(error)) or type(error).__name__
            raise JobsFailed(
                f"{self._url} cannot be reached, or broke off: {reason}", passing=True
            ) from None
        except msgspec.MsgspecError as error:
            raise JobsFailed(f"{self._url} is no Headway server: {error}") from None


def _path(job_id: str) -> str:
    return f"/v2/jobs/{quote(job_id, safe='')}"


def _refusal(answer: httpx.Response) -> JobsFailed:
    body = answer.read()
    try:
        message = msgspec.json.decode(body, type=_Error).error
    except msgspec.MsgspecError:
        message = f"status {answer.status_code}: {body[:200].decode(errors='replace')}"
    return JobsFailed(message, passing="retry-after" in answer.headers)
