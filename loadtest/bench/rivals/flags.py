"""The flags that every rival's server takes."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RivalFlags:
    """`workers` are copies of the model on the device; `edges` are HTTP processes."""

    model_dir: str
    port: int
    device: str
    batch_size: int
    wait_ms: float
    workers: int
    edges: int


def rival_flags() -> RivalFlags:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--wait_ms", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--edges", type=int, default=1)
    return RivalFlags(**vars(parser.parse_args()))
