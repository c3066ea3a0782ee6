"""What a served model looks like from outside: its tensors and how its rows are coded.

A runner makes a `ModelSpec` when it loads; the edge builds the codec of the model's
task from it. It holds plain values only, so that it crosses a process boundary as it is.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Task(StrEnum):
    TOPIC = "topic"
    TEXT_CLASSIFICATION = "text-classification"
    TEXT_EMBEDDING = "text-embedding"
    SPEECH_RECOGNITION = "speech-recognition"
    TEXT_GENERATION = "text-generation"
    SIMULATED = "simulated"


class Step(msgspec.Struct, frozen=True, array_like=True):
    """The largest packed batch of one captured graph; smaller ones take as long as it does."""

    tokens: int
    rows: int


class SpeechSpec(msgspec.Struct, frozen=True):
    """How audio becomes rows, and their results a transcript.

    A clip longer than a window is cut into windows that overlap. Near its ends a window
    lacks context, so the results of `margin_samples` at each inner end are dropped. Windows
    and margins are whole numbers of frames.
    """

    sampling_rate: int  # Hz
    samples_per_token: int
    samples_per_frame: int  # a row's result has one value for each frame
    min_samples: int  # fewer give no frame
    window_samples: int
    margin_samples: int
    tidy: bool = False  # a transcript has no space before punctuation


class GenerationSpec(msgspec.Struct, frozen=True):
    """What a generating model's device holds, and how its texts begin and end.

    `max_tokens` of the model is its context: prompt and output together.
    """

    page_tokens: int  # positions whose keys and values lie in one page
    pages: int
    slots: int  # rows that it can hold at a time; max_batch_size may be less
    end_ids: tuple[int, ...]  # tokens that end a text
    chat_template: str = ""  # Jinja; empty where the checkpoint has none
    special_tokens: Mapping[str, str] = {}  # what templates call bos_token, eos_token, …
    defaults: Mapping[str, float] = {}  # of sampling, by the checkpoint, where a client is silent
    prefix_cache: bool = True  # pages of equal beginnings are shared


class ModelSpec(msgspec.Struct, frozen=True):
    """A loaded model.

    A row travels as the raw bytes of a 1-D array of `row_datatype`, its result as the
    raw bytes of a 1-D array of `result_datatype` and `result_width` values: probabilities
    per label, an embedding, a checksum, or (width 0: as many as the row has frames) the
    most likely label of each frame. Datatypes are v2 names.
    """

    name: str
    task: Task
    row_datatype: str  # "INT64", "FP32"
    result_datatype: str  # "FP32", "INT64", "INT32"
    result_width: int
    max_tokens: int  # longest row that the model takes
    labels: tuple[str, ...] = ()
    tokenizer_file: str = ""  # path of a tokenizer.json; empty where text is not taken
    prompt: str = ""  # goes before each text, ahead of tokenising
    vocabulary_size: int = 0  # ids must be in [0, vocabulary_size); 0: any id is allowed
    packed: bool = False  # the runner can run rows without padding
    steps: tuple[Step, ...] = ()  # where packed batches run in steps, from small to large
    device: str = "cpu"
    speech: SpeechSpec | None = None  # set for speech; labels are then what each id is written as
    generation: GenerationSpec | None = None  # set where rows generate

    @property
    def items_per_token(self) -> int:
        """Values of `row_datatype` that a row holds for each of its tokens."""
        return 1 if self.speech is None else self.speech.samples_per_token


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to load, as flags or an entry of the models file say it."""

    name: str
    task: Task = Task.TOPIC
    model_dir: str = ""  # a folder with a Hugging Face checkpoint
    model_id: str = ""  # a hub name; used when model_dir is empty
    labels: tuple[str, ...] = ()  # topic only; empty: the default labels
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    dtype: str = "auto"  # auto | float32 | bfloat16 | float16
    capture_graphs: bool = True  # where the device can: whole batches as one launch
    kv_cache_gib: float | None = None  # for keys and values, where rows generate; None: a share
    prefix_cache: bool = True  # where rows generate: equal beginnings are computed once
    simulated_fixed_ms: float = 5.0
    simulated_token_us: float = 10.0
    simulated_packed: bool = False
    simulated_output_tokens: float = 0.0  # median that a row generates; 0: rows do not generate
    simulated_output_sigma: float = 0.8  # of the logarithm
    simulated_row_us: float = 2.0  # generating only: of a row in a step
    simulated_context_ns: float = 10.0  # generating only: of a position that a step looks at

    @property
    def generates(self) -> bool:
        """Whether rows answer token by token."""
        simulated = self.task is Task.SIMULATED and self.simulated_output_tokens > 0
        return simulated or self.task is Task.TEXT_GENERATION
