"""Messages to a prompt, by the checkpoint's own chat template, in a sandbox.

Templates are Jinja programs that come with a checkpoint. They get what transformers gives them:
the messages, the special tokens, `raise_exception`, `strftime_now`, a `tojson` that escapes no
HTML, loop controls and the generation tag (https://huggingface.co/docs/transformers/chat_templating_writing).
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from predictor.core.errors import InvalidRequest, StartupError

_RESERVED = ("messages", "add_generation_prompt", "tools", "documents")


class ChatTemplate:
    """Renders conversations for one model."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], model: str) -> None:
        """Raises StartupError where `source` is no template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise StartupError(
                f"model {model!r}: its chat template cannot be read: {error}"
            ) from None
        self._special_tokens = dict(special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        more: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt. `more`: further variables of the template.

        Raises InvalidRequest where the template refuses the messages.
        """
        for name in more or ():
            if name in _RESERVED:
                raise InvalidRequest(f"chat_template_kwargs: {name} is not to be given there")
        variables = {
            **self._special_tokens,
            **(more or {}),
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._template.render(variables)
        except SecurityError:
            raise InvalidRequest(
                "messages: the chat template does what it may not; use another checkpoint"
            ) from None
        except Exception as error:  # a program of somebody else's: it may raise anything
            problem = " ".join(str(error).split())[:200]
            raise InvalidRequest(
                f"messages: the model's chat template refuses them: {problem}"
            ) from None


class _GenerationTag(Extension):
    """`{% generation %}` … `{% endgeneration %}`: marks for training what the assistant said."""

    tags = {"generation"}  # noqa: RUF012 - as the library declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _strftime_now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(form)
