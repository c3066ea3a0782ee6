"""What the rows of one request generate, as texts that grow, whatever protocol carries them."""

import asyncio
from collections.abc import Sequence

import msgspec
from tokenizers import Tokenizer

from predictor.core.generation import Finish, Generated, Sampled
from predictor.edge.detokenising import TextStream


class Change(msgspec.Struct, frozen=True, gc=False):
    """What a row's text has grown by. `finish` with the last."""

    index: int
    text: str
    tokens: Sequence[Sampled]
    finish: Finish | None


class WholeText(msgspec.Struct, frozen=True):
    """All of a row's output. `tokens` are those shown; a stop token counts and is not."""

    text: str
    tokens: Sequence[Sampled]
    tokens_generated: int
    finish: Finish


class Texts:
    """The texts of a request. `take` is what the engine calls, `changes` what a stream awaits.

    A reader that is slow finds all that has come meanwhile in one list, so what waits for it is
    bounded by what its rows may generate.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompts: Sequence[Sequence[int]],
        stop: Sequence[str],
        prompt_tokens: int = 0,
        *,
        choices: int = 1,
    ) -> None:
        """`prompts`: the ids before each row's output, the last of them at least.

        `prompt_tokens`: of all prompts, each counted once. `choices`: how many rows in succession
        have one prompt.
        """
        self._streams = [TextStream(tokenizer, prompt, stop) for prompt in prompts]
        self._changes: list[Change] = []
        self._came = asyncio.Event()
        self._unfinished = len(prompts)
        self._counts = [0] * len(prompts)
        self.prompt_tokens = prompt_tokens
        self._choices = choices
        self.cached_tokens = 0  # of `prompt_tokens`: what the first choice of each did not compute

    @property
    def completion_tokens(self) -> int:
        return sum(self._counts)

    def count(self, index: int) -> int:
        """Tokens that a row has generated so far."""
        return self._counts[index]

    def take(self, generated: Generated) -> bool:
        """Take in a part; whether the row is to go on."""
        stream = self._streams[generated.index]
        if stream.has_stopped():
            return False
        tokens = generated.tokens
        self._counts[generated.index] += len(tokens)
        if generated.index % self._choices == 0:
            self.cached_tokens += generated.cached_tokens
        finish = generated.finish
        shown = tokens[:-1] if finish is Finish.STOP else tokens  # a stop token is no text
        text = stream.feed([token.id for token in shown])
        if stream.has_stopped():
            finish = Finish.STOP
        elif finish is not None:
            text += stream.rest()
        self._changes.append(Change(generated.index, text, shown, finish))
        if finish is not None:
            self._unfinished -= 1
        self._came.set()
        return finish is None

    async def changes(self) -> list[Change]:
        """What has come since it was last asked, waiting for some; empty once all have ended."""
        if not self._changes and self._unfinished:
            await self._came.wait()
        self._came.clear()
        changes, self._changes = self._changes, []
        return changes

    def end(self) -> None:
        """Nothing more will come, whatever is missing: wake up who waits."""
        self._unfinished = 0
        self._came.set()

    def whole(self) -> list[WholeText]:
        """Each text, once all have ended."""
        parts: list[list[Change]] = [[] for _ in self._streams]
        for change in self._changes:
            parts[change.index].append(change)
        return [
            WholeText(
                "".join([change.text for change in changes]),
                [token for change in changes for token in change.tokens],
                count,
                changes[-1].finish or Finish.LENGTH,
            )
            for changes, count in zip(parts, self._counts, strict=True)
        ]
