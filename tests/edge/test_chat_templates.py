"""Chat templates: what transformers gives them, and nothing else of this process."""

import datetime as dt
import json
from typing import Any

import pytest

from predictor.core.errors import InvalidRequest, StartupError
from predictor.edge.chat_template import ChatTemplate

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def rendered(source: str, messages: Any = HELLO, **asked: Any) -> str:
    return ChatTemplate(source, SPECIAL, "words").render(messages, **asked)


def test_a_template_of_the_usual_form() -> None:
    source = """{{ bos_token }}{% for message in messages %}
    {%- if message['role'] == 'system' %}{% continue %}{% endif %}
[{{ message.role }}] {{ message.content | trim }}{{ eos_token }}
{% endfor %}
{% if add_generation_prompt %}[assistant]{% endif %}"""
    assert rendered(source) == "<s>[user] hello</s>\n[assistant]"
    assert rendered(source, add_generation_prompt=False) == "<s>[user] hello</s>\n"


def test_loops_can_be_left() -> None:
    assert rendered("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}") == "system"


def test_json_is_written_as_it_is() -> None:
    said = [{"role": "user", "content": '<b> & "Ünï" \u2028'}]
    written = rendered("{{ messages | tojson }}", said)
    assert json.loads(written) == said
    assert "<b> &" in written
    assert "Ünï" in written
    assert rendered("{{ messages[0] | tojson(indent=2) }}").startswith('{\n  "role"')


def test_the_date_of_today() -> None:
    before = dt.datetime.now().astimezone().date()
    found = rendered('{{ strftime_now("%Y-%m-%d") }}')
    assert before <= dt.date.fromisoformat(found) <= dt.datetime.now().astimezone().date()


def test_what_clients_write_is_no_template() -> None:
    said = [{"role": "user", "content": "{{ 7 * 7 }}{% raise %}"}]
    assert rendered("{{ messages[0].content }}", said) == "{{ 7 * 7 }}{% raise %}"


def test_what_the_client_gives_a_template() -> None:
    source = "{{ 'on' if thinking else 'off' }}"
    assert rendered(source) == "off"
    assert rendered(source, more={"thinking": True}) == "on"
    with pytest.raises(InvalidRequest, match="chat_template_kwargs: messages"):
        rendered(source, more={"messages": "mine"})


def test_parts_that_only_training_needs_are_shown() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.role }},{% endgeneration %}{% endfor %}"
    assert rendered(source) == "system,user,"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ raise_exception('roles must\n alternate') }}", "refuses them: roles must alternate"),
        ("{{ messages[7].content.x.y }}", "refuses them"),
        ("{{ 1 / 0 }}", "refuses them: division by zero"),
        ("{{ messages[0].content + 1 }}", "refuses them"),
        ("{% include 'secrets' %}", "refuses them"),
        ("{{ range(10000000) | list }}", "refuses them"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "refuses them"),
    ],
)
def test_a_template_that_refuses_or_breaks(source: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        rendered(source)
    assert raised.value.message.startswith("messages: ")
    assert problem in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'].__base__.__subclasses__() }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ raise_exception.__globals__.keys() }}",
        "{{ strftime_now.__globals__['json'] }}",
        "{{ lipsum.__globals__.os.environ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ messages.append({}) }}",
        "{{ messages[0].update(role='x') }}",
        "{% set _ = messages.clear() %}",
    ],
)
def test_a_template_that_looks_for_a_way_out(source: str) -> None:
    said = [dict(message) for message in HELLO]
    with pytest.raises(InvalidRequest, match=r"^messages: "):
        rendered(source, said)
    assert said == HELLO


@pytest.mark.parametrize("source", ["{% if %}", "{{ a", "{% nonsense %}", "{% for a in %}"])
def test_what_is_no_template_is_found_at_the_start(source: str) -> None:
    with pytest.raises(StartupError, match="'words': its chat template cannot be read"):
        ChatTemplate(source, {}, "words")
