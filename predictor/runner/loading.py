"""From settings to a loaded model. Every way that can go wrong is one clear StartupError."""

import math
import re

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.engine.port import AnyRunner, Runner, StepRunner
from predictor.runner.checkpoint import check_folder
from predictor.runner.simulated import SimulatedRunner
from predictor.runner.simulated_generation import SimulatedGenerator

MAX_LABELS = 1000
MAX_LABEL_CHARACTERS = 200
MAX_FIXED_MS = 60_000.0
MAX_TOKEN_US = 1e6
MIN_KV_CACHE_GIB, MAX_KV_CACHE_GIB = 1e-3, 4096.0
MAX_OUTPUT_TOKENS = 1e5
MAX_SIGMA = 3.0

DTYPES = ("auto", "float32", "bfloat16", "float16")
_WITH_DEFAULT_MODEL = (Task.TOPIC, Task.TEXT_GENERATION)
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def load_runner(settings: ModelSettings) -> Runner:
    """As `load_model`, for a model whose rows run whole."""
    runner = load_model(settings)
    if isinstance(runner, StepRunner):
        raise StartupError(f"model {settings.name!r} generates text, which is not asked of it here")
    return runner


def load_model(settings: ModelSettings) -> AnyRunner:
    """Load one model; takes seconds, and minutes where weights must be fetched.

    Raises:
        StartupError: the settings or the checkpoint are wrong, or do not fit the machine.
    """
    check_settings(settings)
    if settings.task is Task.SIMULATED:
        if settings.generates:
            return SimulatedGenerator(settings)
        return SimulatedRunner(settings)
    # Importing torch takes seconds and hundreds of MB, which a simulated model does not need.
    if settings.task is Task.SPEECH_RECOGNITION:
        from predictor.runner.speech_loading import load_speech

        return load_speech(settings)
    if settings.task is Task.TEXT_GENERATION:
        from predictor.runner.generation_loading import load_generator

        return load_generator(settings)
    from predictor.runner.encoder_loading import load_encoder

    return load_encoder(settings)


def check_settings(settings: ModelSettings) -> None:
    """Refuse what can be seen to be wrong without loading anything. Raises StartupError."""
    if not _DEVICE.fullmatch(settings.device):
        raise StartupError(f"device {settings.device!r} is unknown; use auto, cpu, cuda or cuda:N")
    if settings.dtype not in DTYPES:
        raise StartupError(f"dtype {settings.dtype!r} is unknown; use one of: {', '.join(DTYPES)}")
    if settings.labels:
        _check_labels(settings)
    _check_generation(settings)
    if settings.task is Task.SIMULATED:
        _check_range("simulated_fixed_ms", settings.simulated_fixed_ms, MAX_FIXED_MS)
        _check_range("simulated_token_us", settings.simulated_token_us, MAX_TOKEN_US)
        _check_range("simulated_output_tokens", settings.simulated_output_tokens, MAX_OUTPUT_TOKENS)
        _check_range("simulated_output_sigma", settings.simulated_output_sigma, MAX_SIGMA)
        _check_range("simulated_row_us", settings.simulated_row_us, MAX_TOKEN_US)
        _check_range("simulated_context_ns", settings.simulated_context_ns, MAX_TOKEN_US)
    elif settings.model_dir:
        check_folder(settings.model_dir)
    elif not settings.model_id and settings.task not in _WITH_DEFAULT_MODEL:
        raise StartupError(
            f"task {settings.task} needs a checkpoint; give a folder with model_dir"
            " or a hub name with model_id"
        )


def _check_generation(settings: ModelSettings) -> None:
    asked = settings.kv_cache_gib
    if asked is not None and not MIN_KV_CACHE_GIB <= asked <= MAX_KV_CACHE_GIB:
        raise StartupError(
            f"kv_cache_gib is {asked}; it must be from {MIN_KV_CACHE_GIB:g} to {MAX_KV_CACHE_GIB:g}"
        )
    if settings.task is not Task.TEXT_GENERATION and asked is not None:
        raise StartupError(
            f"kv_cache_gib is for the task {Task.TEXT_GENERATION}, but the task of model"
            f" {settings.name!r} is {settings.task}; leave it out"
        )
    if not (settings.prefix_cache or settings.generates):
        raise StartupError(
            f"prefix_cache is for models that generate text, and model {settings.name!r}"
            f" ({settings.task}) does not; leave it out"
        )


def _check_labels(settings: ModelSettings) -> None:
    if settings.task is not Task.TOPIC:
        raise StartupError(
            f"labels are for the task {Task.TOPIC}, but the task of model {settings.name!r}"
            f" is {settings.task}; leave labels out"
        )
    if not 2 <= len(settings.labels) <= MAX_LABELS:
        raise StartupError(f"labels: give 2 to {MAX_LABELS}, not {len(settings.labels)}")
    if len(set(settings.labels)) < len(settings.labels):
        raise StartupError("labels: one is given twice; give each label once")
    for label in settings.labels:
        if not label.strip() or len(label) > MAX_LABEL_CHARACTERS:
            raise StartupError(
                f"labels: {label[:20]!r} must be 1 to {MAX_LABEL_CHARACTERS} characters,"
                " not all blank"
            )


def _check_range(field: str, value: float, most: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= most):
        raise StartupError(f"{field} is {value}; it must be from 0 to {most:g}")
