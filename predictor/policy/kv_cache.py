"""What the device holds of one model's rows that generate: their slots and their pages."""

from predictor.core.model import GenerationSpec
from predictor.policy.pages import Pages


class KVCache:
    """Slots and pages, and how many steps were planned and have ended.

    The device runs steps in order, so what a row gives back may be given to another at once,
    whatever is still under way.
    """

    def __init__(self, spec: GenerationSpec, *, caching: bool = True) -> None:
        self.pages = Pages(spec.pages, spec.page_tokens, caching=caching)
        self.slots = spec.slots
        self._free_slots = list(range(spec.slots - 1, -1, -1))
        self.coming: dict[bytes, int] = {}  # names of pages that steps under way compute: how many
        self.steps_planned = 0
        self.steps_ended = 0

    @property
    def free_slots(self) -> int:
        return len(self._free_slots)

    @property
    def rows(self) -> int:
        """Rows that hold a slot."""
        return self.slots - len(self._free_slots)

    def take_slot(self) -> int:
        return self._free_slots.pop()

    def give_slot(self, slot: int) -> None:
        self._free_slots.append(slot)
