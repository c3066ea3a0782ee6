"""A completion or a chat over HTTP, as an exchange of the lifecycle."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from predictor.core.errors import HeadwayError, InvalidRequest
from predictor.edge.asgi import send_json
from predictor.edge.event_stream import EventStream, event
from predictor.edge.generate_request import GenerateRequest
from predictor.edge.generating import Change, Texts
from predictor.edge.generation_codec import GenerationCodec
from predictor.edge.http_codec import JSON_TYPE
from predictor.edge.http_exchange import AnswerHeaders
from predictor.edge.json_text import LARGE_BYTES, read_json
from predictor.edge.openai.answers import DONE, ChatForm, Choice, CompletionForm, Usage
from predictor.edge.openai.errors import error_body, openai_error
from predictor.edge.openai.options import (
    asks_for_bulk,
    asks_for_usage,
    logprobs_of,
    max_tokens_of,
)
from predictor.edge.openai.schema import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    ChatRequest,
    CompletionRequest,
    check_refused,
    texts_of_messages,
)
from predictor.edge.sampling import SamplingFields
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import InferAnswer, InferRequest, new_id

_COMPLETION = msgspec.json.Decoder(CompletionRequest)
_CHAT = msgspec.json.Decoder(ChatRequest)


class OpenAiExchange(EventStream):
    """An `Exchange` of OpenAI's API. Its model is named in the body."""

    __slots__ = ("_form", "_says_usage", "_unsaid")

    protocol = "openai"
    chat: bool

    async def receive(self) -> CompletionRequest | ChatRequest:  # type: ignore[override]
        body = await self._bodies.whole(self.headers, self._receive)
        decoder: Any = _CHAT if self.chat else _COMPLETION
        asked: CompletionRequest | ChatRequest
        known = CHAT_FIELDS if self.chat else COMPLETION_FIELDS
        if len(body) > LARGE_BYTES:
            asked = await asyncio.to_thread(read_json, body, decoder, known)
        else:
            asked = read_json(body, decoder, known)
        self.model = asked.model
        return asked

    def size(self, body: CompletionRequest | ChatRequest) -> int:  # type: ignore[override]
        return 0  # it is read already, because it names the model

    def decode(  # type: ignore[override]
        self, body: CompletionRequest | ChatRequest, codec: TaskCodec
    ) -> GenerateRequest:
        check_refused(body)
        if not isinstance(codec, GenerationCodec):
            raise InvalidRequest(
                f"model: {self.model[:128]!r} generates no text; call it by v2 or V1"
            )
        self._says_usage = asks_for_usage(body)
        prompts: Sequence[str | Sequence[int]]
        if isinstance(body, ChatRequest):
            prompts, name = [_rendered(body, codec)], "messages"
        else:
            prompts, name = _prompts(body.prompt), "prompt"
        logprobs = logprobs_of(body)
        request = GenerateRequest(
            id=new_id(),
            inputs={},
            priority=body.priority,
            prompts=prompts,
            fields=_sampling(body),
            choices=body.n or 1,
            max_tokens=max_tokens_of(body),
            logprobs=logprobs,
            streams=bool(body.stream),
            bulk=asks_for_bulk(body.service_tier),
            add_special_tokens=not self.chat,
            prompt_name=name,
        )
        self._form = self._form_for(body, request, codec)
        return request

    def encode(self, answer: InferAnswer, request: InferRequest) -> bytes:
        texts = answer.texts
        assert texts is not None
        choices = [
            Choice(index, each.text, each.tokens, each.finish.value)
            for index, each in enumerate(texts.whole())
        ]
        return self._form.whole(choices, _usage(texts))

    async def send(self, encoded: bytes) -> None:
        headers: AnswerHeaders = [(b"content-type", JSON_TYPE)]
        await self.send_whole(encoded, headers)

    def begin(self, request: GenerateRequest, texts: Texts) -> None:
        super().begin(request, texts)
        self._unsaid = set(range(len(request.prompts) * request.choices))  # not begun yet

    def encode_part(self, changes: Sequence[Change]) -> bytes:
        parts = []
        form, unsaid = self._form, self._unsaid
        for change in changes:
            index, text = change.index, change.text
            if index in unsaid:
                unsaid.remove(index)
                parts.append(form.first(index))
            if text or (form.says_logprobs and change.tokens):
                parts.append(form.chunk(index, text, change.tokens))
            if change.finish is not None:
                parts.append(form.last(index, change.finish.value))
        return b"".join(parts)

    def last_events(self) -> bytes:
        return (self._form.usage(_usage(self._texts)) if self._says_usage else b"") + DONE

    def error_event(self, error: HeadwayError) -> bytes:
        return event(error_body(error))

    async def send_refusal(self, error: HeadwayError) -> None:
        status, body, headers = openai_error(error)
        await send_json(self._send, status, body, headers)

    def _form_for(
        self,
        body: CompletionRequest | ChatRequest,
        request: GenerateRequest,
        codec: GenerationCodec,
    ) -> ChatForm | CompletionForm:
        texts = None if request.logprobs is None else codec.token_texts
        tier = body.service_tier and ("flex" if request.bulk else "default")
        if isinstance(body, ChatRequest):
            answer_id = f"chatcmpl-{request.id}"
            return ChatForm(answer_id, self.model, tier, texts, says_usage=self._says_usage)
        echoed: Sequence[str] = ()
        if body.echo:
            if request.logprobs is not None:
                raise InvalidRequest(
                    "echo: with logprobs it asks for those of the prompt, which are not computed"
                    " here; leave one of the two out"
                )
            echoed = [
                prompt if isinstance(prompt, str) else codec.tokenizer.decode(list(prompt))
                for prompt in request.prompts
                for _ in range(request.choices)
            ]
        answer_id = f"cmpl-{request.id}"
        return CompletionForm(
            answer_id, self.model, tier, texts, says_usage=self._says_usage, echoed=echoed
        )


class CompletionExchange(OpenAiExchange):
    """Of /completions."""

    chat = False


class ChatExchange(OpenAiExchange):
    """Of /chat/completions."""

    chat = True


def _usage(texts: Texts) -> Usage:
    return Usage(texts.prompt_tokens, texts.completion_tokens, texts.cached_tokens)


def _sampling(body: CompletionRequest | ChatRequest) -> SamplingFields:
    return SamplingFields(
        **{name: getattr(body, name) for name in SamplingFields.__struct_fields__}
    )


def _prompts(prompt: str | list[Any]) -> Sequence[str | Sequence[int]]:
    """A list of texts or of lists of ids, from the four forms that the API has."""
    if isinstance(prompt, str):
        return [prompt]
    for kind in (list[str], list[list[int]]):
        try:
            found: Any = msgspec.convert(prompt, kind)
        except msgspec.ValidationError:
            continue
        if found:
            return found  # type: ignore[no-any-return]
    try:
        ids = msgspec.convert(prompt, list[int])
    except msgspec.ValidationError:
        ids = []
    if not ids:
        raise InvalidRequest(
            "prompt: must be a text, a list of texts, or ids of tokens (a list, or a list of lists)"
        )
    return [ids]


def _rendered(body: ChatRequest, codec: GenerationCodec) -> str:
    if codec.chat is None:
        raise InvalidRequest(
            f"messages: model {codec.spec.name!r} has no chat template; use /openai/v1/completions"
        )
    return codec.chat.render(
        texts_of_messages(body.messages),
        add_generation_prompt=body.add_generation_prompt is not False,
        more=body.chat_template_kwargs,
    )
