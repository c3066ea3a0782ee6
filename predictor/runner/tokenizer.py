"""The tokenizer of a checkpoint, as the edges get it: one tokenizer.json that says everything.

What a checkpoint's tokenizer does is spread over tokenizer.json, tokenizer_config.json,
special_tokens_map.json, added_tokens.json and vocabularies of several kinds, and transformers'
class for it decides which counts: `do_lower_case` in tokenizer_config.json, say, overrides the
normalizer in tokenizer.json. So transformers loads it, and what it made is exported. Awkward texts
are then tokenised both by transformers and from the exported file; where ids differ, something
did not get into the file, and the checkpoint is refused.
"""

import atexit
import importlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, normalizers

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import first_line, nonempty
from predictor.runner.checkpoint_files import TOKENIZER_CONFIG, read_keys
from predictor.runner.probe_texts import PLAIN_TEXTS, PROBE_TEXTS

_LOG = logging.getLogger("headway.runner")

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.bpe.codes")
_MESSAGES = "sentencepiece.sentencepiece_model_pb2"  # of a SentencePiece model, by protobuf
_NAMING_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_ADVICE = "copy the whole checkpoint there again"


@dataclass(frozen=True, eq=False)
class CheckpointTokenizer:
    """Transformers' tokenizer, and the JSON of one that does the same without transformers."""

    folder: Path
    loaded: Any
    exported: str

    @property
    def max_tokens(self) -> float:
        """The most tokens that its own settings allow."""
        limit = self.loaded.model_max_length
        return float("inf") if limit is None else limit

    @property
    def special_ids(self) -> Sequence[int]:
        return sorted(self.loaded.all_special_ids)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        tokenizer = Tokenizer.from_str(self.exported)
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]

    def within(self, vocabulary_size: int) -> "CheckpointTokenizer":
        """The same for a model with embeddings of so many ids.

        Transformers adds special tokens of its own, a [MASK] say, to a vocabulary that lacks
        them. Those that the model has no embedding for are left out: no file asks for them.

        Raises StartupError, naming the token, if a file does.
        """
        whole = json.loads(self.exported)
        beyond = {
            token: index
            for token, index in self.loaded.get_vocab().items()
            if index >= vocabulary_size
        }
        named = set(_names(self.folder))
        for token, index in sorted(beyond.items(), key=lambda each: each[1]):
            if token in named:
                raise StartupError(
                    f"the tokenizer in {self.folder} has the token {token!r} with id {index}, but"
                    f" the model has embeddings for 0 to {vocabulary_size - 1} only; remove the"
                    " token, or resize the model's embeddings and save them"
                )
        whole["added_tokens"] = [
            token for token in whole["added_tokens"] if token["content"] not in beyond
        ]
        narrowed = CheckpointTokenizer(self.folder, self.loaded, json.dumps(whole))
        _check_export(narrowed, beyond)
        return narrowed

    def export(self) -> str:
        """Path of a tokenizer.json for the edges, which is there until this process ends."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="headway-tokenizer-"))
        except OSError as error:
            raise StartupError(
                f"no folder for temporary files can be written ({error}); set TMPDIR to one"
            ) from None
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = folder / "tokenizer.json"
        path.write_text(self.exported)
        return str(path)


def load_tokenizer(
    folder: Path, *, max_tokens: int | None = None, lowercase: bool = False
) -> CheckpointTokenizer:
    """The checkpoint's tokenizer, which neither pads nor cuts.

    Files often carry padding and truncation of somebody's last use; both would change
    what a row costs behind the edge's back. `max_tokens` replaces the tokenizer's own limit.
    `lowercase` has all text lowered first, as some sentence models ask for.

    Raises StartupError if there is none to load, or something that cannot be exported.
    """
    config = folder / "tokenizer_config.json"
    if config.exists():
        read_keys(config, TOKENIZER_CONFIG, others=True)
    loaded = _load(folder, {} if max_tokens is None else {"model_max_length": max_tokens})
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise StartupError(
            f"the tokenizer in {folder} has no fast form; save the checkpoint with a tokenizer.json"
        )
    if loaded.truncation_side != "right":  # tokenizer.json may say so too
        raise StartupError(
            f"the tokenizer in {folder} cuts texts on the {loaded.truncation_side}; they are cut on"
            " the right here: set truncation_side to right, in tokenizer.json too"
        )
    if not isinstance(loaded.model_max_length, int | float) or loaded.model_max_length < 1:
        raise StartupError(
            f"{config}: model_max_length is {loaded.model_max_length!r}; give at least 1"
        )
    backend.no_padding()
    backend.no_truncation()
    _warn_of_other_readings(folder, CheckpointTokenizer(folder, loaded, backend.to_str()))
    if lowercase and not _lowers(backend):
        first, present = normalizers.Lowercase(), backend.normalizer
        backend.normalizer = normalizers.Sequence([first, present] if present else [first])
    return CheckpointTokenizer(folder, loaded, backend.to_str())


def _load(folder: Path, options: dict[str, Any]) -> Any:
    # Without this check transformers makes a tokenizer that knows no word at all.
    if not any(nonempty(folder, pattern) for pattern in _VOCABULARIES):
        raise StartupError(f"{folder} has no tokenizer (tokenizer.json or vocab.txt); {_ADVICE}")
    if not (folder / "tokenizer.json").exists() and nonempty(folder, "*.model"):
        _check_sentencepiece(folder)
    from transformers import AutoTokenizer  # imports torch

    try:
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True, **options
        )
    except Exception as error:  # all kinds for malformed files
        raise StartupError(
            f"the tokenizer in {folder} cannot be read: {first_line(error)}; {_ADVICE}"
        ) from None


def _check_sentencepiece(folder: Path) -> None:
    """Transformers takes what it cannot read for a file of tiktoken, and asks for that."""
    try:
        messages = importlib.import_module(_MESSAGES)
    except Exception as error:  # versions that do not go together raise one of protobuf's own
        raise StartupError(
            f"the tokenizer in {folder} is a SentencePiece model alone, which cannot be read:"
            f" {first_line(error)}; pip install 'sentencepiece<0.2.3' protobuf, or save the"
            " checkpoint with a tokenizer.json"
        ) from None
    for path in nonempty(folder, "*.model"):
        model = messages.ModelProto()
        try:
            model.ParseFromString(path.read_bytes())
        except Exception:
            model.Clear()
        if not model.pieces:
            raise StartupError(f"{path} cannot be used: it is no SentencePiece model; {_ADVICE}")


def _lowers(tokenizer: Tokenizer) -> bool:
    """Whether sentence-transformers sees that it lowers text already."""
    present: Any = tokenizer.normalizer
    several = type(present) is normalizers.Sequence
    parts = list(present) if several else [present]
    return any(isinstance(part, normalizers.Lowercase) for part in parts)


def _names(folder: Path) -> Iterator[str]:
    """Every token that a file of the checkpoint names, and other words."""
    for name in _NAMING_FILES:
        path = folder / name
        if path.exists():
            yield from _strings(json.loads(path.read_bytes()))
    path = folder / "tokenizer.json"
    if path.exists():
        whole = json.loads(path.read_bytes())
        yield from _strings([whole["model"].get("vocab"), whole.get("added_tokens")])
    for path in (folder / "vocab.txt", folder / "vocab.json"):
        if path.exists() and path.suffix == ".txt":
            yield from path.read_text(encoding="utf-8").splitlines()
        elif path.exists():
            yield from _strings(json.loads(path.read_bytes()))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _probe_texts(tokenizer: CheckpointTokenizer, without: Sequence[str] = ()) -> list[str]:
    """Texts that tokenizers differ in, and the tokenizer's own tokens amid some."""
    added = [token for token in tokenizer.loaded.get_added_vocab() if token not in without][:50]
    texts = [*PROBE_TEXTS, *(f"a {token}b {token} C" for token in added), "".join(added)]
    return [text for text in texts if not any(token in text for token in without)]


def _check_export(tokenizer: CheckpointTokenizer, without: dict[str, int]) -> None:
    """Raises StartupError unless the exported tokenizer does what transformers' does."""
    texts = _probe_texts(tokenizer, list(without))
    folder, loaded = tokenizer.folder, tokenizer.loaded
    try:
        expected = loaded(texts, return_token_type_ids=True)
        found = tokenizer.ids(texts)
    except Exception as error:  # whatever it is, no text can be tokenised
        raise StartupError(
            f"the tokenizer in {folder} does not tokenise: {first_line(error)}; {_ADVICE}"
        ) from None
    for text, ids, exported in zip(texts, expected["input_ids"], found, strict=True):
        if list(ids) != exported:
            raise StartupError(
                f"the tokenizer in {folder}, a {type(loaded).__name__}, cannot be exported:"
                f" {text[:40]!r} has ids {ids[:8]} in transformers and {exported[:8]} from"
                " tokenizer.json; save the checkpoint with a tokenizer.json that says all, and"
                " tokenizer_class PreTrainedTokenizerFast"
            )
    if "token_type_ids" in loaded.model_input_names and any(map(any, expected["token_type_ids"])):
        raise StartupError(
            f"the tokenizer in {folder}, a {type(loaded).__name__}, gives tokens types"
            " (token_type_ids) other than 0, which are not sent to the model here; use another"
            " checkpoint"
        )


def _warn_of_other_readings(folder: Path, tokenizer: CheckpointTokenizer) -> None:
    """tokenizer.json as it stands may mean something else; transformers' reading is kept."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return
    try:
        plain = Tokenizer.from_file(str(path))
        plain.no_padding()
        plain.no_truncation()
        read = [encoding.ids for encoding in plain.encode_batch(list(PLAIN_TEXTS))]
        alike = read == tokenizer.ids(PLAIN_TEXTS)
    except Exception:  # whichever does not tokenise: `within` says so
        return
    if not alike:
        _LOG.warning(
            "%s alone gives other ids than transformers' %s with tokenizer_config.json; as"
            " transformers does it is how texts are tokenised",
            *(path, type(tokenizer.loaded).__name__),
        )
