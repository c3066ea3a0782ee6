"""A torch profiler trace of a model's first batches in traffic, for Perfetto or chrome://tracing.

The profiler sees the CPU side of the thread that started it, and the device's side of all.
Only that thread may stop it, too: where another does, the process crashes. So it is started
and stopped on the thread that launches batches; the file, which takes longer to write than
many batches to run, is written on another.
"""

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from predictor.core.errors import StartupError
from predictor.core.model import ModelSpec
from predictor.core.rows import Packing
from predictor.engine.port import Launched, PipelinedRunner, Runner

_LOG = logging.getLogger("headway.runner")


def traced(runner: Runner, batches: int, folder: Path) -> Runner:
    """The runner, of whose next `batches` batches a trace will be written into `folder`.

    Raises StartupError if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"--profile_dir {folder} cannot be made: {error.strerror}; give a folder that this"
            " user may write"
        ) from None
    trace = _Trace(runner.spec.name, batches, folder)
    if isinstance(runner, PipelinedRunner):
        return _TracedPipeline(runner, trace)
    return _TracedRunner(runner, trace)


class _Trace:
    """Counts batches; starts with the first and ends with the last."""

    def __init__(self, model: str, batches: int, folder: Path) -> None:
        self._model = model
        self._batches = batches
        self._left = batches
        self._folder = folder
        self._profile: profile | None = None
        self._thread = 0  # that started it

    def before(self) -> None:
        self._stop_if_done()  # the last batch may have ended on another thread
        if self._left == self._batches and self._profile is None:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(activities=activities)
            self._profile.start()
            self._thread = threading.get_ident()

    def after(self) -> None:
        self._left -= 1
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if self._left > 0 or self._profile is None or self._thread != threading.get_ident():
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        finished, self._profile = self._profile, None
        finished.stop()
        # Not a daemon: a server that is told to stop now still writes what it recorded.
        threading.Thread(target=self._write, args=(finished,), name="trace").start()

    def _write(self, finished: profile) -> None:
        path = self._folder / f"{self._model}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
        try:
            finished.export_chrome_trace(str(path))
            path.stat()  # torch itself does not say when it could not
        except (OSError, RuntimeError) as error:
            _LOG.warning("the trace cannot be written to %s: %s", path, error)
            return
        _LOG.info("a trace of %d batches is in %s; open it in Perfetto", self._batches, path)


class _TracedRunner:
    def __init__(self, runner: Runner, trace: _Trace) -> None:
        self._runner = runner
        self._trace = trace

    @property
    def spec(self) -> ModelSpec:
        return self._runner.spec

    def run(self, rows: Sequence[bytes], packing: Packing) -> Sequence[bytes]:
        self._trace.before()
        try:
            return self._runner.run(rows, packing)
        finally:
            self._trace.after()


class _TracedPipeline(_TracedRunner):
    def __init__(self, runner: PipelinedRunner, trace: _Trace) -> None:
        super().__init__(runner, trace)
        self._pipeline = runner

    def launch(self, rows: Sequence[bytes], packing: Packing) -> Launched | None:
        self._trace.before()
        launched = self._pipeline.launch(rows, packing)
        if launched is not None:
            self._trace.after()
        return launched
