"""BentoML: pip install bentoml

Its adaptive batching inside workers that each serve HTTP and hold the model: on one machine
that was quicker than HTTP workers in front of one service with the model. `wait_ms` is the
latency that its batching aims at, as `max_latency_ms`, so far above the wait of others.
"""

import os
import sys

from loadtest.bench.rivals.flags import RivalFlags, rival_flags

SETTINGS = "HEADWAY_RIVAL_BENTOML"


def main(flags: RivalFlags) -> None:
    """Become `bentoml serve` of the service below, which reads its settings from here."""
    settings = f"{flags.model_dir}\n{flags.device}\n{flags.batch_size}\n{flags.wait_ms}"
    os.environ[SETTINGS] = f"{settings}\n{flags.workers}"
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.execv(  # noqa: S606 - the command is ours
        sys.executable,
        [
            *(sys.executable, "-m", "bentoml", "serve"),
            "loadtest.bench.rivals.bentoml_service:Service",
            *("--host", "127.0.0.1", "--port", str(flags.port)),
        ],
    )


if __name__ == "__main__":
    main(rival_flags())
