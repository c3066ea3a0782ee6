"""What clients of OpenAI's API ask for beside a text; what contradicts itself is refused."""

from predictor.core.errors import InvalidRequest
from predictor.edge.openai.schema import ChatRequest, CompletionRequest

COMPLETION_TOKENS = 16  # where a completion names no max_tokens; OpenAI's default
URGENT_TIERS = ("auto", "default", "priority")
BULK_TIER = "flex"


def asks_for_bulk(service_tier: str | None) -> bool:
    """Whether OpenAI's service tier asks for bulk. Raises InvalidRequest for an unknown one."""
    if service_tier is None or service_tier in URGENT_TIERS:
        return False
    if service_tier == BULK_TIER:
        return True
    raise InvalidRequest(
        f"service_tier: must be one of {', '.join((*URGENT_TIERS, BULK_TIER))},"
        f" not {service_tier[:32]!r}"
    )


def asks_for_usage(request: CompletionRequest | ChatRequest) -> bool:
    """Whether a stream is to end with what it cost. Raises InvalidRequest where it is no stream."""
    if request.stream_options is None:
        return False
    if not request.stream:
        raise InvalidRequest("stream_options: is for streams; set stream, or leave it out")
    return request.stream_options.include_usage


def max_tokens_of(request: CompletionRequest | ChatRequest) -> int | None:
    """The most that the client allows; None for a chat that may fill the context."""
    if isinstance(request, CompletionRequest):
        return request.max_tokens or COMPLETION_TOKENS
    named = request.max_completion_tokens
    if named is not None and request.max_tokens is not None and named != request.max_tokens:
        raise InvalidRequest("max_completion_tokens: differs from max_tokens; send one of the two")
    return named or request.max_tokens


def logprobs_of(request: CompletionRequest | ChatRequest) -> int | None:
    """How many of the likeliest are asked for beside each token's own; None: not even that."""
    if isinstance(request, CompletionRequest):
        return request.logprobs
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("top_logprobs: needs logprobs; set it to true")
    return (request.top_logprobs or 0) if request.logprobs else None
