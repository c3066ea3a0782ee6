"""A generating model that computes nothing: steps take a known time, texts have drawn lengths.

For load tests, planning and tests without a device. A token is a byte, so prompts and texts are
real text. What a row generates depends on its prompt and its seed alone, as with a real model: a
word salad whose length is drawn from a lognormal distribution.
"""

import hashlib
import math
import random
import tempfile
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from predictor.core.generation import GREEDY, Sampled
from predictor.core.model import GenerationSpec, ModelSettings, ModelSpec, Task
from predictor.core.rows import AT_ITS_END, Piece, Row
from predictor.runner.simulated import SimulatedBatch

CONTEXT_TOKENS = 1 << 15
PAGE_TOKENS = 16
SLOTS = 1024
PAGES = 1 << 16  # a million positions
END_TOKEN = "<|end|>"  # noqa: S105 - no secret
END_ID = 256
_WORDS = "one more stop and then the next train leaves on time "
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class SimulatedGenerator:
    """Sleeps fixed + per-row + per-token + per-context time for a step.

    A negative id in a prompt makes its row fail alone, as one whose logits are no numbers would.
    """

    def __init__(self, settings: ModelSettings) -> None:
        tokenizer = _byte_tokenizer()
        self._words = tokenizer.encode(_WORDS).ids
        self._folder = tempfile.TemporaryDirectory(prefix="headway-tokenizer-")
        tokenizer_file = Path(self._folder.name) / "tokenizer.json"
        tokenizer.save(str(tokenizer_file))
        self.spec = ModelSpec(
            name=settings.name,
            task=Task.SIMULATED,
            row_datatype="INT64",
            result_datatype="INT64",
            result_width=1,
            max_tokens=CONTEXT_TOKENS,
            tokenizer_file=str(tokenizer_file),
            vocabulary_size=END_ID + 1,
            generation=GenerationSpec(
                page_tokens=PAGE_TOKENS,
                pages=PAGES,
                slots=SLOTS,
                end_ids=(END_ID,),
                chat_template=_CHAT_TEMPLATE,
                special_tokens={"eos_token": END_TOKEN},
                prefix_cache=settings.prefix_cache,
            ),
        )
        self._fixed_s = settings.simulated_fixed_ms / 1e3
        self._token_s = settings.simulated_token_us / 1e6
        self._row_s = settings.simulated_row_us / 1e6
        self._context_s = settings.simulated_context_ns / 1e9
        self._log_median = math.log(settings.simulated_output_tokens)
        self._sigma = settings.simulated_output_sigma
        self._slots: dict[int, _Text] = {}
        self._free_s = 0.0

    def step_s(self, ends: Sequence[int], pieces: Sequence[Piece]) -> float:
        """Seconds for a step; `ends`: the last position of each piece. A chunk's tokens cost more
        than a row's one."""
        prefilled = sum(piece.tokens for piece in pieces if piece.tokens > 1)
        return (
            self._fixed_s
            + self._row_s * len(pieces)
            + self._token_s * prefilled
            + self._context_s * sum(ends)
        )

    def run_step(self, pieces: Sequence[Piece]) -> Sequence[Sampled | Exception | None]:
        return self.launch_step(pieces).results()

    def launch_step(self, pieces: Sequence[Piece]) -> "SimulatedBatch[Sampled | Exception | None]":
        began_s = time.perf_counter()
        texts = [self._text(piece) for piece in pieces]
        results = [self._result(piece, text) for piece, text in zip(pieces, texts, strict=True)]
        ends = [text.end for text in texts]
        self._free_s = max(self._free_s, began_s) + self.step_s(ends, pieces)
        return SimulatedBatch(results, self._free_s)

    def _text(self, piece: Piece) -> "_Text":
        """The text in the piece's slot, now that the piece has run."""
        text = self._slots.get(piece.slot)
        if piece.fresh or text is None:
            row = piece.row
            text = self._slots[piece.slot] = _Text(
                self._output_tokens(row), min(array("q", row.payload)) < 0
            )
        text.end = (text.end if piece.start == AT_ITS_END else piece.start) + piece.tokens
        return text

    def _result(self, piece: Piece, text: "_Text") -> Sampled | Exception | None:
        if text.broken:
            return ValueError("the prompt has a negative id")
        if not piece.samples:
            return None
        progress = piece.row.progress
        assert progress is not None
        sampling = progress.sampling
        place = text.end - piece.row.tokens  # of the token in the output
        ends = place + 1 >= text.tokens and place + 1 > sampling.min_tokens
        if ends and END_ID in sampling.stop_ids:
            token = END_ID
        else:
            token = self._words[(place + text.tokens) % len(self._words)]
        if sampling.logprobs is None:
            return Sampled(token)
        return Sampled(token, 0.0, [(token, 0.0)][: sampling.logprobs])

    def _output_tokens(self, row: Row) -> int:
        """How long a row's text gets, end token included."""
        progress = row.progress
        assert progress is not None
        seed = 0 if progress.sampling.temperature == GREEDY else progress.sampling.seed
        digest = hashlib.blake2b(row.payload, digest_size=8, key=seed.to_bytes(8, "little"))
        drawn = random.Random(digest.digest())
        return max(round(math.exp(self._log_median + self._sigma * drawn.gauss(0.0, 1.0))), 1)


@dataclass(slots=True)
class _Text:
    """What the row in a slot generates: so many tokens, up to position `end` by now."""

    tokens: int
    broken: bool
    end: int = 0


def _byte_tokenizer() -> Tokenizer:
    """A tokenizer in which a token is a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={each: place for place, each in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_TOKEN, special=True)])
    return tokenizer
