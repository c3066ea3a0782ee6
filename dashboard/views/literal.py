"""Other people's words, shown as they are: names, labels, reasons, error sentences.

Streamlit draws nearly every text as Markdown, and Plotly draws its texts as a kind of HTML. What
comes from outside goes through `escaped` before the one and through `plot_text` before the other,
so that a page shows its letters and nothing that they might stand for: no link, picture, icon,
colour, heading or formula.

A backslash before a mark keeps Markdown's own grammar from reading it. It does not stop what
Streamlit replaces in the finished text: icons (`:material_home:`), emojis (`:+1:`), arrows (`->`),
and addresses, which become links. Such a part stands in a code span, which nothing looks into.
"""

import html
import re
import unicodedata
from itertools import groupby

_ICON = r":(?:[-+\w]*[A-Za-z][-+\w]*|[-+]1|100|1234):"
_ADDRESS = r"(?:https?://|www\.)(?:(?!:material/)[^\s`])*"
_MAIL = r"[-.+\w]+@[-\w]+(?:\.[-\w]+)+"
_ARROW = r"(?<!\S)(?:<->|->|<-|--|>=|<=|~=)(?!\S)"
_REPLACED = (re.compile(f"({_ICON}|{_ADDRESS}|{_MAIL})", re.IGNORECASE), re.compile(f"({_ARROW})"))
_MARKS = re.compile(r"([\\`*_\[\]<>$~|#:&])")
_AT_START = re.compile(r"^(?:(\d+)([.)])|([-+=]))")  # a list, a line, a heading's underline
_UNSEEN = "\ufffd"


def escaped(text: str) -> str:
    """Markdown that shows the text as it is, on one line."""
    parts = [(False, one_line(text))]
    for replaced in _REPLACED:  # an arrow may have got an end by what was taken out before it
        parts = [
            (is_code or bool(number % 2), each)
            for is_code, part in parts
            for number, each in enumerate([part] if is_code else replaced.split(part))
            if each
        ]
    spans = groupby(parts, key=lambda part: part[0])  # two backticks in a row would be another mark
    texts = [(is_code, "".join(each for _, each in span)) for is_code, span in spans]
    return "".join(f"`{each}`" if is_code else _backslashed(each) for is_code, each in texts)


def plot_text(text: str) -> str:
    """The same for titles, names, ticks and what else Plotly draws."""
    return html.escape(one_line(text), quote=False)


def one_line(text: str) -> str:
    """Without line ends. What cannot be seen, or would turn others around, shows as a mark."""
    return "".join(_seen(letter) for letter in " ".join(text.split()))


def _seen(letter: str) -> str:
    # Controls, and formats such as "from here on, right to left" or a space of no width.
    return _UNSEEN if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") else letter


def _backslashed(text: str) -> str:
    marked = _MARKS.sub(r"\\\1", text).replace(r"\:material/", r"\:material\/")
    return _AT_START.sub(lambda at: f"{at[1]}\\{at[2]}" if at[1] else f"\\{at[3]}", marked)
