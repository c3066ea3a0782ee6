"""Where live parameters come from, for who puts them in force."""

from collections.abc import AsyncGenerator
from typing import Protocol

from predictor.core.errors import ParametersRefused
from predictor.core.parameters import Parameters


class ParameterStore(Protocol):
    def load(self) -> Parameters:
        """The parameters to start with. Raises StartupError, whose message says why."""
        ...

    def watch(self) -> AsyncGenerator[Parameters | ParametersRefused, None]:
        """Yield every new document, accepted or refused, beginning with what `load` did not see."""
        ...
