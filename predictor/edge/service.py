"""What an edge serves: models and their codecs, and the lifecycle of requests to them."""

from collections.abc import Callable, Sequence
from time import monotonic

from predictor.core.errors import HeadwayError, Unavailable, UnknownModel
from predictor.core.shown import shown
from predictor.edge.budget import DEFAULT_BYTES, DecodedBytes
from predictor.edge.codecs import codec_for
from predictor.edge.lifecycle import Lifecycle
from predictor.edge.tasks import TaskCodec
from predictor.edge.tensors import DEFAULT_VERSION
from predictor.engine.port import Engine


def check_version(model: str, version: str) -> None:
    """Raises UnknownModel, naming the version that is served; empty is any."""
    if version and version != DEFAULT_VERSION:
        raise UnknownModel(
            f"model {shown(model)} has no version {shown(version)}; served: {DEFAULT_VERSION}"
        )


class InferService:
    """What is served here and whether it is ready. `lifecycle` serves the requests."""

    def __init__(
        self,
        engine: Engine,
        model_names: Sequence[str],
        max_rows: int,
        clock: Callable[[], float] = monotonic,
        max_decoded_bytes: int = DEFAULT_BYTES,
    ) -> None:
        """`model_names` are served here, loaded or not; `max_rows` bounds a request, and
        `max_decoded_bytes` all of them together.

        `clock` is that of the engine, which shares the machine.
        """
        self.engine = engine
        self.names = frozenset(model_names)
        self.lifecycle = Lifecycle(engine, self.codec, clock, DecodedBytes(max_decoded_bytes))
        self._max_rows = max_rows
        self._codecs: dict[str, TaskCodec] = {}

    def codec(self, model: str, version: str = "") -> TaskCodec:
        """The codec of a ready model. Raises UnknownModel, Unavailable."""
        status = self.engine.status()
        spec = status.models.get(model)
        if spec is None:
            if status.silent and model in self.names:
                raise Unavailable("the engine does not answer; try another replica, or this later")
            if model in self.names or model in status.loading:
                check_version(model, version)
                raise Unavailable(f"model {shown(model)} is loading; try again shortly")
            served = ", ".join(sorted(self.names.union(status.models)))
            raise UnknownModel(f"model {shown(model)} is not served here; served: {served}")
        if version:
            check_version(model, version)
        if status.draining:
            raise Unavailable("the server is draining; try another replica, or this one later")
        codec = self._codecs.get(model)
        if codec is None or (codec.spec is not spec and codec.spec != spec):
            codec = self._codecs[model] = codec_for(spec, self._max_rows)
        return codec

    def is_ready(self, model: str, version: str = "") -> bool:
        """Whether a request would be taken now. Builds the codec, so that none waits for it."""
        try:
            self.codec(model, version)
        except HeadwayError:
            return False
        return not self.engine.status().edges_missing

    def is_live(self) -> bool:
        """False where only a restart can help."""
        return self.engine.status().alive

    def all_ready(self) -> bool:
        """Whether every model is loaded and none is on its way out."""
        return not self.engine.status().loading and all(map(self.is_ready, self.names))
