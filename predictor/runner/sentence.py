"""How a checkpoint turns token vectors into one sentence vector.

Sentence-transformers checkpoints say it in modules.json and in a folder for each module. A plain
encoder says nothing and gets the mean over real tokens. Everything is done as sentence-transformers
does it in `encode(texts)`, or the checkpoint is refused (checkpoint_files.py).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import msgspec

from predictor.core.errors import StartupError
from predictor.runner import checkpoint_files as files
from predictor.runner.checkpoint import read_config

_PACKAGE = "sentence_transformers."

_Width = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
_Options = TypeVar("_Options")


class Pooling(StrEnum):
    """Of a text's real tokens; several go one behind the other."""

    CLS = "cls"  # the vector of the first token
    MAX = "max"
    MEAN = "mean"
    MEAN_SQRT_LEN = "mean_sqrt_len_tokens"  # the sum over the root of the number of tokens
    WEIGHTED_MEAN = "weightedmean"  # the n-th token counts n times
    LAST = "lasttoken"


class Dense(msgspec.Struct, frozen=True):
    """A linear layer and a function of torch.nn behind it; its weights are in `folder`."""

    in_features: _Width
    out_features: _Width
    bias: bool = True
    activation_function: str | None = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False
    folder: Path = Path()


class LayerNorm(msgspec.Struct, frozen=True):
    dimension: _Width
    folder: Path = Path()


class Normalize(msgspec.Struct, frozen=True):
    """To length 1."""


Step = Dense | LayerNorm | Normalize


class SentenceLayout(msgspec.Struct, frozen=True):
    """What is done to a text before and behind the encoder."""

    encoder: Path  # the folder with config.json, weights and tokenizer
    prompt: str = ""  # goes before each text
    lowercase: bool = False
    max_tokens: int | None = None  # in place of the tokenizer's own limit
    pooling: tuple[Pooling, ...] = (Pooling.MEAN,)
    steps: tuple[Step, ...] = ()  # done to the pooled vector, in order
    dimensions: int | None = None  # of the vector, the first ones that are kept


class _Module(msgspec.Struct, frozen=True):
    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        """A class of sentence-transformers by its name, any other with its package."""
        return self.type.rpartition(".")[2] if self.type.startswith(_PACKAGE) else self.type


class _PoolingConfig(msgspec.Struct, frozen=True):
    """Newer files have `pooling_mode`, older ones a flag for each mode."""

    pooling_mode: str | tuple[str, ...] = ()
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False
    include_prompt: bool = True

    @property
    def modes(self) -> Sequence[str]:
        if self.pooling_mode:
            return [self.pooling_mode] if isinstance(self.pooling_mode, str) else self.pooling_mode
        flags = {
            Pooling.CLS: self.pooling_mode_cls_token,
            Pooling.MAX: self.pooling_mode_max_tokens,
            Pooling.MEAN: self.pooling_mode_mean_tokens,
            Pooling.MEAN_SQRT_LEN: self.pooling_mode_mean_sqrt_len_tokens,
            Pooling.WEIGHTED_MEAN: self.pooling_mode_weightedmean_tokens,
            Pooling.LAST: self.pooling_mode_lasttoken,
        }
        return [mode for mode, on in flags.items() if on] or [Pooling.MEAN]


class _TransformerConfig(msgspec.Struct, frozen=True):
    max_seq_length: int | None = None
    do_lower_case: bool | None = False


class _Defaults(msgspec.Struct, frozen=True):
    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    truncate_dim: int | None = None


def read_layout(folder: Path) -> SentenceLayout:
    """The layout of the checkpoint in `folder`.

    Raises StartupError if a file is malformed, or asks for something that is not known here:
    leaving it out would give wrong vectors without a word.
    """
    path = folder / "modules.json"
    if not path.exists():
        _check_no_modules(folder)
        return SentenceLayout(folder)
    modules = read_config(path, list[_Module])
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise StartupError(
            f"{path} asks for the modules {', '.join(kinds)}; a checkpoint must begin with"
            " Transformer and Pooling of sentence-transformers to be served here"
        )
    encoder, pooling, *others = (_folder(folder, path, module) for module in modules)
    transformer = _read_transformer(encoder)
    defaults_file = folder / "config_sentence_transformers.json"
    defaults = _read_defaults(defaults_file)
    prompt = _default_prompt(defaults_file, defaults)
    steps = [_read_step(path, kind, place) for kind, place in zip(kinds[2:], others, strict=True)]
    return SentenceLayout(
        encoder=encoder,
        prompt=prompt,
        lowercase=bool(transformer.do_lower_case),
        max_tokens=transformer.max_seq_length,
        pooling=_read_pooling(pooling / "config.json", prompt),
        steps=tuple(step for step in steps if step is not None),
        dimensions=defaults.truncate_dim,
    )


def _check_no_modules(folder: Path) -> None:
    """Without modules.json, sentence-transformers reads none of its other files."""
    for name in ("config_sentence_transformers.json", *files.TRANSFORMER_FILES, "1_Pooling"):
        if (folder / name).exists():
            raise StartupError(
                f"{folder} has {name} but no modules.json, without which it has no meaning; copy"
                " the whole checkpoint there again"
            )


def _folder(folder: Path, path: Path, module: _Module) -> Path:
    inside = PurePosixPath(module.path)
    if inside.is_absolute() or ".." in inside.parts:
        raise StartupError(
            f"{path}: the path {module.path!r} leads out of the checkpoint; keep modules within it"
        )
    return folder / inside


def _read_transformer(encoder: Path) -> _TransformerConfig:
    """The first file with anything in it is the one that counts."""
    for name in files.TRANSFORMER_FILES:
        path = encoder / name
        if path.exists() and (values := files.read_keys(path, files.TRANSFORMER)):
            config = _convert(path, values, _TransformerConfig)
            if config.max_seq_length is not None and config.max_seq_length < 1:
                raise StartupError(
                    f"{path}: max_seq_length is {config.max_seq_length}; give at least 1"
                )
            return config
    return _TransformerConfig()


def _read_defaults(path: Path) -> _Defaults:
    if not path.exists():
        return _Defaults()
    defaults = _convert(path, files.read_keys(path, files.SENTENCE_TRANSFORMERS), _Defaults)
    if defaults.truncate_dim is not None and defaults.truncate_dim < 1:
        raise StartupError(f"{path}: truncate_dim is {defaults.truncate_dim}; give at least 1")
    return defaults


def _default_prompt(path: Path, defaults: _Defaults) -> str:
    name = defaults.default_prompt_name
    if not name:
        return ""
    # sentence-transformers knows the first two without a file.
    prompts = {"query": None, "document": None} | (defaults.prompts or {})
    if name not in prompts:
        raise StartupError(
            f"{path}: default_prompt_name is {name!r}, but prompts has"
            f" {', '.join(map(repr, prompts))}; name one of them"
        )
    return prompts[name] or ""


def _read_pooling(path: Path, prompt: str) -> tuple[Pooling, ...]:
    config = _convert(path, files.read_keys(path, files.POOLING), _PoolingConfig)
    if prompt and not config.include_prompt:
        raise StartupError(
            f"{path}: include_prompt is false, but where ids are sent nobody knows which are the"
            " default prompt's; remove default_prompt_name from"
            " config_sentence_transformers.json, or use another checkpoint"
        )
    try:
        return tuple(Pooling(mode) for mode in config.modes)
    except ValueError:
        raise StartupError(
            f"{path} asks for pooling {', '.join(config.modes)}; supported: {', '.join(Pooling)}"
        ) from None


def _read_step(modules: Path, kind: str, folder: Path) -> Step | None:
    """None: nothing that counts outside training."""
    path = folder / "config.json"
    match kind:
        case "Normalize":
            if path.exists():
                files.read_keys(path, files.NORMALIZE)
            return Normalize()
        case "Dense":
            return _convert(path, files.read_keys(path, files.DENSE), Dense, folder)
        case "LayerNorm":
            return _convert(path, files.read_keys(path, files.LAYER_NORM), LayerNorm, folder)
        case "Dropout":
            return None
        case _:
            raise StartupError(
                f"{modules} asks for the module {kind}, which is not supported; use a checkpoint"
                " with Dense, LayerNorm and Normalize only behind Transformer and Pooling"
            )


def _convert(
    path: Path, values: Mapping[str, Any], kind: type[_Options], folder: Path | None = None
) -> _Options:
    """The keys of a file as a struct; `folder` is where its weights are."""
    more = {} if folder is None else {"folder": folder}
    try:
        return msgspec.convert({**values, **more}, kind)
    except msgspec.ValidationError as error:
        raise StartupError(
            f"{path} cannot be used: {error}; copy the whole checkpoint there again"
        ) from None
