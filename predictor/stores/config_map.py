"""The parameter document in a ConfigMap: read at start, watched while serving, never polled.

List, then watch from the list's version on. A watch that ends goes on from the last version that
it told; where that is too old (410), the ConfigMap is listed anew. What makes a difference is the
document alone: an edit of labels, or of the history that the dashboard keeps beside it, is no news.

Trouble on the way to the API server says nothing of the document. It is told once, and tried again
after pauses that grow; the parameters in force stay.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from predictor.config_maps import DOCUMENT_KEY, ConfigMapPlace, refusal, unreachable
from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.parameters import Parameters, parse_document
from predictor.stores.config_map_api import GONE, ApiProblem, ConfigMapApi, Kind, Seen
from predictor.stores.file import FileStore
from predictor.stores.pauses import Pauses

_LOG = logging.getLogger("headway.parameters")

LOAD_WITHIN_S = 15.0  # at start, where there is no fallback
RIGHTS = "get, list and watch"


class ConfigMapStore:
    """The parameters in one ConfigMap, under the key parameters.yaml."""

    def __init__(
        self,
        place: ConfigMapPlace,
        fallback: Path | None = None,
        *,
        load_within_s: float = LOAD_WITHIN_S,
        pauses: Pauses | None = None,
    ) -> None:
        """`fallback`: the same ConfigMap, mounted, for a start without the API server."""
        self.place = place
        self._fallback = fallback
        self._load_within_s = load_within_s
        self._pauses = pauses or Pauses()
        self._seen: str | None = None  # the last document, or why there was none
        self._trouble: int | None = None  # the status that was told, while there is trouble

    def load(self) -> Parameters:
        """The parameters to start with: the API server's, or else the fallback's.

        Raises:
            StartupError: neither has any; the message says why.
        """
        try:
            return asyncio.run(self._load())
        except ParametersRefused as problem:
            if self._fallback is None:
                raise StartupError(problem.message) from None
            return self._fall_back(self._fallback, problem.message)

    async def watch(self) -> AsyncGenerator[Parameters | ParametersRefused, None]:
        """Yield every new document, accepted or refused, as soon as the API server tells of it.

        Begins with what differs from what `load` saw. The same document twice in a row is told
        once. Without the ConfigMap or its key there is a refusal, and without the right to see it;
        it is seen again when it comes back. Goes on until closed.
        """
        api = ConfigMapApi(self.place)
        now_s = asyncio.get_running_loop().time
        version = ""  # to go on from; none: list first
        try:
            while True:
                began_s, listing = now_s(), not version
                try:
                    async with aclosing(_sights(api, version)) as sights:
                        async for seen in sights:
                            version = seen.version
                            self._note_success()
                            news = await asyncio.to_thread(self._look, seen)
                            if news is not None:
                                yield news
                except ApiProblem as problem:
                    if problem.status == GONE:
                        version = ""
                        if not listing:
                            continue  # at once: what was missed can be listed
                    told = self._note_trouble(problem)
                    if told is not None:
                        yield told
                await asyncio.sleep(self._pauses.after_s(now_s() - began_s))
        finally:
            await api.close()

    async def _load(self) -> Parameters:
        """Raises ParametersRefused."""
        api = ConfigMapApi(self.place)
        try:
            found = self._look(await self._first(api))
        finally:
            await api.close()
        if isinstance(found, ParametersRefused):
            raise found
        assert found is not None, "nothing was seen before"
        return found

    async def _first(self, api: ConfigMapApi) -> Seen:
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        while True:
            try:
                return await api.current()
            except ApiProblem as problem:
                pause_s = self._pauses.after_s(0.0)
                late = now_s() + pause_s > began_s + self._load_within_s
                if late or self._fallback is not None or not problem.passes:
                    raise ParametersRefused("", self._sentence(problem)) from None
            await asyncio.sleep(pause_s)

    def _fall_back(self, fallback: Path, problem: str) -> Parameters:
        self._seen = None  # whatever the API server tells goes before the fallback
        try:
            parameters = FileStore(fallback).load()
        except StartupError as other:
            raise StartupError(f"{problem}; {other.message}") from None
        _LOG.warning("%s; until then the parameters are those of %s", problem, fallback)
        return parameters

    def _look(self, seen: Seen) -> Parameters | ParametersRefused | None:
        """What the ConfigMap says now, if that is news."""
        if seen.kind is Kind.SAME:
            return None
        if seen.document is None:
            problem = (
                refusal(self.place, 404, RIGHTS, "")
                if seen.kind is Kind.ABSENT
                else f"{self.place} has no key {DOCUMENT_KEY}; put the document there"
            )
            return ParametersRefused("", problem) if self._is_news(problem) else None
        if not self._is_news(seen.document):
            return None
        try:
            return parse_document(seen.document.encode())
        except ParametersRefused as problem:
            return problem

    def _is_news(self, seen: str) -> bool:
        before, self._seen = self._seen, seen
        return seen != before

    def _note_success(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            _LOG.info("%s is watched again", self.place)

    def _note_trouble(self, problem: ApiProblem) -> ParametersRefused | None:
        """Say it once: a refusal at once, an outage when it lasts."""
        status = 0 if problem.passes else problem.status
        if status == self._trouble or (problem.passes and not self._pauses.at_longest):
            return None
        self._trouble = status
        sentence = self._sentence(problem)
        if not problem.passes:
            return ParametersRefused("", sentence)
        _LOG.warning("%s; no edit is seen until then, the last good parameters stay", sentence)
        return None

    def _sentence(self, problem: ApiProblem) -> str:
        if problem.status:
            return refusal(self.place, problem.status, RIGHTS, problem.reason)
        return unreachable(self.place, problem.reason)


async def _sights(api: ConfigMapApi, version: str) -> AsyncGenerator[Seen, None]:
    """What is there, without a version to go on from, then every change."""
    if not version:
        seen = await api.current()
        version = seen.version
        yield seen
    async with aclosing(api.changes(version)) as changes:
        async for seen in changes:
            yield seen
