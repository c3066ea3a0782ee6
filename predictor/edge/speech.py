"""Codec of speech recognition: audio of any length to windows, their frames to text."""

from array import array
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from predictor.audio.ctc import transcript
from predictor.audio.files import (
    Samples,
    check_duration,
    check_rate,
    check_samples,
    decode,
    resample,
    stated_samples,
)
from predictor.audio.windows import cut, join, tokens_of, windowed_samples
from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec
from predictor.core.shown import shown
from predictor.edge.base64_data import decode_base64
from predictor.edge.heavy import check_wanted
from predictor.edge.rows import check_column, check_rows
from predictor.edge.tasks import TaskRows, TensorSpec, check_inputs
from predictor.edge.tensors import BYTES, INTEGERS, NUMPY_TYPES, Tensor
from predictor.engine.port import RowInput

MAX_AUDIO_S = 1800  # in one request, padding included: some 130 MB of samples at 16 kHz
_FP32 = "FP32"
_HEAVY_BYTES = 1 << 16
_AUDIO = "audio"
_LENGTHS = "lengths"
_RATE = "sampling_rate"
_EXCLUSIVE = f"belongs to {_AUDIO} of datatype {_FP32}; leave it out: files say it themselves"


class SpeechCodec:
    """One item for each clip, which becomes as many rows as it has windows."""

    inputs = (
        TensorSpec(_AUDIO, BYTES, (-1,)),  # or FP32 [n, samples]; metadata has one of a name
        TensorSpec(_LENGTHS, "INT64", (-1,)),
        TensorSpec(_RATE, "INT64", (1,)),
    )
    outputs = (TensorSpec("text", BYTES, (-1,)),)

    def __init__(self, spec: ModelSpec, max_rows: int) -> None:
        """`max_rows`: most clips in a request."""
        assert spec.speech is not None
        self.spec = spec
        self._speech = spec.speech
        self._max_rows = max_rows

    def rows(self, inputs: Mapping[str, Tensor], truncate: bool = True) -> TaskRows:
        check_inputs(inputs, self.inputs)
        audio = inputs.get(_AUDIO)
        if audio is None:
            raise InvalidRequest(
                f"no input to run; send {_AUDIO}: {BYTES} (WAV or FLAC files) or {_FP32} (samples)"
            )
        if audio.datatype == BYTES:
            for name in (_LENGTHS, _RATE):
                if name in inputs:
                    raise InvalidRequest(f"input {shown(name)} {_EXCLUSIVE}")
            return self._task_rows(self._from_files(audio))
        return self._task_rows(self._from_samples(audio, inputs.get(_LENGTHS), inputs.get(_RATE)))

    def decoded_bytes(self, inputs: Mapping[str, Tensor]) -> int:
        audio = inputs[_AUDIO]
        rate = self._speech.sampling_rate
        if audio.datatype == BYTES:
            samples = sum(stated_samples(data, rate, name) for name, data in self._files(audio))
        else:
            from_rate = self._rate_of(inputs.get(_RATE))
            samples = sum(row.size for row in audio.each_row()) * rate // from_rate
        self._check_total(samples, _AUDIO)
        # The clips, and as many again while they are joined, checked, or copied into windows.
        return 2 * NUMPY_TYPES[_FP32].itemsize * windowed_samples(samples, self._speech)

    def check(self, inputs: Mapping[str, Tensor]) -> None:
        self.rows(inputs)  # only reading it tells that a file is whole

    def is_heavy(self, inputs: Mapping[str, Tensor]) -> bool:
        audio = inputs.get(_AUDIO)
        if audio is None:
            return False
        # A short file may hold much.
        return not isinstance(audio.data, bytes) or len(audio.data) > _HEAVY_BYTES

    def instances(self, instances: Sequence[object]) -> dict[str, Tensor]:
        """V1 instances as tensors: {"audio": …} or what is in it, base64 or a list of samples."""
        values = [
            instance.get(_AUDIO) if isinstance(instance, dict) else instance
            for instance in instances
        ]
        check_rows("instances", len(values), self._max_rows)
        files = [value for value in values if isinstance(value, str)]
        if len(files) == len(values):
            return {_AUDIO: Tensor(_AUDIO, BYTES, (len(files),), files)}
        # Before any of them is copied, and each by itself: one long list is no table.
        self._check_total(
            sum(len(value) for value in values if isinstance(value, list)), "instances"
        )
        rows = [_packed_samples(index, value) for index, value in enumerate(values)]
        longest = max(map(len, rows)) // NUMPY_TYPES[_FP32].itemsize
        return {_AUDIO: Tensor(_AUDIO, _FP32, (len(rows), longest), rows)}

    def encode(self, results: Sequence[bytes], counts: Sequence[int] | None) -> list[Tensor]:
        assert counts is not None
        windows = iter([np.frombuffer(result, np.int32) for result in results])
        texts = [
            transcript(
                join([next(windows) for _ in range(count)], self._speech),
                self.spec.labels,
                tidy=self._speech.tidy,
            )
            for count in counts
        ]
        return [Tensor("text", BYTES, (len(texts),), texts)]

    def _task_rows(self, clips: Sequence[Samples]) -> TaskRows:
        windows = [cut(clip, self._speech) for clip in clips]
        rows = [
            RowInput(window.tobytes(), tokens_of(window.size, self._speech))
            for each in windows
            for window in each
        ]
        return TaskRows(rows, [len(each) for each in windows])

    def _from_files(self, audio: Tensor) -> list[Samples]:
        rate = self._speech.sampling_rate
        left = MAX_AUDIO_S * rate
        clips = []
        for name, data in self._files(audio):
            check_wanted()
            clips.append(self._check_least(decode(data, rate, left, name), name))
            left -= clips[-1].size
        return clips

    def _files(self, audio: Tensor) -> Iterator[tuple[str, bytes]]:
        """Each file, and what messages call it."""
        check_column(audio)
        check_rows(_AUDIO, len(audio.data), self._max_rows)
        for index, element in enumerate(audio.data):
            check_wanted()
            name = f"{_AUDIO}[{index}]"
            yield name, element if isinstance(element, bytes) else decode_base64(str(element), name)

    def _from_samples(
        self, audio: Tensor, lengths: Tensor | None, rate: Tensor | None
    ) -> list[Samples]:
        if audio.datatype != _FP32:
            raise InvalidRequest(
                f"input {_AUDIO!r}: datatype must be {_FP32} (samples) or {BYTES} (files), not"
                f" {audio.datatype}"
            )
        if len(audio.shape) != 2:
            raise InvalidRequest(
                f"input {_AUDIO!r}: shape must be [clips, samples], not {list(audio.shape)}"
            )
        check_rows(_AUDIO, audio.shape[0], self._max_rows)
        from_rate = self._rate_of(rate)
        samples = sum(row.size for row in audio.each_row())
        self._check_total(samples * self._speech.sampling_rate // from_rate, _AUDIO)
        clips = []
        for index, row in enumerate(audio.each_row()):
            name = f"{_AUDIO}[{index}]"
            kept = row if lengths is None else row[: _length(lengths, index, audio)]
            clip = resample(check_samples(kept, name), from_rate, self._speech.sampling_rate)
            clips.append(self._check_least(clip, name))
        return clips

    def _rate_of(self, rate: Tensor | None) -> int:
        from_rate = self._speech.sampling_rate if rate is None else _single(rate)
        check_rate(from_rate, f"input {_RATE!r}")
        return from_rate

    def _check_total(self, samples: int, name: str) -> None:
        rate = self._speech.sampling_rate
        check_duration(samples, MAX_AUDIO_S * rate, rate, name)

    def _check_least(self, clip: Samples, name: str) -> Samples:
        least, rate = self._speech.min_samples, self._speech.sampling_rate
        if clip.size < least:
            raise InvalidRequest(
                f"{name}: has {clip.size} samples at {rate} Hz, too short to hear anything; send"
                f" at least {least}"
            )
        return clip


def _packed_samples(index: int, samples: object) -> bytes:
    try:
        return array("f", msgspec.convert(samples, list[float])).tobytes()
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f'instances: must all be {{"{_AUDIO}": a WAV or FLAC file in base64}}, or all lists'
            f" of samples; [{index}] is not: {error}"
        ) from None


def _check_integers(tensor: Tensor, shape: Sequence[int]) -> None:
    if tensor.datatype not in INTEGERS or list(tensor.shape) != list(shape):
        raise InvalidRequest(
            f"input {shown(tensor.name)}: must be {INTEGERS[0]} of shape {list(shape)}, not"
            f" {tensor.datatype} of {list(tensor.shape)}"
        )


def _single(rate: Tensor) -> int:
    _check_integers(rate, (1,))
    return int(rate.array()[0])


def _length(lengths: Tensor, index: int, audio: Tensor) -> int:
    rows, longest = audio.shape
    _check_integers(lengths, (rows,))
    length = int(lengths.array()[index])
    if not 0 <= length <= longest:
        raise InvalidRequest(
            f"{_LENGTHS}[{index}] is {length}; {_AUDIO} has {longest} samples in a row"
        )
    return length
