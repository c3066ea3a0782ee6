"""Puts a text model together: checkpoint, tokenizer, network and spec, tried once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, ModelSpec, Task
from predictor.core.rows import Packing
from predictor.engine.port import Runner
from predictor.runner.checkpoint import check_weights, find_checkpoint, first_line, read_config
from predictor.runner.device import choose_device, choose_dtype, move_to, use_cpu_cores
from predictor.runner.encoder import EncoderRunner
from predictor.runner.heads import build_head
from predictor.runner.ids import decode_rows, pad_rows
from predictor.runner.joining import join_projections
from predictor.runner.networks import Classifier, Embedder, Network, PaddedTokens, TopicScorer
from predictor.runner.packable import FAMILIES, choose_layout
from predictor.runner.sentence import SentenceLayout, read_layout
from predictor.runner.tokenizer import CheckpointTokenizer, load_tokenizer
from predictor.runner.topics import DEFAULT_LABELS, SCALE, phrases_for
from predictor.runner.weights import (
    first_position,
    load_weights,
    positions,
    read_encoder_config,
    silence_transformers,
    stated_positions,
    vocabulary_size,
)

_UNSTATED_TOKENS = 512  # the limit where no file of the checkpoint gives one
_UNREACHED_TOKENS = 1e12
_PROBE_TOKENS = 512


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    """What is in the folder, read and checked; the weights are on the device."""

    layout: SentenceLayout
    config: PreTrainedConfig
    labels: tuple[str, ...]
    tokenizer: CheckpointTokenizer
    model: PreTrainedModel
    max_tokens: int

    @property
    def pad_id(self) -> int:
        return self.config.pad_token_id or 0


def load_encoder(settings: ModelSettings) -> Runner:
    """Load a model of a text task. `settings` are checked already. Raises StartupError."""
    device = choose_device(settings.device)
    if device.type == "cpu":
        use_cpu_cores()
    checkpoint = _read_checkpoint(settings, device)
    network, packed = _build_network(settings, checkpoint)
    spec = ModelSpec(
        name=settings.name,
        task=settings.task,
        row_datatype="INT64",
        result_datatype="FP32",
        result_width=network.width,
        max_tokens=checkpoint.max_tokens,
        labels=checkpoint.labels,
        tokenizer_file=checkpoint.tokenizer.export(),
        prompt=checkpoint.layout.prompt,
        vocabulary_size=vocabulary_size(checkpoint.model),
        packed=packed,
        device=str(device),
    )
    runner = _make_runner(spec, network, checkpoint.pad_id, capture=settings.capture_graphs)
    _probe(runner)
    return runner


def _make_runner(spec: ModelSpec, network: Network, pad_id: int, *, capture: bool) -> Runner:
    device = torch.device(spec.device)
    if device.type == "cpu":
        return EncoderRunner(spec, network, pad_id)
    from predictor.runner import capture as capturing
    from predictor.runner.cuda import CudaEncoderRunner

    compute = torch.cuda.Stream(device)
    graphs = capturing.Graphs([])
    if spec.packed and capture:
        graphs = capturing.capture(network, capturing.ladder(), compute, spec.max_tokens)
        spec = msgspec.structs.replace(spec, steps=graphs.steps)
    return CudaEncoderRunner(spec, network, pad_id, graphs, compute)


def _read_checkpoint(settings: ModelSettings, device: torch.device) -> _Checkpoint:
    silence_transformers()
    folder = find_checkpoint(settings)
    classify = settings.task is Task.TEXT_CLASSIFICATION
    layout = SentenceLayout(folder) if classify else read_layout(folder)
    config = read_encoder_config(layout.encoder)
    labels = _labels(settings, layout.encoder, config)
    check_weights(layout.encoder)
    tokenizer = load_tokenizer(
        layout.encoder, max_tokens=layout.max_tokens, lowercase=layout.lowercase
    )
    model = load_weights(
        layout.encoder, config, choose_dtype(settings.dtype, device), classify=classify
    )
    tokenizer = tokenizer.within(vocabulary_size(model))
    max_tokens = _max_tokens(model, layout, tokenizer)
    move_to(device, model, settings.name)
    if device.type != "cpu" and config.model_type in FAMILIES:  # a CPU gains next to nothing
        join_projections(model)
    return _Checkpoint(layout, config, labels, tokenizer, model, max_tokens)


def _labels(settings: ModelSettings, folder: Path, config: PreTrainedConfig) -> tuple[str, ...]:
    match settings.task:
        case Task.TOPIC:
            return settings.labels or DEFAULT_LABELS
        case Task.TEXT_CLASSIFICATION:
            if config.problem_type == "regression":
                raise StartupError(
                    "the checkpoint is for regression (problem_type in config.json), which has no"
                    " probabilities; use one fine-tuned for classification"
                )
            return _read_labels(folder / "config.json", config)
        case _:
            return ()


class _StatedLabels(msgspec.Struct, frozen=True):
    """Transformers mends what does not agree, and says so in its log alone."""

    num_labels: int | None = None
    id2label: dict[int, str] | None = None


def _read_labels(path: Path, config: PreTrainedConfig) -> tuple[str, ...]:
    """The name of each output, in order. Raises StartupError where there is no such order."""
    stated = read_config(path, _StatedLabels)
    names = stated.id2label
    if names is None:
        return tuple((config.id2label or {}).values())  # transformers' own, in order
    missing = sorted(set(range(len(names))) - set(names))
    if missing:
        raise StartupError(
            f"{path}: id2label names {len(names)} labels, but none of number {missing[0]}; number"
            " them from 0 without a gap"
        )
    if stated.num_labels is not None and stated.num_labels != len(names):
        raise StartupError(
            f"{path}: num_labels is {stated.num_labels}, but id2label names {len(names)}; make"
            " them agree"
        )
    return tuple(names[index] for index in range(len(names)))


def _build_network(settings: ModelSettings, checkpoint: _Checkpoint) -> tuple[Network, bool]:
    """The network, and whether it may be given packed rows."""
    model, config, layout = checkpoint.model, checkpoint.config, checkpoint.layout
    labels = checkpoint.labels
    if settings.task is Task.TEXT_CLASSIFICATION:
        independent = config.problem_type == "multi_label_classification" or len(labels) == 1
        network: Network = Classifier(model, len(labels), independent, first_position(model))
        return _choose_layout(settings.name, checkpoint, network)
    head, width = build_head(layout, config.hidden_size * len(layout.pooling))
    embedder, packed = _choose_layout(
        settings.name,
        checkpoint,
        Embedder(model, layout.pooling, head.to(model.device), width, first_position(model)),
    )
    if settings.task is Task.TEXT_EMBEDDING:
        return embedder, packed
    vectors = [_embed(embedder, checkpoint, phrases_for(label)).mean(dim=0) for label in labels]
    return TopicScorer(embedder, torch.stack(vectors), SCALE), packed


def _choose_layout(name: str, checkpoint: _Checkpoint, network: Network) -> tuple[Network, bool]:
    return choose_layout(
        network,
        checkpoint.model,
        name,
        checkpoint.max_tokens,
        checkpoint.pad_id,
        checkpoint.tokenizer.special_ids,
    )


@torch.inference_mode()
def _embed(embedder: Network, checkpoint: _Checkpoint, texts: Sequence[str]) -> Tensor:
    """The vectors [n, width] of `texts`, of length 1, on the model's device."""
    prompted = [checkpoint.layout.prompt + text for text in texts]
    rows = [
        np.array(ids[: checkpoint.max_tokens], dtype=np.int64).tobytes()
        for ids in checkpoint.tokenizer.ids(prompted)
    ]
    batch = pad_rows(decode_rows(rows), checkpoint.pad_id)
    device = checkpoint.model.device
    ids, mask = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.mask).to(device)
    return functional.normalize(embedder(PaddedTokens(ids, mask)), dim=-1)


def _max_tokens(
    model: PreTrainedModel, layout: SentenceLayout, tokenizer: CheckpointTokenizer
) -> int:
    """The longest row: what sentence-transformers cuts at, where there are positions for it.

    Its `max_seq_length` goes before what the tokenizer says, even where that is less.
    """
    limits = [positions(model), tokenizer.max_tokens]
    if layout.max_tokens is None:
        limits.append(stated_positions(model.config))
    tightest = min(limits)
    # Where no file says, transformers' tokenizers give a number that no text reaches.
    most = int(tightest) if tightest < _UNREACHED_TOKENS else _UNSTATED_TOKENS
    frame = len(tokenizer.ids([""])[0])
    if most <= frame:
        raise StartupError(
            f"the checkpoint in {layout.encoder} takes {most} tokens, of which its tokenizer needs"
            f" {frame} around a text; set max_seq_length or model_max_length to more"
        )
    return most


def _probe(runner: Runner) -> None:
    """Run one long row and one short; what is not finite now never will be."""
    spec = runner.spec
    ids = np.arange(min(spec.max_tokens, _PROBE_TOKENS)) % spec.vocabulary_size
    try:
        results = [
            result
            for packing in Packing
            for result in runner.run([ids.tobytes(), ids[:1].tobytes()], packing)
        ]
    except Exception as error:  # whatever it is, the model cannot serve
        raise StartupError(
            f"model {spec.name!r} loads but does not run on {spec.device}: {first_line(error)}"
        ) from None
    if not np.isfinite(np.frombuffer(b"".join(results), dtype=np.float32)).all():
        raise StartupError(
            f"model {spec.name!r} answers with values that are not finite; its weights are"
            " damaged, or too large for the dtype: try dtype float32"
        )
