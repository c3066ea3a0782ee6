"""Codec of models that generate: prompts to rows, tokens to text."""

from array import array
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from tokenizers import Tokenizer

from predictor.core.errors import InvalidRequest, StartupError
from predictor.core.model import ModelSpec
from predictor.edge.chat_template import ChatTemplate
from predictor.edge.detokenising import PROMPT_TOKENS_SEEN
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Change, Texts
from predictor.edge.rows import IdReader, check_column, check_rows
from predictor.edge.sampling import SamplingFields, sampling_of, seeds_for
from predictor.edge.tasks import TaskCodec, TaskRows, TensorSpec, check_inputs
from predictor.edge.tensors import BYTES, NUMPY_TYPES, InferRequest, Tensor
from predictor.edge.tensors import texts_of as texts_of_tensor
from predictor.edge.texts import (
    IDS,
    LEAST_CHARACTERS,
    MASK,
    TEXT,
    are_long,
    holds_long_text,
    text_of_instances,
)
from predictor.edge.token_texts import TokenTexts
from predictor.engine.port import RowInput
from predictor.policy.pages import chained_hashes

DEFAULT_MAX_TOKENS = 16  # where a client names no max_tokens, as in OpenAI's completions
# A prompt with more of them than this for each token of the context is refused before it is
# tokenised, unless it is as short as LEAST_CHARACTERS.
CHARACTERS_A_TOKEN = 16
_INT64 = NUMPY_TYPES["INT64"]


class GenerationCodec:
    """One row for each choice of each prompt."""

    inputs: Sequence[TensorSpec] = (TEXT, IDS, MASK)
    outputs: Sequence[TensorSpec] = (
        TEXT,
        TensorSpec("finish_reason", BYTES, (-1,)),
        TensorSpec("completion_tokens", "INT64", (-1,)),
    )

    def __init__(self, spec: ModelSpec, max_rows: int) -> None:
        """`max_rows`: most rows in a request. Raises StartupError for a broken tokenizer."""
        assert spec.generation is not None
        self.spec = spec
        self._max_rows = max_rows
        self._ids = IdReader(spec, max_rows)
        try:
            self.tokenizer = Tokenizer.from_file(spec.tokenizer_file)
            self.tokenizer.no_truncation()
            self.tokenizer.no_padding()
        except Exception as error:  # the library raises plain Exception for a broken file
            raise StartupError(
                f"model {spec.name!r}: cannot read tokenizer {spec.tokenizer_file}: {error}"
            ) from None
        self.token_texts = TokenTexts(self.tokenizer)
        generation = spec.generation
        self.chat = (
            ChatTemplate(generation.chat_template, generation.special_tokens, spec.name)
            if generation.chat_template
            else None
        )
        self._most_characters = max(LEAST_CHARACTERS, CHARACTERS_A_TOKEN * spec.max_tokens)

    # Requests in tensors: v2, V1 and lines of jobs.

    def rows(self, inputs: Mapping[str, Tensor], truncate: bool = True) -> TaskRows:
        return self.rows_of(self.request(inputs, SamplingFields()))

    def request(self, inputs: Mapping[str, Tensor], fields: SamplingFields) -> GenerateRequest:
        """What tensors ask for. Raises InvalidRequest."""
        check_inputs(inputs, self.inputs)
        return GenerateRequest(
            id="",
            inputs={},
            prompts=self._prompts(inputs),
            fields=fields,
            max_tokens=fields.max_tokens or DEFAULT_MAX_TOKENS,
            prompt_name="text" if "text" in inputs else "input_ids",
        )

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        self.check_request(self.request(inputs, SamplingFields()))

    def check_request(self, request: GenerateRequest) -> None:
        """Refuse what `rows_of` would, as far as that can be told without tokenising."""
        for prompt in request.prompts:
            sampling_of(
                request.fields,
                self.spec,
                prompt_tokens=1 if isinstance(prompt, str) else len(prompt),
                max_tokens=request.max_tokens,
                prompt=request.prompt_name,
            )

    def is_heavy(self, inputs: Mapping[str, Tensor]) -> bool:
        return holds_long_text(inputs)

    def decoded_bytes(self, inputs: Mapping[str, Tensor]) -> int:
        return self.most_bytes(self.request(inputs, SamplingFields()))

    def instances(self, instances: Sequence[object]) -> dict[str, Tensor]:
        """V1 instances as tensors: strings or {"text": …}."""
        return {"text": text_of_instances(instances, self._max_rows)}

    def encode(self, results: Sequence[bytes], counts: Sequence[int] | None) -> list[Tensor]:
        raise AssertionError("what rows generate comes as texts, see encode_texts")

    def encode_texts(self, texts: Texts) -> list[Tensor]:
        """All outputs, once all texts have ended."""
        whole = texts.whole()
        counts = np.array([text.tokens_generated for text in whole], _INT64)
        shape = (len(whole),)
        return [
            Tensor("text", BYTES, shape, [text.text for text in whole]),
            Tensor("finish_reason", BYTES, shape, [text.finish.value for text in whole]),
            Tensor("completion_tokens", "INT64", shape, counts.tobytes()),
        ]

    @staticmethod
    def encode_change(change: Change, completion_tokens: int) -> list[Tensor]:
        """The outputs of a part: what its text grew by, and all the others with the last.

        `completion_tokens`: of the row, so far.
        """
        text = Tensor("text", BYTES, (1,), [change.text])
        if change.finish is None:
            return [text]
        count = np.array([completion_tokens], _INT64)
        return [
            text,
            Tensor("finish_reason", BYTES, (1,), [change.finish.value]),
            Tensor("completion_tokens", "INT64", (1,), count.tobytes()),
        ]

    # Requests for text.

    def is_long(self, request: GenerateRequest) -> bool:
        """Whether `rows_of` takes long enough to be worth a thread."""
        return are_long(request.prompts)

    def most_bytes(self, request: GenerateRequest) -> int:
        """No less than its rows will take: an id for each character is the most there can be."""
        return request.choices * sum(map(len, request.prompts)) * _INT64.itemsize

    def rows_of(self, request: GenerateRequest) -> TaskRows:
        """Raises InvalidRequest for prompts and options that do not fit the model."""
        rows = len(request.prompts) * request.choices
        check_rows(request.prompt_name, rows, self._max_rows)
        prompts = self._encoded(request)
        seeds = iter(seeds_for(request.fields.seed, rows))
        inputs = []
        for ids in prompts:
            sampling = sampling_of(
                request.fields,
                self.spec,
                prompt_tokens=len(ids),
                max_tokens=request.max_tokens,
                logprobs=request.logprobs,
                prompt=request.prompt_name,
            )
            payload = array("q", ids).tobytes()
            names = self._page_hashes(payload)
            inputs += [
                RowInput(
                    payload,
                    len(ids),
                    msgspec.structs.replace(sampling, seed=next(seeds)),
                    names,
                )
                for _ in range(request.choices)
            ]
        return TaskRows(inputs)

    def texts(self, rows: Sequence[RowInput], request: GenerateRequest) -> Texts:
        """Where the tokens of these rows become text."""
        prompts = [
            np.frombuffer(row.payload, _INT64)[-PROMPT_TOKENS_SEEN:].tolist() for row in rows
        ]
        prompt_tokens = sum(row.tokens for row in rows[:: request.choices])
        return Texts(
            self.tokenizer,
            prompts,
            request.fields.stop_strings,
            prompt_tokens,
            choices=request.choices,
        )

    def _page_hashes(self, payload: bytes) -> tuple[bytes, ...]:
        """The names of a prompt's full pages: about 40 us for 1,000 tokens."""
        assert self.spec.generation is not None
        if not self.spec.generation.prefix_cache:
            return ()
        page_bytes = self.spec.generation.page_tokens * _INT64.itemsize
        return tuple(chained_hashes(payload, page_bytes))

    def _encoded(self, request: GenerateRequest) -> list[list[int]]:
        encoded: list[list[int]] = []
        name = request.prompt_name
        for index, prompt in enumerate(request.prompts):
            where = name if len(request.prompts) == 1 else f"{name}[{index}]"
            if isinstance(prompt, str):
                if len(prompt) > self._most_characters:
                    raise InvalidRequest(
                        f"{where}: has {len(prompt)} characters, more than the context of this"
                        f" model, {self.spec.max_tokens} tokens, can hold; send a shorter one"
                    )
                special = request.add_special_tokens
                ids = self.tokenizer.encode(prompt, add_special_tokens=special).ids
            else:
                ids = list(prompt)
                self._check_ids(ids, where)
            if not ids:
                raise InvalidRequest(f"{where}: has no tokens; send some text")
            encoded.append(ids)
        return encoded

    def _check_ids(self, ids: Sequence[int], where: str) -> None:
        most = self.spec.vocabulary_size - 1
        wrong = next((each for each in ids if not 0 <= each <= most), None)
        if wrong is not None:
            raise InvalidRequest(f"{where}: holds id {wrong}; this model takes 0 to {most}")

    def _prompts(self, inputs: Mapping[str, Tensor]) -> Sequence[str | Sequence[int]]:
        text, ids, mask = (inputs.get(name) for name in ("text", "input_ids", "attention_mask"))
        if text is None:
            if ids is None:
                raise InvalidRequest("no input to run; send one of: text, input_ids")
            rows = self._ids.read(ids, mask)
            return [np.frombuffer(row.payload, _INT64).tolist() for row in rows]
        if ids is not None or mask is not None:
            raise InvalidRequest("send either text, or input_ids with an optional attention_mask")
        if text.datatype != BYTES:
            raise InvalidRequest(f"input 'text': datatype must be {BYTES}, not {text.datatype}")
        check_column(text)
        check_rows("text", text.shape[0], self._max_rows)
        return texts_of_tensor(text)


# What the lifecycle asks of any request, so that it need not know which kind it has.


def prepared(request: InferRequest, codec: TaskCodec) -> InferRequest:
    """The request as its model takes it. Raises InvalidRequest where the two do not go together."""
    if not isinstance(codec, GenerationCodec):
        if request.sampling is not None:
            raise InvalidRequest(
                f"parameters.{request.sampling.asked[0]}: model {codec.spec.name!r} generates no"
                " text; leave it out"
            )
        if isinstance(request, GenerateRequest):
            raise InvalidRequest(f"model {codec.spec.name!r} generates no text; use infer")
        return request
    if isinstance(request, GenerateRequest):
        return request
    asked = codec.request(request.inputs, request.sampling or SamplingFields())
    return msgspec.structs.replace(
        asked,
        id=request.id,
        priority=request.priority,
        timeout_us=request.timeout_us,
        wanted=request.wanted,
        binary=request.binary,
    )


def check(request: InferRequest, codec: TaskCodec) -> None:
    """Refuse what `rows_of` would, as far as that can be told without tokenising."""
    if isinstance(request, GenerateRequest):
        assert isinstance(codec, GenerationCodec)
        codec.check_request(request)
    else:
        codec.check(request.inputs)


def is_heavy(request: InferRequest, codec: TaskCodec) -> bool:
    """Whether making its rows takes long enough to be worth a thread."""
    if isinstance(request, GenerateRequest):
        assert isinstance(codec, GenerationCodec)
        return codec.is_long(request)
    return codec.is_heavy(request.inputs)


def decoded_bytes_of(request: InferRequest, codec: TaskCodec) -> int:
    """No less than the bytes that its rows will take, without making them."""
    if isinstance(request, GenerateRequest):
        assert isinstance(codec, GenerationCodec)
        return codec.most_bytes(request)
    return codec.decoded_bytes(request.inputs)


def rows_of(request: InferRequest, codec: TaskCodec) -> TaskRows:
    if isinstance(request, GenerateRequest):
        assert isinstance(codec, GenerationCodec)
        return codec.rows_of(request)
    return codec.rows(request.inputs, request.truncate)


def texts_of(
    request: InferRequest, codec: TaskCodec, rows: Sequence[RowInput]
) -> tuple[Texts | None, bool]:
    """Where tokens become text, and whether they are wanted as they come: by the client, or to
    end a row at a stop string."""
    if not isinstance(request, GenerateRequest):
        return None, False
    assert isinstance(codec, GenerationCodec)
    streams = request.streams or bool(request.fields.stop_strings)
    return codec.texts(rows, request), streams
