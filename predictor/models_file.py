"""Which models to serve: one from flags, or several from the file of --models."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.core.yaml_documents import YamlRefusedError, load_yaml

MAX_MODELS_FILE_BYTES = 1 << 20
MAX_MODELS = 64

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def models_of(given: Mapping[str, object]) -> tuple[ModelSettings, ...]:
    """The models that flags, by their names without dashes, or a models file describe.

    Raises StartupError, naming the flag or the field.
    """
    of_one = {
        field: given[flag]
        for field in ModelSettings.__struct_fields__
        if (flag := _flag_of(field)) in given
    }
    models_file = given.get("models_file")
    if models_file is None:
        return (_model({"name": "model", **of_one}, "--"),)
    if of_one:
        raise StartupError(
            f"--{_flag_of(next(iter(of_one)))} cannot be given with --models; put it in the file"
        )
    return _read_models(Path(str(models_file)))


def _read_models(path: Path) -> tuple[ModelSettings, ...]:
    entries = _read_yaml(path)
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_MODELS:
        raise StartupError(f"--models {path}: must be a list of 1 to {MAX_MODELS} models")
    models = tuple(
        _model(entry, f"--models {path}: [{number}].") for number, entry in enumerate(entries)
    )
    seen: set[str] = set()
    for number, model in enumerate(models):
        if model.name in seen:
            raise StartupError(
                f"--models {path}: [{number}].name is {model.name!r}, which an entry before has;"
                " give each model its own"
            )
        seen.add(model.name)
    return models


def _read_yaml(path: Path) -> object:
    try:
        with path.open("rb") as file:
            document = file.read(MAX_MODELS_FILE_BYTES + 1)
        if len(document) > MAX_MODELS_FILE_BYTES:
            raise StartupError(
                f"--models {path}: is over {MAX_MODELS_FILE_BYTES} bytes; shorten it"
            )
        return load_yaml(document)
    except OSError as error:
        raise StartupError(f"--models {path}: cannot be read: {error.strerror}") from None
    except YamlRefusedError as error:
        raise StartupError(f"--models {path}: not YAML: {error}") from None


def _model(given: object, prefix: str) -> ModelSettings:
    """One model from flags (prefix `--`) or from an entry of the models file."""
    try:
        model = msgspec.convert(given, ModelSettings)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        field = path.strip("`.")
        raise StartupError(
            f"{prefix}{field}: {problem}" if field else f"{prefix[:-1]}: {problem}"
        ) from None
    if not _MODEL_NAME.fullmatch(model.name):
        raise StartupError(
            f"{prefix}{_flag_of('name') if prefix == '--' else 'name'} is {model.name[:40]!r}; use"
            " up to 128 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    assert isinstance(given, dict)
    for field in given:
        if field.startswith("simulated_") and model.task is not Task.SIMULATED:
            raise StartupError(
                f"{prefix}{field} is for the task simulated, not {model.task}; leave it out"
            )
    return model


def _flag_of(field: str) -> str:
    return "model_name" if field == "name" else field
