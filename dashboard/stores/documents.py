"""A parameter document as it lies in a store: bytes, what they say, and what to call them."""

import hashlib
import re

import msgspec

from dashboard.ports import Refused, Stored
from predictor.core.document import commented_document
from predictor.core.errors import ParametersRefused
from predictor.core.parameters import MAX_GENERATION, Parameters, parse_document

_GENERATION = re.compile(r"\bgeneration\"?\s*:\s*(\d{1,18})\b")  # also where all else is wrong


def stored(document: bytes) -> Stored:
    """Raises Refused where the document is wrong."""
    try:
        parameters = parse_document(document)
    except ParametersRefused as refusal:
        raise Refused(
            f"The parameters in place are wrong: {refusal.message}", refusal.field
        ) from None
    return Stored(parameters, text(document), version(document))


def text(document: bytes) -> str:
    return document.decode(errors="replace")


def version(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def generation(document: str) -> int | None:
    """None where the document is wrong."""
    try:
        return parse_document(document.encode()).generation
    except ParametersRefused:
        return None


def named_generations(document: str) -> tuple[int, ...]:
    """Those that a document speaks of, also one that is wrong."""
    named = (int(number) for number in _GENERATION.findall(document))
    return tuple(number for number in named if number < MAX_GENERATION)


def conflict(in_place: bytes, expected: Stored) -> str:
    """What to tell the editor of `expected`, where something else lies by now."""
    if not in_place:
        return "The parameters were deleted meanwhile; a roll back puts them in place again."
    found = generation(text(in_place))
    ours = expected.parameters.generation
    if found is None:
        return "The parameters in place were changed by hand and are wrong; mend or roll back."
    if found == ours:
        return f"Generation {ours} was changed in place since you read it; load it and edit again."
    return f"You edited generation {ours}, but {found} is in place by now; load it and edit again."


def rendered(parameters: Parameters, like: str) -> str:
    """In the format of the document before: JSON stays JSON."""
    if like.lstrip().startswith("{"):
        return msgspec.json.format(msgspec.json.encode(parameters)).decode() + "\n"
    return commented_document(parameters)
