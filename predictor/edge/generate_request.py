"""A decoded request for generated text, as the lifecycle takes it."""

from collections.abc import Sequence

from predictor.edge.sampling import SamplingFields
from predictor.edge.tensors import InferRequest


class GenerateRequest(InferRequest, frozen=True, kw_only=True):
    """Prompts, and how each is continued. Its `inputs` are empty.

    `prompts`: texts, or ids of tokens. `choices`: rows for each prompt. `max_tokens` None: as many
    as the context has room for. `logprobs`: as in `Sampling`. `streams`: the client wants text as
    it comes. `bulk`: it asks for the tier of bulk work, if it names none. `prompt_name`: what the
    client calls the prompt.
    """

    prompts: Sequence[str | Sequence[int]]
    fields: SamplingFields = SamplingFields()
    choices: int = 1
    max_tokens: int | None = None
    logprobs: int | None = None
    streams: bool = False
    bulk: bool = False
    add_special_tokens: bool = True  # to prompts that are text: a chat's template writes its own
    prompt_name: str = "prompt"
