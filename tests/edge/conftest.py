"""A tokenizer small enough to read, with settings that the edge must override."""

from pathlib import Path

import pytest
from hypothesis import settings
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from predictor.edge.http import EdgeApp
from predictor.edge.service import InferService
from tests.edge.asgi import nothing_here
from tests.edge.fake_engine import SIMULATED, FakeEngine, text_specs

# A slow machine is no failure.
settings.register_profile("headway", deadline=None)
settings.load_profile("headway")

WORDS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "the", "bus", "is", "late", "again")
MAX_BODY_BYTES = 4096
MAX_ROWS = 8


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.enable_truncation(max_length=3)
    tokenizer.enable_padding(length=32, pad_id=3)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def engine(tokenizer_file: Path) -> FakeEngine:
    return FakeEngine({"sim": SIMULATED} | text_specs(tokenizer_file, len(WORDS)))


@pytest.fixture
def app(engine: FakeEngine) -> EdgeApp:
    names = ("sim", "topics", "embed", "later")
    return EdgeApp(InferService(engine, names, MAX_ROWS), nothing_here, MAX_BODY_BYTES)
