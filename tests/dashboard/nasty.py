"""Words that Markdown, Streamlit, Plotly or HTML would take for something else than letters."""

from collections.abc import Iterator
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

NASTY = (
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;i&gt; &amp; &#58;",
    "**bold** and __bold__, *slanted* and _slanted_",
    "~~gone~~ ~gone~",
    "`code` ``code`` \\`code\\`",
    "# heading",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "23) item",
    "> quote",
    "---",
    "===",
    "| a | b |",
    "    indented",
    "[link](http://evil.example)",
    "![picture](http://evil.example/x.png)",
    "<http://evil.example>",
    "see http://evil.example/a_b?c=d&e=`f`, or HTTPS://EVIL.EXAMPLE.",
    "www.evil.example",
    "ada_b@example.org",
    "[^1] and [^1]: a note",
    "[a]: http://evil.example",
    ":red[danger] :blue-background[calm] :small[print] :color[x]{foreground='red'}",
    ":red :::note ::leaf",
    ":material/home: :material_home: :material_home::streamlit: :streamlit::streamlit:",
    ":streamlit:-> :streamlit:`",
    "http://evil.example/:material/home:",
    ":smile: :+1: a:smile:b :smile::smile: :100: 12:30:45",
    "$x^2$ and $$y$$ and \\(z\\) and \\$5 and 5$",
    "-> <- <-> -- >= <= ~= a->b -> ->",
    "a <= b",
    "\\ \\\\ \\* \\n",
    "%{y} %{customdata} <extra></extra>",
    "<a href='javascript:alert(1)'>press</a><br><sup>up</sup>",
    "{{7*7}} ${7*7} #{7*7}",
    "ü — 日本 🙂",
)
# What Streamlit replaces in a finished text, wherever it stands.
REPLACED = (
    r":[-+\w]*[a-zA-Z][-+\w]*:|:[-+]1:|:100:|:1234:",  # icons, a logo, emojis
    r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)",
    r"(?i)https?://\w|www\.\w",
    r"[-.\w+]+@[-\w]+\.\w",
)
_READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def drawn(markdown: str) -> tuple[str, list[str]]:
    """What a reader of Markdown shows, and the parts of it that Streamlit looks into.

    Fails where it shows anything but letters in one paragraph, or in code.
    """
    letters, looked_into = "", []
    for token in _all(_READER.parse(markdown)):
        assert token.type in {"paragraph_open", "paragraph_close", "text", "code_inline"}, token
        letters += token.content
        if token.type == "text":
            looked_into.append(token.content)
    return letters, looked_into


def _all(tokens: list[Token]) -> Iterator[Any]:
    for token in tokens:
        if token.type == "inline":
            yield from _all(_joined(token.children or []))
        else:
            yield token


def _joined(tokens: list[Token]) -> list[Token]:
    """Letters that a backslash stood before belong to the text beside them."""
    made: list[Token] = []
    for token in tokens:
        if token.type == "text_special":
            token.type = "text"
        if made and made[-1].type == token.type == "text":
            made[-1].content += token.content
        else:
            made.append(token)
    return made
