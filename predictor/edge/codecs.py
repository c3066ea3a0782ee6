"""Which codec a model's task has."""

from predictor.core.model import ModelSpec, Task
from predictor.edge.tasks import TaskCodec
from predictor.edge.text import TextCodec


def codec_for(spec: ModelSpec, max_rows: int) -> TaskCodec:
    """The codec of the model's task; `max_rows`: most items in a request.

    Raises StartupError for a broken tokenizer.
    """
    if spec.task is Task.SPEECH_RECOGNITION:
        # Libraries for audio that no other task needs.
        from predictor.edge.speech import SpeechCodec

        return SpeechCodec(spec, max_rows)
    if spec.generation is not None:
        # A library for chat templates that no other task needs.
        from predictor.edge.generation_codec import GenerationCodec

        return GenerationCodec(spec, max_rows)
    return TextCodec(spec, max_rows)
