"""The predictor under load: its metrics, and its parameters, edited while it serves."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from loadtest.bench.errors import BenchError
from loadtest.bench.scrapes import Scrape, scrape
from loadtest.bench.servers import parameter_document
from loadtest.bench.tuning import in_force
from predictor.core.errors import ParametersRefused, StartupError
from predictor.core.parameters import ModelParameters, Parameters, parse_document
from predictor.core.shown import without_secrets
from predictor.metrics import names
from predictor.stores.file import FileStore

IN_FORCE_WITHIN_S = 10.0
GENERATION = names.PARAMETERS_GENERATION.name
FOLLOWS_WITHIN_S = 1.0  # a moment ago somebody may have edited the file
_GENERATION_LINE = re.compile(rb"""(?m)^(\s*\{?\s*["']?generation["']?\s*:\s*)\d+""")


@dataclass(frozen=True, slots=True)
class Target:
    """Raises BenchError where the URL is none, or nobody answers there."""

    url: str
    model: str

    def scrape(self) -> Scrape:
        host, port = self.address
        return scrape(port, host)

    @property
    def address(self) -> tuple[str, int]:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if parts.scheme != "http" or not host:
            raise BenchError(
                f"--url {without_secrets(self.url)} is not a URL such as http://127.0.0.1:8080"
            )
        return host, port

    def check(self) -> Scrape:
        """Its metrics, if it serves the model."""
        seen = self.scrape()
        generations = seen.values(GENERATION)
        if not generations:
            raise BenchError(
                f"{without_secrets(self.url)} has metrics, but not Headway's; is it a predictor?"
            )
        served = {
            dict(labels)["model"] for labels in seen.values(names.QUEUE_DEPTH.name) if labels
        } or {self.model}
        if self.model not in served:
            raise BenchError(
                f"model {self.model!r} is not served at {without_secrets(self.url)}; served: "
                f"{', '.join(sorted(served))}; choose one with --model"
            )
        return seen


class LiveParameters:
    """The file that the target follows. Each edit raises the generation, and waits for it."""

    def __init__(self, target: Target, path: Path) -> None:
        """Raises BenchError where the file cannot be read or is not what the target follows."""
        self._target = target
        self._store = FileStore(path)
        try:
            self.original = self._store.load()
            self._document = path.read_bytes()
        except (StartupError, OSError) as error:
            raise BenchError(
                f"{error}; give the file that the server follows with --parameters"
            ) from None
        self.current = self.original
        self.edits = 0

    def check(self) -> None:
        """Raises BenchError where the target follows another document."""
        if not self._is_in_force(self.original.generation, FOLLOWS_WITHIN_S):
            in_force = sorted(self._target.scrape().values(GENERATION).values())
            raise BenchError(
                f"{self._store.path} has generation {self.original.generation}, but the server "
                f"serves {', '.join(f'{each:.0f}' for each in in_force)}; give the file that the "
                "server was started with"
            )

    def edit(self, model: str, batching: ModelParameters) -> Parameters:
        """Serve the model so from now on; returns when that is in force."""
        changed = msgspec.structs.replace(
            self.current,
            generation=self.current.generation + 1,
            models={**self.current.models, model: batching},
        )
        self._write(parameter_document(changed))
        if not self._is_in_force(changed.generation, IN_FORCE_WITHIN_S):
            raise BenchError(
                f"generation {changed.generation} of {self._store.path} was not in force within "
                f"{IN_FORCE_WITHIN_S:g} s; does the server follow this file? Its log says more"
            )
        return changed

    def restore(self) -> None:
        """The original document, comments too, with a generation above all that were in force.

        Does not wait for it: the server may be gone.
        """
        if self.edits:
            self._write(with_generation(self._document, self.current.generation + 1))

    def _write(self, document: bytes) -> None:
        try:
            self.current = self._store.write(document, self.current.generation)
        except ParametersRefused as refusal:
            raise BenchError(f"the edit was refused: {refusal.message}") from None
        self.edits += 1

    def _is_in_force(self, generation: int, within_s: float) -> bool:
        return in_force(self._target.scrape, generation, within_s=within_s)


@contextlib.contextmanager
def edited_live(target: Target, path: Path) -> Iterator[LiveParameters]:
    """Parameters to edit while the block runs. The original is put back, however it ends."""
    live = LiveParameters(target, path)
    live.check()
    try:
        yield live
    finally:
        live.restore()


def with_generation(document: bytes, generation: int) -> bytes:
    """The document with another generation. What else is in it, comments too, stays."""
    changed = _GENERATION_LINE.sub(rb"\g<1>%d" % generation, document, count=1)
    try:
        if parse_document(changed).generation == generation:
            return changed
    except ParametersRefused:
        pass
    original = parse_document(document)
    return parameter_document(msgspec.structs.replace(original, generation=generation))
