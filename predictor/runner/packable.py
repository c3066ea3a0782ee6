"""How a model's rows may share a batch: packed, padded, or only with rows of their own length.

Packing relies on a family's code taking positions and an attention function from outside, and
on nothing but attention mixing tokens. A model with relative positions in its attention
(MPNet, DeBERTa) is out. For the others, and for padding in every family, a trial decides when the
model loads (trial.py), and the log says what came of it.
"""

import logging
from collections.abc import Sequence

from transformers import PreTrainedModel

from predictor.core.errors import StartupError
from predictor.runner.attention import choose_kernel, use_kernel
from predictor.runner.checkpoint import first_line
from predictor.runner.networks import Classifier, EqualLengths, Network
from predictor.runner.trial import Trial

_LOG = logging.getLogger("headway.runner")

# By the model_type of their configuration; MiniLM is a BERT.
FAMILIES = frozenset(
    ("bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta")
)


def choose_layout(
    network: Network,
    model: PreTrainedModel,
    name: str,
    max_tokens: int,
    pad_id: int,
    special_ids: Sequence[int] = (),
) -> tuple[Network, bool]:
    """The network as it may be given batches, and whether they may be packed.

    Raises StartupError if the model does not run, or answers differently even beside rows of
    the same length.
    """
    answer = network.logits if isinstance(network, Classifier) else network
    trial = Trial(answer, model, max_tokens, pad_id, special_ids)
    trial.run_alone(name)
    packed = _may_pack(trial, model)
    problem = _padding_problem(trial)
    if not problem:
        return network, packed
    difference = trial.equal_difference()
    if not difference <= trial.tolerance:
        raise StartupError(
            f"model {name!r} is a {model.config.model_type}, whose answers differ by"
            f" {difference:.1g} with the rows beside them, even of the same length; use a"
            " checkpoint of another family"
        )
    _LOG.warning("%s runs padded only with rows of equal length: %s", type(model).__name__, problem)
    return EqualLengths(network), packed


def _padding_problem(trial: Trial) -> str:
    """Why rows may not be padded; empty where they may."""
    try:
        difference = trial.padded_difference()
    except Exception as error:  # a family that takes no mask, say
        return f"padding fails: {first_line(error)}"
    return "" if difference <= trial.tolerance else f"padded answers differ by {difference:.1g}"


def _may_pack(trial: Trial, model: PreTrainedModel) -> bool:
    name, family = type(model).__name__, model.config.model_type
    if family not in FAMILIES:
        _LOG.info("%s runs padded: %s has no packed form here", name, family)
        return False
    kernel = choose_kernel(model.device, model.dtype)
    if kernel is None:
        _LOG.info("%s runs padded: packing on a GPU needs a 16-bit dtype", name)
        return False
    use_kernel(model.device, kernel)
    try:
        difference = trial.packed_difference()
    except Exception as error:  # a version of transformers that does it another way
        _LOG.warning("%s runs padded: packing fails: %s", name, first_line(error))
        return False
    if not difference <= trial.tolerance:
        _LOG.warning("%s runs padded: packed answers differ by %.1g", name, difference)
        return False
    return True
