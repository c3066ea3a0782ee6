"""Puts a model that generates together: checkpoint, tokenizer, pages, and a trial at the end."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from predictor.core.errors import StartupError
from predictor.core.model import GenerationSpec, ModelSettings, ModelSpec, Task
from predictor.engine.port import StepRunner
from predictor.runner.checkpoint import (
    check_weights,
    find_checkpoint,
    first_line,
)
from predictor.runner.decoder import DecoderWeights
from predictor.runner.decoder_config import DecoderShape, read_decoder_config
from predictor.runner.decoder_weights import join_weights, load_decoder
from predictor.runner.device import choose_device, choose_dtype, use_cpu_cores
from predictor.runner.generation_config import GenerationDefaults, read_generation_config
from predictor.runner.generation_trial import compare_forwards
from predictor.runner.generator import Generator
from predictor.runner.paged_memory import PAGE_TOKENS, PagedMemory, choose_pages
from predictor.runner.small_model import small_model_folder
from predictor.runner.tokenizer import CheckpointTokenizer, load_tokenizer
from predictor.runner.weights import silence_transformers

if TYPE_CHECKING:
    from predictor.runner.fused_generator import FusedGenerator

_LOG = logging.getLogger("headway.runner")

SLOTS = {"cpu": 256, "cuda": 512}
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_DEFAULT_TEMPLATE = "default"  # its name where a checkpoint has several


@dataclass(frozen=True, slots=True, eq=False)
class _Text:
    """How texts become ids, and conversations texts."""

    tokenizer: CheckpointTokenizer
    longest: float  # tokens that the tokenizer's own settings allow
    chat_template: str
    special_tokens: Mapping[str, str]


def load_generator(settings: ModelSettings) -> StepRunner:
    """Load a model that generates text. `settings` are checked already. Raises StartupError."""
    silence_transformers()
    device = choose_device(settings.device)
    if device.type == "cpu":
        use_cpu_cores()
    given = settings.model_dir or settings.model_id
    folder = find_checkpoint(settings) if given else small_model_folder()
    config, shape = read_decoder_config(folder)
    defaults = read_generation_config(folder, config)
    check_weights(folder)
    text = _read_text(folder)
    dtype = choose_dtype(settings.dtype, device)
    model = load_decoder(folder, config, dtype)
    try:
        weights = join_weights(model, shape, device)
        memory = _make_memory(settings, shape, dtype, device, text.longest)
    except torch.OutOfMemoryError:
        raise StartupError(
            f"model {settings.name!r} does not fit into the memory of {device}; use a smaller"
            " model, another device, a 16-bit dtype or less kv_cache_gib"
        ) from None
    spec = _spec(settings, weights, memory, text, defaults, device)
    if device.type == "cpu":
        generator: Generator | FusedGenerator = Generator(spec, weights, memory)
    else:
        generator = _fuse(spec, weights, memory, device, graphs=settings.capture_graphs)
    _try_out(generator, model)
    return generator


def _fuse(
    spec: ModelSpec,
    weights: DecoderWeights,
    memory: PagedMemory,
    device: torch.device,
    *,
    graphs: bool,
) -> "FusedGenerator":
    """Raises StartupError where its kernels cannot be compiled."""
    from predictor.runner.fused_loading import fuse  # Triton is where there is a GPU

    try:
        return fuse(spec, weights, memory, device, graphs=graphs)
    except torch.OutOfMemoryError:
        raise StartupError(
            f"model {spec.name!r} fits into the memory of {device}, but what it computes with does"
            " not; use less kv_cache_gib, a smaller model or another device"
        ) from None


def _make_memory(
    settings: ModelSettings,
    shape: DecoderShape,
    dtype: torch.dtype,
    device: torch.device,
    longest: float,
) -> PagedMemory:
    slots = SLOTS[device.type]
    max_tokens = int(min(shape.context, longest))
    pages = choose_pages(
        shape,
        slots=slots,
        max_tokens=max_tokens,
        dtype=dtype,
        device=device,
        asked_gib=settings.kv_cache_gib,
    )
    held = pages * PAGE_TOKENS
    if held < max_tokens:
        _LOG.warning(
            "%s: a row may have %d tokens instead of %d, because keys and values of no more fit;"
            " give more memory with kv_cache_gib",
            *(settings.name, held, max_tokens),
        )
    memory = PagedMemory(
        shape,
        pages=pages,
        slots=slots,
        max_tokens=min(max_tokens, held),
        dtype=dtype,
        device=device,
    )
    _LOG.info(
        "%s: %d pages of %d tokens, %.2f GiB, for keys and values",
        *(settings.name, pages, PAGE_TOKENS, memory.bytes / 2**30),
    )
    return memory


def _spec(
    settings: ModelSettings,
    weights: DecoderWeights,
    memory: PagedMemory,
    text: _Text,
    defaults: GenerationDefaults,
    device: torch.device,
) -> ModelSpec:
    return ModelSpec(
        name=settings.name,
        task=Task.TEXT_GENERATION,
        row_datatype="INT64",
        result_datatype="INT64",
        result_width=0,
        max_tokens=memory.max_tokens,
        tokenizer_file=text.tokenizer.within(weights.shape.vocabulary).export(),
        vocabulary_size=weights.shape.vocabulary,
        packed=True,
        device=str(device),
        generation=GenerationSpec(
            page_tokens=PAGE_TOKENS,
            pages=memory.pages,
            slots=memory.slots,
            end_ids=defaults.end_ids,
            chat_template=text.chat_template,
            special_tokens=text.special_tokens,
            defaults=defaults.sampling,
            prefix_cache=settings.prefix_cache,
        ),
    )


def _read_text(folder: Path) -> _Text:
    """The tokenizer as transformers makes it of all of the checkpoint's files.

    Raises StartupError if there is none, or none that works without transformers.
    """
    if not any((folder / name).exists() for name in _VOCABULARIES):
        raise StartupError(
            f"{folder} has no tokenizer (tokenizer.json); copy the whole checkpoint there again"
        )
    tokenizer = load_tokenizer(folder)
    loaded = tokenizer.loaded
    special = {
        name: token for name, token in loaded.special_tokens_map.items() if isinstance(token, str)
    }
    return _Text(tokenizer, tokenizer.max_tokens, _template(folder, loaded), special)


def _template(folder: Path, loaded: Any) -> str:
    template = loaded.chat_template
    if isinstance(template, dict):
        if _DEFAULT_TEMPLATE not in template:
            _LOG.warning(
                "%s: none of the chat templates %s is called default, so there is no chat",
                *(folder, ", ".join(template)),
            )
        template = template.get(_DEFAULT_TEMPLATE)
    return template or ""


def _try_out(generator: "Generator | FusedGenerator", model: PreTrainedModel) -> None:
    spec = generator.spec
    try:
        compare_forwards(generator, model)
    except StartupError:
        raise
    except Exception as error:  # whatever it is, the model cannot serve
        raise StartupError(
            f"model {spec.name!r} loads but does not run on {spec.device}: {first_line(error)}"
        ) from None
