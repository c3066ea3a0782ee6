"""`python -m loadtest.bench_gpu.sweep`: the batching sweep of BERT-base on this machine's GPU.

The weights are random, made at the start. `--tiny` rehearses it where there is no GPU. What is
given besides goes to `python -m loadtest sweep` and wins over what is set here.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.__main__ import EXIT_WRONG, main
from loadtest.bench.errors import BenchError
from loadtest.bench_gpu.checkpoints import write_bert_apart
from loadtest.options import RESULTS

TINY_FLAG = "--tiny"
# Lengths of real texts; the largest size fills max_batch_tokens with them.
ON_GPU = (
    *("--waits_ms", "0,2,5,10", "--sizes", "8,32,128,512", "--rates", "500,2000,4000"),
    *("--slo_ms", "50", "--seconds", "4", "--price_per_hour", "3"),
    *("--title", "BERT-base on one GPU"),
)
ON_CPU = (
    *("--waits_ms", "0,10", "--sizes", "1,16", "--rates", "20,40"),
    *("--slo_ms", "200", "--seconds", "2", "--title", "A tiny BERT on a CPU"),
)


def sweep_on_gpu(arguments: Sequence[str]) -> int:
    tiny = TINY_FLAG in arguments
    folder = RESULTS / ("bert-tiny" if tiny else "bert-base")
    try:
        if not (folder / "tokenizer.json").exists():
            write_bert_apart(folder, tiny=tiny)
    except BenchError as error:
        print(f"sweep: {error}", file=sys.stderr)
        return EXIT_WRONG
    return main(
        [
            *("sweep", "--model", "bert", "--serve", serve_flags(folder, tiny=tiny)),
            *(ON_CPU if tiny else ON_GPU),
            *(argument for argument in arguments if argument != TINY_FLAG),
        ]
    )


def serve_flags(folder: Path, *, tiny: bool) -> str:
    where = "--device cpu" if tiny else "--device cuda --dtype bfloat16 --workers 8"
    return f"--task text-classification --model_dir {folder} {where}"


if __name__ == "__main__":
    sys.exit(sweep_on_gpu(sys.argv[1:]))
