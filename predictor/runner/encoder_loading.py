"""Puts a text model together: checkpoint, tokenizer, network and spec, tried once."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, ModelSpec, Task
from predictor.core.rows import Packing
from predictor.engine.port import Runner
from predictor.runner.checkpoint import (
    check_weights,
    export_tokenizer,
    find_checkpoint,
    first_line,
    load_tokenizer,
    lowercase,
    tokenizer_limit,
)
from predictor.runner.device import choose_device, choose_dtype, move_to, use_cpu_cores
from predictor.runner.encoder import EncoderRunner
from predictor.runner.ids import decode_rows, pad_rows
from predictor.runner.joining import join_projections
from predictor.runner.networks import Classifier, Embedder, Network, PaddedTokens, TopicScorer
from predictor.runner.packable import FAMILIES, can_pack
from predictor.runner.sentence import SentenceLayout, read_layout
from predictor.runner.topics import DEFAULT_LABELS, SCALE, phrases_for
from predictor.runner.weights import (
    first_position,
    load_weights,
    positions,
    read_encoder_config,
    silence_transformers,
    vocabulary_size,
)

_UNSTATED_TOKENS = 512  # the limit where no file of the checkpoint gives one
_PROBE_TOKENS = 512


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    """What is in the folder, read and checked; the weights are on the device."""

    layout: SentenceLayout
    config: PreTrainedConfig
    tokenizer: Tokenizer
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
    labels = _labels(settings, checkpoint.config)
    network = _build_network(settings.task, checkpoint, labels)
    packed = can_pack(network, checkpoint.model, checkpoint.max_tokens, checkpoint.pad_id)
    spec = ModelSpec(
        name=settings.name,
        task=settings.task,
        row_datatype="INT64",
        result_datatype="FP32",
        result_width=network.width,
        max_tokens=checkpoint.max_tokens,
        labels=labels,
        tokenizer_file=export_tokenizer(checkpoint.tokenizer),
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
    check_weights(layout.encoder)
    tokenizer = load_tokenizer(layout.encoder)
    if layout.lowercase:
        lowercase(tokenizer)
    model = load_weights(
        layout.encoder, config, choose_dtype(settings.dtype, device), classify=classify
    )
    move_to(device, model, settings.name)
    if device.type != "cpu" and config.model_type in FAMILIES:  # a CPU gains next to nothing
        join_projections(model)
    return _Checkpoint(layout, config, tokenizer, model, _max_tokens(model, layout))


def _labels(settings: ModelSettings, config: PreTrainedConfig) -> tuple[str, ...]:
    match settings.task:
        case Task.TOPIC:
            return settings.labels or DEFAULT_LABELS
        case Task.TEXT_CLASSIFICATION:
            if config.problem_type == "regression":
                raise StartupError(
                    "the checkpoint is for regression (problem_type in config.json), which has no"
                    " probabilities; use one fine-tuned for classification"
                )
            numbered = sorted((config.id2label or {}).items(), key=lambda entry: int(entry[0]))
            return tuple(str(name) for _, name in numbered)
        case _:
            return ()


def _build_network(task: Task, checkpoint: _Checkpoint, labels: tuple[str, ...]) -> Network:
    config, layout = checkpoint.config, checkpoint.layout
    if task is Task.TEXT_CLASSIFICATION:
        independent = config.problem_type == "multi_label_classification" or len(labels) == 1
        return Classifier(
            checkpoint.model, len(labels), independent, first_position(checkpoint.model)
        )
    embedder = Embedder(
        checkpoint.model,
        config.hidden_size,
        layout.pooling,
        layout.normalise,
        first_position(checkpoint.model),
    )
    if task is Task.TEXT_EMBEDDING:
        return embedder
    vectors = [_embed(embedder, checkpoint, phrases_for(label)).mean(dim=0) for label in labels]
    return TopicScorer(embedder, torch.stack(vectors), SCALE)


@torch.inference_mode()
def _embed(embedder: Embedder, checkpoint: _Checkpoint, texts: Sequence[str]) -> Tensor:
    """The vectors [n, width] of `texts`, of length 1, on the model's device."""
    rows = [
        np.array(encoding.ids[: checkpoint.max_tokens], dtype=np.int64).tobytes()
        for encoding in checkpoint.tokenizer.encode_batch(list(texts))
    ]
    batch = pad_rows(decode_rows(rows), checkpoint.pad_id)
    device = checkpoint.model.device
    ids, mask = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.mask).to(device)
    return functional.normalize(embedder(PaddedTokens(ids, mask)), dim=-1)


def _max_tokens(model: PreTrainedModel, layout: SentenceLayout) -> int:
    """The tightest of what the weights, the tokenizer and the sentence settings allow."""
    limits = (positions(model), tokenizer_limit(layout.encoder), layout.max_tokens)
    tightest = min(limits)
    return int(tightest) if tightest < float("inf") else _UNSTATED_TOKENS


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
