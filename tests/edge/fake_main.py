"""A server of the real edge around the fake engine, as its own process."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from predictor.core.errors import StartupError
from predictor.core.facts import EdgeFact
from predictor.core.generation import Generated
from predictor.core.model import ModelSpec
from predictor.edge.server import EdgeSettings, serve
from predictor.engine.port import Reply, Submission
from predictor.log_lines import escape_log_lines
from tests.edge.fake_engine import SIMULATED, FakeEngine, text_specs


class _Servant(FakeEngine):
    """Keeps no record, so that it can be measured, and says what it holds.

    SIGUSR1 lets go what is held.
    """

    def submit(
        self, submission: Submission, part: Callable[[Generated], bool] | None = None
    ) -> asyncio.Future[Reply]:
        future = super().submit(submission)
        if self.hold and not self.draining:
            say("held None" if submission.timeout_s is None else "held with a timeout")
            future.add_done_callback(lambda done: say("cancelled") if done.cancelled() else None)
        return future

    def note(self, submission: Submission) -> None:
        pass

    def report(self, fact: EdgeFact) -> None:
        pass


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    escape_log_lines()
    parser = argparse.ArgumentParser()
    parser.add_argument("--http_port", type=int, required=True)
    parser.add_argument("--grpc_port", type=int, required=True)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--vocabulary", type=int, default=0)
    parser.add_argument("--grace_s", type=float, default=10.0)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--fail", choices=["startup", "other"])
    options, _ = parser.parse_known_args()
    models: dict[str, ModelSpec] = {"sim": SIMULATED}
    if options.tokenizer:
        models |= text_specs(options.tokenizer, options.vocabulary)
    engine = _Servant({}, loading=list(models))
    engine.hold = options.hold

    async def background() -> None:
        if options.fail == "startup":
            raise StartupError("--model_dir: nothing is there; name a folder with a checkpoint")
        if options.fail == "other":
            raise RuntimeError("boom")
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, engine.release)
        engine.models = models
        engine.loading = []
        say("ready")

    def on_drain() -> None:
        engine.draining = True
        say("drain")

    settings = EdgeSettings(
        model_names=tuple(models),
        host="127.0.0.1",
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        grace_s=options.grace_s,
    )
    return serve(engine, settings, background=background, on_drain=on_drain)


if __name__ == "__main__":
    sys.exit(main())
