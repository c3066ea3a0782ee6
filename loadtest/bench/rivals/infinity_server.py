"""Infinity: pip install infinity-emb[server,torch] transformers<5

One process speaks HTTP and batches; rows are sorted by length first, so it pads little. It
does not wait for a batch to fill, so `wait_ms` says nothing to it. `workers` are replicas of
the model on the device.
"""

import os
import sys

from loadtest.bench.rivals.flags import RivalFlags, rival_flags


def serve(flags: RivalFlags) -> None:
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["INFINITY_ANONYMOUS_USAGE_STATS"] = "0"
    from infinity_emb.cli import cli

    on_gpu = flags.device != "cpu"
    sys.argv = [
        *("infinity_emb", "v2", "--model-id", flags.model_dir, "--served-model-name", "bert"),
        *("--engine", "torch", "--device", flags.device, "--batch-size", str(flags.batch_size)),
        *("--dtype", "bfloat16" if on_gpu else "float32"),
        *("--no-bettertransformer", "--no-compile", "--no-lengths-via-tokenize"),
        *("--host", "127.0.0.1", "--port", str(flags.port), "--log-level", "warning"),
    ]
    if on_gpu:
        sys.argv += ["--device-id", ",".join(["0"] * flags.workers)]
    cli()


if __name__ == "__main__":
    serve(rival_flags())
