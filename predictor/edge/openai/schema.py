"""What clients of OpenAI's API send, field by field.

Names, types and defaults are those of https://platform.openai.com/docs/api-reference, with the
sampling parameters that vLLM adds. A field that is not here is refused by its name, and so is one
of `REFUSED` with a value that asks for something.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from predictor.core.errors import InvalidRequest
from predictor.core.shown import shown
from predictor.edge.parameters import Fields, fields_of
from predictor.edge.sampling import MAX_LOGPROBS, SamplingFields
from predictor.edge.tensors import MAX_PRIORITY

MAX_MESSAGES = 4096
MAX_PARTS = 256  # of one message
MAX_CHOICES = 128

Logprobs = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: bool = False  # pads chunks against eavesdroppers; there is no need to


class Common(SamplingFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What completions and chats have in common."""

    model: str
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: str | None = None
    user: str | None = None  # says who asks, which changes no answer
    safety_identifier: str | None = None
    priority: Annotated[int, Meta(ge=0, le=MAX_PRIORITY)] | None = (
        None  # vLLM's; a tier's, as in v2
    )


class CompletionRequest(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of /completions. `prompt`: texts, or ids of tokens."""

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: Logprobs | None = None
    best_of: Any = None
    suffix: Any = None


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message. `type` other than text is refused by its name."""

    type: str
    text: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    refusal: Any = None


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    role: str
    content: str | Annotated[list[TextPart], Meta(max_length=MAX_PARTS)] | None = None
    name: str | None = None
    refusal: Any = None
    audio: Any = None
    annotations: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
    function_call: Any = None


class ChatRequest(Common, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of /chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    add_generation_prompt: bool | None = None  # vLLM's
    chat_template_kwargs: Mapping[str, bool | int | float | str | None] | None = None  # vLLM's
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    metadata: Any = None  # kept with what is stored, and nothing is
    modalities: Any = None
    moderation: Any = None
    parallel_tool_calls: Any = None  # says how tools are called, and there are none
    prediction: Any = None
    prompt_cache_key: Any = None  # helps to find a cache; here it is found by the prompt
    prompt_cache_retention: Any = None
    reasoning_effort: Any = None
    response_format: Any = None
    store: Any = None
    tool_choice: Any = None
    tools: Any = None
    verbosity: Any = None
    web_search_options: Any = None


def _one_of(*values: object) -> Callable[[object], bool]:
    return lambda value: value in values


# Values that ask for nothing. Every other value of these fields is refused.
_REFUSED: Mapping[str, Callable[[Any], bool]] = {
    "best_of": _one_of(1),
    "suffix": _one_of(""),
    "audio": _one_of(),
    "function_call": _one_of("none"),
    "functions": _one_of([]),
    "modalities": _one_of(["text"]),
    "moderation": _one_of(),
    "prediction": _one_of(),
    "reasoning_effort": _one_of("none"),
    "response_format": _one_of({"type": "text"}),
    "store": _one_of(False),
    "tool_choice": _one_of("none", "auto"),
    "tools": _one_of([]),
    "verbosity": _one_of(),
    "web_search_options": _one_of(),
}
_REFUSED_IN_MESSAGES: Mapping[str, Callable[[Any], bool]] = {
    "refusal": _one_of(""),
    "audio": _one_of(),
    "annotations": _one_of([]),
    "tool_calls": _one_of([]),
    "tool_call_id": _one_of(),
    "function_call": _one_of(),
}
_PART_CONTENTS = ("image_url", "input_audio", "file", "refusal")
_OPTIONS = {"stream_options": fields_of(StreamOptions)}
# What may be sent at each place.
COMPLETION_FIELDS: Fields = {"": fields_of(CompletionRequest, _REFUSED), **_OPTIONS}
CHAT_FIELDS: Fields = {
    "": fields_of(ChatRequest, _REFUSED),
    "messages": fields_of(Message, _REFUSED_IN_MESSAGES),
    "messages.content": fields_of(TextPart, _PART_CONTENTS),
    **_OPTIONS,
}


def check_refused(request: CompletionRequest | ChatRequest) -> None:
    """Raises InvalidRequest for a field that asks for what is not done here."""
    _refuse(request, _REFUSED, "")


def texts_of_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: role, content as one text, and name if there is one.

    Raises InvalidRequest for what is no text.
    """
    plain: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]."
        _refuse(message, _REFUSED_IN_MESSAGES, where)
        entry: dict[str, Any] = {"role": message.role, "content": _text(message, where)}
        if message.name is not None:
            entry["name"] = message.name
        plain.append(entry)
    return plain


def _text(message: Message, where: str) -> str:
    content = message.content
    if content is None:
        raise InvalidRequest(f"{where}content: is missing; send a text")
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        name = f"{where}content[{index}]"
        other = next((field for field in _PART_CONTENTS if getattr(part, field) is not None), None)
        if part.type != "text" or other is not None:
            refused = shown(other or part.type)
            raise InvalidRequest(f"{name}: {refused} is not taken; send text only")
        if part.text is None:
            raise InvalidRequest(f"{name}.text: is missing")
        texts.append(part.text)
    return "".join(texts)


def _refuse(
    fields: msgspec.Struct, harmless: Mapping[str, Callable[[Any], bool]], where: str
) -> None:
    for name, asks_nothing in harmless.items():
        value = getattr(fields, name, None)
        if value is not None and not asks_nothing(value):
            raise InvalidRequest(f"{where}{name}: is not supported here; leave it out")
