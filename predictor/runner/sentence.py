"""How a checkpoint turns token vectors into one sentence vector.

Sentence-transformers checkpoints say it in modules.json and 1_Pooling/config.json. A plain
encoder says nothing and gets the mean over real tokens.
"""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import read_config


class Pooling(StrEnum):
    CLS = "cls"  # the vector of the first token
    MEAN = "mean"
    MAX = "max"


class SentenceLayout(msgspec.Struct, frozen=True):
    """`pooling` with several modes means their vectors one after the other."""

    encoder: Path  # the folder with config.json, weights and tokenizer
    pooling: tuple[Pooling, ...] = (Pooling.MEAN,)
    normalise: bool = False
    max_tokens: float = float("inf")
    lowercase: bool = False


class _Module(msgspec.Struct, frozen=True):
    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        return self.type.rpartition(".")[2]


class _PoolingConfig(msgspec.Struct, frozen=True):
    """Newer files have `pooling_mode`, older ones a flag for each mode."""

    pooling_mode: str | tuple[str, ...] = ()
    pooling_mode_cls_token: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False

    @property
    def modes(self) -> Sequence[str]:
        if self.pooling_mode:
            return [self.pooling_mode] if isinstance(self.pooling_mode, str) else self.pooling_mode
        flags = {
            "cls": self.pooling_mode_cls_token,
            "max": self.pooling_mode_max_tokens,
            "mean": self.pooling_mode_mean_tokens,
            "mean_sqrt_len_tokens": self.pooling_mode_mean_sqrt_len_tokens,
            "weightedmean": self.pooling_mode_weightedmean_tokens,
            "lasttoken": self.pooling_mode_lasttoken,
        }
        return [mode for mode, on in flags.items() if on] or ["mean"]


class _SentenceConfig(msgspec.Struct, frozen=True):
    max_seq_length: int | None = None
    do_lower_case: bool | None = False


def read_layout(folder: Path) -> SentenceLayout:
    """The layout of the checkpoint in `folder`.

    Raises StartupError if a file is malformed, or asks for a step that is not known here:
    leaving it out would give wrong vectors without a word.
    """
    encoder, pooling, normalise = folder, folder / "1_Pooling", False
    modules = folder / "modules.json"
    if modules.exists():
        for module in read_config(modules, list[_Module]):
            match module.kind:
                case "Transformer":
                    encoder = folder / module.path
                case "Pooling":
                    pooling = folder / module.path
                case "Normalize":
                    normalise = True
                case _:
                    raise StartupError(
                        f"{modules} asks for the module {module.kind}, which is not supported;"
                        " use a checkpoint with Transformer, Pooling and Normalize only"
                    )
    sentence_file = encoder / "sentence_bert_config.json"
    sentence = (
        read_config(sentence_file, _SentenceConfig) if sentence_file.exists() else _SentenceConfig()
    )
    return SentenceLayout(
        encoder=encoder,
        pooling=_read_pooling(pooling / "config.json"),
        normalise=normalise,
        max_tokens=sentence.max_seq_length or float("inf"),
        lowercase=bool(sentence.do_lower_case),
    )


def _read_pooling(path: Path) -> tuple[Pooling, ...]:
    if not path.exists():
        return (Pooling.MEAN,)
    modes = read_config(path, _PoolingConfig).modes
    try:
        return tuple(Pooling(mode) for mode in modes)
    except ValueError:
        raise StartupError(
            f"{path} asks for pooling {', '.join(modes)}; supported: {', '.join(Pooling)}"
        ) from None
