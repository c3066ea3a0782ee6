"""Puts a speech model together: checkpoint, vocabulary, network and spec, tried once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import parametrize
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, ModelSpec, SpeechSpec, Task
from predictor.runner import checkpoint_files as files
from predictor.runner.checkpoint import check_weights, find_checkpoint, first_line
from predictor.runner.device import choose_device, choose_dtype, move_to, use_cpu_cores
from predictor.runner.frames import FrameChain, Stage
from predictor.runner.speech import SpeechRunner
from predictor.runner.speech_networks import FeatureNetwork, WaveNetwork
from predictor.runner.weights import load_complete, read_model_config, silence_transformers

WINDOW_S = 30  # what these models were trained on is shorter; attention costs the square
MARGIN_S = 2

_HEARS_FEATURES = "wav2vec2-bert"
_FAMILIES = ("wav2vec2", "hubert", _HEARS_FEATURES)
_MEL_STAGES = (Stage(400, 160), Stage(2, 2))  # windows of the extractor, then pairs of them
_ADVICE = "copy the whole checkpoint there again"


def load_speech(settings: ModelSettings) -> SpeechRunner:
    """Load a CTC model. `settings` are checked already. Raises StartupError."""
    device = choose_device(settings.device)
    if device.type == "cpu":
        use_cpu_cores()
    silence_transformers()
    folder = find_checkpoint(settings)
    config = _read_config(folder)
    labels, tidy = _read_labels(folder, config.vocab_size)
    extractor = _read_extractor(folder, config)
    check_weights(folder)
    model = load_complete(
        AutoModelForCTC,
        folder,
        config,
        choose_dtype(settings.dtype, device),
        unused="masked_spec_embed",  # for training only, and many checkpoints lack it
        advice="use one fine-tuned for CTC",
    )
    _fold_weight_norms(model)
    move_to(device, model, settings.name)
    chain = _chain(config)
    speech = _speech_spec(chain, extractor.sampling_rate, tidy=tidy)
    spec = ModelSpec(
        name=settings.name,
        task=Task.SPEECH_RECOGNITION,
        row_datatype="FP32",
        result_datatype="INT32",
        result_width=0,
        max_tokens=speech.window_samples // speech.samples_per_token,
        labels=labels,
        device=str(device),
        speech=speech,
    )
    network = (
        FeatureNetwork(model, chain, extractor)
        if config.model_type == _HEARS_FEATURES
        else WaveNetwork(model, chain, normalise=extractor.do_normalize)
    )
    _probe(spec, network)
    return SpeechRunner(spec, network)


def _read_config(folder: Path) -> PreTrainedConfig:
    config = read_model_config(folder)
    files.check_files(folder, files.SPEECH_FILES)
    if config.model_type not in _FAMILIES:
        raise StartupError(
            f"the checkpoint in {folder} is a {config.model_type}, not a CTC speech model of a"
            f" family known here: {', '.join(_FAMILIES)}; use one of them"
        )
    if getattr(config, "conv_pos_batch_norm", False):
        raise StartupError(
            f"{folder / 'config.json'} asks for conv_pos_batch_norm, with which padding would"
            " change answers; use a checkpoint without it"
        )
    if getattr(config, "adapter_attn_dim", None) is not None:
        raise StartupError(
            f"{folder / 'config.json'} asks for adapters per language (adapter_attn_dim), which"
            " are not loaded here; use a checkpoint fine-tuned as a whole"
        )
    return config


def _read_labels(folder: Path, outputs: int) -> tuple[tuple[str, ...], bool]:
    """What each of the model's outputs is written as, nothing for the blank and the like.

    And whether spaces before punctuation are left out.
    """
    vocabulary = folder / "vocab.json"
    if not vocabulary.exists():
        raise StartupError(
            f"{folder} has no vocab.json, which names the letters; use a checkpoint fine-tuned"
            f" for CTC, or {_ADVICE}"
        )
    stated = folder / "tokenizer_config.json"
    if stated.exists():
        files.read_keys(stated, files.CTC_TOKENIZER_CONFIG, others=True)
    try:
        tokenizer: Any = Wav2Vec2CTCTokenizer.from_pretrained(folder, local_files_only=True)
        known = tokenizer.get_vocab()
        highest = max(tokenizer.encoder.values())
    except Exception as error:  # malformed values raise whatever they happen to break
        raise StartupError(f"{vocabulary} cannot be used: {first_line(error)}; {_ADVICE}") from None
    if tokenizer.pad_token not in known:
        raise StartupError(
            f"{vocabulary} lacks {tokenizer.pad_token!r}, the blank of CTC; name the right"
            " pad_token in tokenizer_config.json"
        )
    if highest >= outputs:
        raise StartupError(
            f"{vocabulary} has id {highest}, but the model has {outputs} outputs; the files are not"
            f" of one checkpoint: {_ADVICE}"
        )
    labels = [""] * outputs
    for token, index in known.items():
        if index < outputs:  # added tokens may lie beyond
            labels[index] = token.lower() if tokenizer.do_lower_case else token
    for index in tokenizer.all_special_ids:
        if index < outputs:
            labels[index] = ""
    delimiter = known.get(tokenizer.word_delimiter_token)
    if delimiter is not None and delimiter < outputs:
        labels[delimiter] = tokenizer.replace_word_delimiter_char
    return tuple(labels), bool(tokenizer.clean_up_tokenization_spaces)


def _read_extractor(folder: Path, config: PreTrainedConfig) -> Any:
    """What makes the model's input from samples; it knows their rate."""
    file = folder / "preprocessor_config.json"
    wanted = (
        SeamlessM4TFeatureExtractor
        if config.model_type == _HEARS_FEATURES
        else Wav2Vec2FeatureExtractor
    )
    try:
        untyped: Any = AutoFeatureExtractor
        extractor = untyped.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # missing and malformed files raise all kinds
        raise StartupError(f"{file} cannot be used: {first_line(error)}; {_ADVICE}") from None
    if not isinstance(extractor, wanted):
        raise StartupError(
            f"{file} is of a {type(extractor).__name__}, but a {config.model_type} model needs a"
            f" {wanted.__name__}; {_ADVICE}"
        )
    hears_features = config.model_type == _HEARS_FEATURES
    files.read_keys(file, files.FEATURE_EXTRACTOR if hears_features else files.WAVE_EXTRACTOR)
    if extractor.sampling_rate < 1:
        raise StartupError(f"{file}: sampling_rate is {extractor.sampling_rate}; give Hz")
    return extractor


def _chain(config: PreTrainedConfig) -> FrameChain:
    hears_features = config.model_type == _HEARS_FEATURES
    encoder = (
        _MEL_STAGES if hears_features else tuple(map(Stage, config.conv_kernel, config.conv_stride))
    )
    if not getattr(config, "add_adapter", False):
        return FrameChain(encoder)
    stride = config.adapter_stride
    padding = stride // 2 if hears_features else 1
    thinning = Stage(config.adapter_kernel_size, stride, padding)
    return FrameChain(encoder, (thinning,) * config.num_adapter_layers)


def _speech_spec(chain: FrameChain, rate: int, *, tidy: bool) -> SpeechSpec:
    frame = chain.samples_per_frame
    return SpeechSpec(
        sampling_rate=rate,
        samples_per_token=chain.samples_per_token,
        samples_per_frame=frame,
        min_samples=chain.min_samples,
        window_samples=max(WINDOW_S * rate, chain.min_samples) // frame * frame,
        margin_samples=MARGIN_S * rate // frame * frame,
        tidy=tidy,
    )


def _fold_weight_norms(model: PreTrainedModel) -> None:
    """Weights that are computed anew in each call, for training, become plain weights."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def _probe(spec: ModelSpec, network: WaveNetwork | FeatureNetwork) -> None:
    """Hear a second of noise and the shortest clip; what is not finite now never will be."""
    speech = spec.speech
    assert speech is not None
    noise = np.random.default_rng(0).normal(0, 0.1, speech.sampling_rate).astype(np.float32)
    clips = [noise, noise[: speech.min_samples]]
    try:
        with torch.inference_mode():
            logits = network(clips).float().cpu()
    except Exception as error:  # whatever it is, the model cannot serve
        raise StartupError(
            f"model {spec.name!r} loads but does not run on {spec.device}: {first_line(error)}"
        ) from None
    counts = network.chain.counts(np.array([clip.size for clip in clips]))[-1]
    if not all(each[:count].isfinite().all() for each, count in zip(logits, counts, strict=True)):
        raise StartupError(
            f"model {spec.name!r} answers with values that are not finite; its weights are"
            " damaged, or too large for the dtype: try dtype float32"
        )
