"""Speech checkpoints that cannot work are refused in one clear sentence; labels are as written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

from loadtest.bench.speech_checkpoint import VOCABULARY, write_extractor, write_vocabulary
from predictor.core.model import ModelSettings, Task
from predictor.runner.loading import load_runner
from tests.runner.checkpoints import Family, edit_config, write_classifier
from tests.runner.speech_checkpoints import WAVES, Kind, write_speech
from tests.runner.test_loading import poison_weights, refusal


def settings_for(folder: Path) -> ModelSettings:
    return ModelSettings(
        name="m", task=Task.SPEECH_RECOGNITION, model_dir=str(folder), device="cpu"
    )


def edit(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "damaged weights": (poison_weights, "not finite"),
    "no vocabulary": (lambda folder: (folder / "vocab.json").unlink(), "has no vocab.json"),
    "vocabulary is not JSON": (
        lambda folder: (folder / "vocab.json").write_text("{"),
        "vocab.json cannot be used",
    ),
    "vocabulary of several languages": (
        lambda folder: (folder / "vocab.json").write_text('{"eng": {"a": 1}}'),
        "vocab.json cannot be used",
    ),
    "vocabulary of another model": (
        lambda folder: edit(folder, "vocab.json", Ä=99),
        "vocab.json has id 99, but the model has 32 outputs",
    ),
    "no extractor": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        "preprocessor_config.json cannot be used",
    ),
    "extractor of another model": (
        lambda folder: edit(
            folder,
            "preprocessor_config.json",
            feature_extractor_type="SeamlessM4TFeatureExtractor",
        ),
        "needs a Wav2Vec2FeatureExtractor",
    ),
    "a key of the extractor": (
        lambda folder: edit(folder, "preprocessor_config.json", new=1),
        "preprocessor_config.json has the key 'new'",
    ),
    "two channels": (
        lambda folder: edit(folder, "preprocessor_config.json", feature_size=2),
        "feature_size is '2'; these models hear one channel",
    ),
    "decoding with a language model": (
        lambda folder: edit(
            folder, "preprocessor_config.json", processor_class="Wav2Vec2ProcessorWithLM"
        ),
        "processor_class is 'Wav2Vec2ProcessorWithLM'; no language model",
    ),
    "a language model": (
        lambda folder: (folder / "language_model").mkdir(),
        "language_model: no language model takes part in decoding here",
    ),
    "a language of several": (
        lambda folder: edit(folder, "tokenizer_config.json", target_lang="eng"),
        "tokenizer_config.json: target_lang is 'eng'",
    ),
    "code": (lambda folder: edit_config(folder, auto_map={"AutoModel": "x.y"}), "auto_map is"),
    "a norm that padding changes": (
        lambda folder: edit_config(folder, model_type="hubert", conv_pos_batch_norm=True),
        "asks for conv_pos_batch_norm",
    ),
    "a language to choose": (
        lambda folder: edit_config(folder, adapter_attn_dim=4),
        "asks for adapters per language",
    ),
    "another family": (
        lambda folder: edit_config(folder, model_type="wavlm"),
        "is a wavlm, not a CTC speech model of a family known here: wav2vec2, hubert",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_checkpoint_is_refused(tmp_path: Path, case: str) -> None:
    breaks, says = BREAKS[case]
    folder = write_speech(tmp_path, Kind.GROUP_NORM)
    breaks(folder)
    assert says in refusal(settings_for(folder))


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, Family.BERT)
    assert "is a bert, not a CTC speech model" in refusal(settings_for(folder))


def test_a_checkpoint_before_fine_tuning_is_refused(tmp_path: Path) -> None:
    config = Wav2Vec2Config(**WAVES, proj_codevector_dim=16, codevector_dim=16)
    Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path)
    write_vocabulary(tmp_path)
    write_extractor(tmp_path)
    message = refusal(settings_for(tmp_path))
    assert "lacks 2 weights" in message
    assert "use one fine-tuned for CTC" in message


def test_a_folder_must_be_named() -> None:
    settings = ModelSettings(name="m", task=Task.SPEECH_RECOGNITION)
    assert "needs a checkpoint" in refusal(settings)


def test_labels_are_what_is_written(tmp_path: Path) -> None:
    folder = write_speech(tmp_path, Kind.GROUP_NORM)
    letters = VOCABULARY[5:]
    assert load_runner(settings_for(folder)).spec.labels == ("", "", "", "", " ", *letters)
    edit(folder, "tokenizer_config.json", do_lower_case=True, pad_token="E")  # noqa: S106
    # Tokens added after training lie beyond the model's outputs.
    (folder / "added_tokens.json").write_text(json.dumps({"<new>": 32}))
    labels = load_runner(settings_for(folder)).spec.labels
    assert labels[4:] == (" ", "", *"taonihsrdlumwcfgypbvk'xjqz")


def test_sizes_follow_the_checkpoint(tmp_path: Path) -> None:
    speech = load_runner(settings_for(write_speech(tmp_path / "a", Kind.GROUP_NORM))).spec.speech
    assert speech is not None
    assert (speech.samples_per_token, speech.samples_per_frame) == (320, 320)
    assert (speech.window_samples, speech.margin_samples, speech.min_samples) == (
        480_000,
        32_000,
        400,
    )
    spec = load_runner(settings_for(write_speech(tmp_path / "b", Kind.BERT_ADAPTER))).spec
    assert spec.max_tokens == 1500
    assert spec.speech is not None
    assert (spec.speech.samples_per_token, spec.speech.samples_per_frame) == (320, 1280)
    assert (spec.speech.window_samples, spec.speech.margin_samples) == (480_000, 32_000)
    assert spec.speech.min_samples == 560


def test_what_only_training_needs_may_be_missing(tmp_path: Path) -> None:
    folder = write_speech(tmp_path, Kind.GROUP_NORM)
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["wav2vec2.masked_spec_embed"]
    save_file(weights, path, {"format": "pt"})
    assert load_runner(settings_for(folder)).spec.task is Task.SPEECH_RECOGNITION


def test_spaces_are_tidied_where_the_tokenizer_asks_for_it(tmp_path: Path) -> None:
    folder = write_speech(tmp_path, Kind.GROUP_NORM)
    for asked in (False, True):
        edit(folder, "tokenizer_config.json", clean_up_tokenization_spaces=asked)
        speech = load_runner(settings_for(folder)).spec.speech
        assert speech is not None
        assert speech.tidy is asked
