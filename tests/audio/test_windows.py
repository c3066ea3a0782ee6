"""Windows cover a clip, and their frames join to those of the whole; frames collapse to text."""

from itertools import groupby

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predictor.audio.ctc import transcript
from predictor.audio.windows import cut, join, tokens_of
from predictor.core.model import SpeechSpec

FRAME = 4
SPEECH = SpeechSpec(
    sampling_rate=16,
    samples_per_token=2,
    samples_per_frame=FRAME,
    min_samples=5,
    window_samples=20 * FRAME,
    margin_samples=3 * FRAME,
)


def frames_of(samples: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> "np.ndarray":
    """A frame hears its own samples and one more, and says where it began."""
    count = (samples.size - SPEECH.min_samples) // FRAME + 1
    return samples[: count * FRAME : FRAME].astype(np.int32)


@given(st.integers(SPEECH.min_samples, 500))
def test_windows_join_to_the_whole(size: int) -> None:
    clip = np.arange(size, dtype=np.float32)
    windows = cut(clip, SPEECH)
    assert all(SPEECH.min_samples <= window.size <= SPEECH.window_samples for window in windows)
    assert all(window.size == SPEECH.window_samples for window in windows[:-1])
    joined = join([frames_of(window) for window in windows], SPEECH)
    assert joined.tolist() == frames_of(clip).tolist()


def test_a_clip_as_long_as_a_window_is_one() -> None:
    sizes = [[w.size for w in cut(np.zeros(n, np.float32), SPEECH)] for n in (80, 81, 136, 137)]
    assert sizes == [[80], [80, 25], [80, 80], [80, 80, 25]]


def test_cost_in_tokens() -> None:
    assert [tokens_of(samples, SPEECH) for samples in (1, 2, 5, 80)] == [1, 1, 2, 40]


LABELS = ("", "", " ", "a", "b")


@given(st.lists(st.integers(0, 4), max_size=40))
def test_repeats_merge_before_blanks_go(ids: list[int]) -> None:
    expected = "".join(LABELS[index] for index, _ in groupby(ids))
    assert transcript(np.array(ids, np.int32), LABELS) == " ".join(expected.split())


def test_a_blank_between_two_letters_keeps_both() -> None:
    assert transcript(np.array([3, 3, 0, 3, 2, 2, 0, 2, 4, 0], np.int32), LABELS) == "aa b"


def test_a_tidy_transcript_is_as_transformers_cleans_it() -> None:
    labels = ("", " ", *"ab.,'sn", "t")
    text = "ab , a .ab 's ab n't"
    ids = [i for each in text for i in (labels.index(each), 0)]
    frames = np.array(ids, np.int32)
    assert transcript(frames, labels) == text
    assert transcript(frames, labels, tidy=True) == "ab, a.ab's abn't"
