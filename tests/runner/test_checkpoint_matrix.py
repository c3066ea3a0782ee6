"""Our vectors are those of sentence-transformers, or the checkpoint is refused by a name.

Families, layouts and options of tiny checkpoints. The long part is a proof; a few of each kind
run with all other tests.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModel, BertTokenizer, PreTrainedModel

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.core.rows import Packing
from predictor.edge.texts import TextReader
from predictor.engine.port import Runner
from predictor.runner.loading import load_runner
from predictor.runner.networks import EqualLengths
from predictor.runner.sentence import Pooling

os.environ["HF_HUB_OFFLINE"] = "1"

TOLERANCE = 1e-4  # of the largest value
HIDDEN = 32
TOKENS = 60
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", ":", "Word1", "cafe", "café", "中"),
    *(f"word{index}" for index in range(80)),
)
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": TOKENS + 6,
    "pad_token_id": 0,
    "embedding_size": HIDDEN,
}
DISTILBERT = {"dim": HIDDEN, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
BOUNDS = {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
TEXTS = [
    "word1",
    "word2 Word1 word3 WORD4 CAFÉ café 中文",
    "word7 [PAD] word8 [SEP] [MASK] word9 [PAD]",
    "",
    "  word3\tword4  ",
    " ".join(f"word{index % 80}" for index in range(90)),
    " ".join(f"word{index % 7}" for index in range(30)),
]


def write(folder: Path, family: str = "bert", **options: Any) -> Path:
    """An encoder and a WordPiece tokenizer, of the files that transformers writes."""
    more = DISTILBERT if family == "distilbert" else BOUNDS if family == "modernbert" else {}
    config = CONFIG_MAPPING[family](**{**SIZES, **more, **options})
    untyped: Any = AutoModel
    model: PreTrainedModel = untyped.from_config(config)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            noise = torch.empty_like(weights).normal_(generator=random)
            if weights.dim() > 1:
                weights.copy_(0.6 / HIDDEN**0.5 * noise)
            else:
                weights.add_(0.1 * noise)
    model.save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer: Any = BertTokenizer(vocab=vocabulary, model_max_length=TOKENS)
    tokenizer.save_pretrained(folder)
    if family in ("modernbert", "nystromformer"):  # whose own class makes nothing of it
        edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    return folder


def edit(path: Path, **values: object) -> None:
    old = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(old | values))


def add_modules(
    folder: Path, *steps: tuple[str, dict[str, object]], pooling: dict[str, object] | None = None
) -> Path:
    """modules.json and a folder for each module; those with weights get random ones."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("Transformer", {}),
        ("Pooling", pooling or {"pooling_mode": "mean"}),
        *steps,
    ]
    modules = []
    for index, (kind, config) in enumerate(kinds):
        path = f"{index}_{kind}" if index else ""
        modules.append(
            {
                "idx": index,
                "name": str(index),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
        )
        if kind == "Pooling":
            edit(folder / path / "config.json", word_embedding_dimension=HIDDEN)
        if index:
            edit(folder / path / "config.json", **config)
        random = torch.Generator().manual_seed(index)
        if kind == "Dense":
            shape = config["out_features"], config["in_features"]
            save(folder / path, {"linear.weight": shape, "linear.bias": shape[:1]}, random)
        if kind == "LayerNorm":
            save(folder / path, {"norm.weight": (HIDDEN,), "norm.bias": (HIDDEN,)}, random)
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def save(folder: Path, shapes: dict[str, Any], random: torch.Generator) -> None:
    weights = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    torch.save(weights, folder / "pytorch_model.bin")


def load(folder: Path) -> Runner:
    return load_runner(
        ModelSettings(name="m", task=Task.TEXT_EMBEDDING, model_dir=str(folder), device="cpu")
    )


def ours(runner: Runner, packing: Packing, texts: Sequence[str] = TEXTS) -> NDArray[np.float32]:
    """All texts in one batch, through the edge's own reader."""
    rows = [row.payload for row in TextReader(runner.spec, len(texts)).tokenise(list(texts)).rows]
    return np.stack([np.frombuffer(each, np.float32) for each in runner.run(rows, packing)])


def theirs(folder: Path, texts: Sequence[str] = TEXTS) -> NDArray[np.float32]:
    """Each text by itself: beside others some families answer otherwise."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return np.concatenate([model.encode([text]) for text in texts])


def check_equal(folder: Path) -> Runner:
    runner = load(folder)
    expected = theirs(folder)
    for packing in Packing:
        found = ours(runner, packing)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max(), packing
    return runner


def refusal(folder: Path) -> str:
    with pytest.raises(StartupError) as caught:
        load(folder)
    assert "\n" not in caught.value.message
    return caught.value.message


PADDED = (
    *("albert", "big_bird", "camembert", "data2vec-text", "deberta", "deberta-v2", "ernie", "esm"),
    *("eurobert", "gte", "ibert", "layoutlm", "longformer", "luke", "megatron-bert", "mpnet"),
    *("mra", "nomic_bert", "rembert", "roberta-prelayernorm", "roformer", "squeezebert"),
    *("xlm-roberta-xl", "electra", "modernbert", "xlm-roberta"),
)
QUICK = ("bert", "distilbert", "roberta")
PACKED = {"bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"}


@pytest.mark.parametrize(
    "family", [*QUICK, *(pytest.param(family, marks=pytest.mark.proof) for family in PADDED)]
)
def test_a_family_answers_as_it_does_alone(tmp_path: Path, family: str) -> None:
    if family not in CONFIG_MAPPING:
        pytest.skip("this transformers does not know it")
    assert check_equal(write(tmp_path, family)).spec.packed is (family in PACKED)


@pytest.mark.parametrize("family", ["convbert", "fnet", "mobilebert", "yoso"])
def test_a_family_that_padding_changes_runs_by_length(tmp_path: Path, family: str) -> None:
    runner = check_equal(write(tmp_path, family))
    assert not runner.spec.packed
    network = getattr(runner, "_network")  # noqa: B009
    assert isinstance(network, EqualLengths)


@pytest.mark.parametrize(
    ("family", "options", "says"),
    [
        ("perceiver", {"d_model": 32, "d_latents": 32}, "is a perceiver, which has no table"),
        ("flaubert", {"emb_dim": 32, "n_layers": 2, "n_heads": 4}, "reads token types as words"),
        (
            "big_bird",
            {"max_position_embeddings": 1024, "block_size": 16, "num_random_blocks": 2},
            "does not answer the same row in the same way twice",
        ),
    ],
)
def test_a_family_that_cannot_be_served_is_refused(
    tmp_path: Path, family: str, options: dict[str, Any], says: str
) -> None:
    folder = write(tmp_path, family, **options)
    if family == "big_bird":
        edit(folder / "tokenizer_config.json", model_max_length=1000)
    assert says in refusal(folder)


DENSE: dict[str, object] = {"in_features": HIDDEN, "out_features": 12, "bias": True}
TANH = "torch.nn.modules.activation.Tanh"
NORMALIZE: tuple[str, dict[str, object]] = ("Normalize", {})


def sentence(name: str, **values: object) -> Callable[[Path], object]:
    return lambda folder: edit(add_modules(folder) / name, **values)


def stated(**values: object) -> Callable[[Path], object]:
    return sentence("config_sentence_transformers.json", **values)


def tokenizer(**values: object) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "tokenizer_config.json", **values)


def modules(*steps: tuple[str, dict[str, object]], **pooling: object) -> Callable[[Path], object]:
    return lambda folder: add_modules(folder, *steps, pooling=pooling)


def both_lengths(folder: Path) -> None:
    edit(add_modules(folder) / "sentence_bert_config.json", max_seq_length=36)
    edit(folder / "tokenizer_config.json", model_max_length=10)


def plain_normalizer(folder: Path) -> None:
    """tokenizer.json lowers nothing, and tokenizer_config.json says so of another tokenizer."""
    path = folder / "tokenizer.json"
    whole = Tokenizer.from_file(str(path))
    whole.normalizer = normalizers.BertNormalizer(lowercase=False)
    whole.save(str(path))


APPLIED: dict[str, Callable[[Path], object]] = {
    "plain": lambda _: None,
    **{f"pooling {mode}": modules(pooling_mode=mode) for mode in Pooling},
    "all poolings": modules(pooling_mode=list(Pooling)),
    "flags of older files": modules(pooling_mode_cls_token=True, pooling_mode_lasttoken=True),
    "prompt not pooled, but none set": modules(pooling_mode="mean", include_prompt=False),
    "dense": modules(("Dense", DENSE)),
    "dense, normalize": modules(("Dense", {**DENSE, "activation_function": TANH}), NORMALIZE),
    "normalize, dense": modules(
        NORMALIZE, ("Dense", {**DENSE, "activation_function": "torch.nn.modules.linear.Identity"})
    ),
    "dense of its own width": modules(
        ("Dense", {**DENSE, "out_features": HIDDEN, "use_residual": True})
    ),
    "layer norm, dropout": modules(("LayerNorm", {"dimension": HIDDEN}), ("Dropout", {})),
    "prompt": stated(prompts={"q": "query: "}, default_prompt_name="q"),
    "prompts, none by default": stated(prompts={"q": "query: "}, default_prompt_name=None),
    "the default's default": stated(prompts={}, default_prompt_name="query"),
    "truncated": stated(truncate_dim=5, similarity_fn_name="dot", __version__={"x": "1"}),
    "truncated to more": stated(truncate_dim=500),
    "max_seq_length over model_max_length": both_lengths,
    "model_max_length": tokenizer(model_max_length=7),
    "no model_max_length": tokenizer(model_max_length=10**30),
    "do_lower_case of the sentence": sentence("sentence_bert_config.json", do_lower_case=True),
    "do_lower_case false": tokenizer(do_lower_case=False),
    "do_lower_case true over tokenizer.json": plain_normalizer,
    "strip_accents": tokenizer(strip_accents=False),
    "tokenize_chinese_chars": tokenizer(tokenize_chinese_chars=False),
    "an added token": tokenizer(additional_special_tokens=["word1"]),
    "padding_side": tokenizer(padding_side="left"),
    **{
        f"sentence_{sibling}_config.json": sentence(
            f"sentence_{sibling}_config.json", max_seq_length=9, do_lower_case=True
        )
        for sibling in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    },
}
QUICK_OPTIONS = (
    "all poolings",
    "dense, normalize",
    "prompt",
    "max_seq_length over model_max_length",
)


@pytest.mark.parametrize(
    "option",
    [
        option if option in QUICK_OPTIONS else pytest.param(option, marks=pytest.mark.proof)
        for option in APPLIED
    ],
)
@pytest.mark.parametrize(
    "family",
    [
        "bert",
        *(pytest.param(each, marks=pytest.mark.proof) for each in ("roberta", "mpnet", "fnet")),
    ],
)
def test_an_option_is_applied(tmp_path: Path, family: str, option: str) -> None:
    if option == "no model_max_length" and family in ("roberta", "mpnet"):
        pytest.skip("sentence-transformers runs out of positions itself")
    folder = write(tmp_path, family)
    APPLIED[option](folder)
    check_equal(folder)


def without_modules(folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", max_seq_length=9)


def custom_module(folder: Path) -> None:
    path = add_modules(folder) / "modules.json"
    path.write_text(path.read_text().replace("sentence_transformers.models.", "my.", 1))


def outside(folder: Path) -> None:
    path = add_modules(folder) / "modules.json"
    path.write_text(path.read_text().replace("1_Pooling", "../1_Pooling"))


def left_in_tokenizer_json(folder: Path) -> None:
    path = folder / "tokenizer.json"
    whole = Tokenizer.from_file(str(path))
    whole.enable_truncation(8, direction="left")
    whole.save(str(path))


def word_beyond(folder: Path) -> None:
    edit(folder / "added_tokens.json", **{"<new>": 9999})
    edit(folder / "tokenizer_config.json", additional_special_tokens=["<new>"])


REFUSED: dict[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "a module": (modules(("CNN", {})), ["modules.json", "CNN"]),
    "a custom module": (custom_module, ["modules.json", "my.Transformer"]),
    "a module elsewhere": (outside, ["modules.json", "../1_Pooling"]),
    "weights of layers": (modules(("WeightedLayerPooling", {})), ["WeightedLayerPooling"]),
    "a pooling": (modules(pooling_mode="median"), ["1_Pooling/config.json", "median"]),
    "a key of pooling": (modules(new=1), ["1_Pooling/config.json", "'new'"]),
    "a key of dense": (modules(("Dense", {**DENSE, "new": 1})), ["2_Dense/config.json", "'new'"]),
    "a function": (
        modules(("Dense", {**DENSE, "activation_function": "os.system"})),
        ["2_Dense/config.json", "activation_function", "os.system"],
    ),
    "a width": (modules(("Dense", {**DENSE, "in_features": 7})), ["in_features", "7"]),
    "a layer of token vectors": (
        modules(("Dense", {**DENSE, "module_input_name": "token_embeddings"})),
        ["2_Dense/config.json", "module_input_name"],
    ),
    "a key": (stated(new=1), ["config_sentence_transformers.json", "'new'"]),
    "a kind of model": (stated(model_type="SparseEncoder"), ["model_type", "SparseEncoder"]),
    "a prompt that is not there": (stated(default_prompt_name="q"), ["default_prompt_name", "'q'"]),
    "no numbers left": (stated(truncate_dim=0), ["truncate_dim"]),
    "a key of the encoder": (
        sentence("sentence_bert_config.json", new=1),
        ["sentence_bert_config.json", "'new'"],
    ),
    "a length of 0": (sentence("sentence_bert_config.json", max_seq_length=0), ["max_seq_length"]),
    "no room in it": (sentence("sentence_bert_config.json", max_seq_length=2), ["max_seq_length"]),
    "arguments": (
        sentence("sentence_bert_config.json", tokenizer_args={"x": 1}),
        ["sentence_bert_config.json", "tokenizer_args"],
    ),
    "another task": (
        sentence("sentence_bert_config.json", transformer_task="fill-mask"),
        ["sentence_bert_config.json", "transformer_task"],
    ),
    "no modules.json": (without_modules, ["sentence_bert_config.json", "modules.json"]),
    "cut on the left": (tokenizer(truncation_side="left"), ["truncation_side", "left"]),
    "cut on the left by tokenizer.json": (left_in_tokenizer_json, ["cuts texts on the left"]),
    "special tokens taken apart": (
        tokenizer(split_special_tokens=True),
        ["tokenizer_config.json", "split_special_tokens"],
    ),
    "code of a tokenizer": (tokenizer(auto_map={"AutoTokenizer": ["x", None]}), ["auto_map"]),
    "a token beyond the embeddings": (
        tokenizer(additional_special_tokens=["<new>"]),
        ["'<new>'", str(len(WORDS))],
    ),
    "the same by added_tokens.json": (word_beyond, ["'<new>'"]),
    "code": (lambda each: edit(each / "config.json", auto_map={"AutoModel": "x.y"}), ["auto_map"]),
    "quantised": (
        lambda each: edit(each / "config.json", quantization_config={"quant_method": "gptq"}),
        ["config.json", "quantization_config"],
    ),
    "relative positions": (
        lambda each: edit(each / "config.json", position_embedding_type="relative_key"),
        ["config.json", "position_embedding_type", "relative_key"],
    ),
    "an adapter": (lambda each: edit(each / "adapter_config.json", r=8), ["adapter_config.json"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_applied_is_refused_by_its_name(tmp_path: Path, case: str) -> None:
    change, says = REFUSED[case]
    folder = write(tmp_path)
    change(folder)
    message = refusal(folder)
    assert all(each in message for each in says), message


def test_a_prompt_that_is_not_pooled_is_refused(tmp_path: Path) -> None:
    folder = add_modules(write(tmp_path), pooling={"include_prompt": False})
    edit(
        folder / "config_sentence_transformers.json",
        prompts={"q": "query: "},
        default_prompt_name="q",
    )
    assert "include_prompt" in refusal(folder)


def write_sentencepiece(path: Path, **options: Any) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS, *TEXTS] * 4),
        model_prefix=str(path.with_suffix("")),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    path.with_suffix(".vocab").unlink()


@pytest.mark.parametrize(
    ("family", "file", "special"),
    [
        ("xlm-roberta", "sentencepiece.bpe.model", {}),
        ("albert", "spiece.model", {"user_defined_symbols": "[CLS],[SEP],[MASK]"}),
        pytest.param("camembert", "sentencepiece.bpe.model", {}, marks=pytest.mark.proof),
        pytest.param(
            "deberta-v2",
            "spm.model",
            {"user_defined_symbols": "[CLS],[SEP],[MASK]"},
            marks=pytest.mark.proof,
        ),
    ],
)
def test_a_sentencepiece_model_is_tokenizer_enough(
    tmp_path: Path, family: str, file: str, special: dict[str, Any]
) -> None:
    folder = write(tmp_path, family, vocab_size=200, pad_token_id=1)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    write_sentencepiece(folder / file, **special)
    edit(folder / "tokenizer_config.json", model_max_length=TOKENS)
    check_equal(folder)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("no.such.package", "pip install 'sentencepiece<0.2.3' protobuf"),
        ("sentencepiece.sentencepiece_model_pb2", "it is no SentencePiece model"),
    ],
)
def test_a_sentencepiece_model_that_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: str, says: str
) -> None:
    folder = write(tmp_path)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "spiece.model").write_bytes(b"x")
    monkeypatch.setattr("predictor.runner.tokenizer._MESSAGES", messages)
    assert says in refusal(folder)


def test_special_tokens_that_no_file_names_are_left_out(tmp_path: Path) -> None:
    """Transformers gives BERT a [MASK] where the vocabulary has none."""
    folder = write(tmp_path, vocab_size=30)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    words = [word for word in WORDS if word != "[MASK]"][:30]
    (folder / "vocab.txt").write_text("\n".join(words))
    runner = load(folder)
    assert ours(runner, Packing.PADDED, ["word1 [MASK] word2"]).shape == (1, HIDDEN)


def test_a_tokenizer_of_bytes_keeps_its_spaces(tmp_path: Path) -> None:
    folder = write(tmp_path, "roberta", vocab_size=400, pad_token_id=1)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet]
    whole = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "RobertaTokenizer",
                "add_prefix_space": True,
                "model_max_length": TOKENS,
            }
        )
    )
    check_equal(folder)


NONSENSE: tuple[object, ...] = (None, -1, 0, 1.5, "x", "", [], {}, True, [1], {"a": 1}, 10**20)
BROKEN = ("", "{", "[]", "{}", "null", "1", '"x"', "\xff")


@pytest.mark.proof
@pytest.mark.parametrize(
    "name",
    [
        *("modules.json", "1_Pooling/config.json", "2_Dense/config.json"),
        *("sentence_bert_config.json", "config_sentence_transformers.json", "config.json"),
        *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    ],
)
def test_nonsense_in_a_file_is_one_sentence_or_runs(tmp_path: Path, name: str) -> None:
    folder = add_modules(write(tmp_path), ("Dense", DENSE), NORMALIZE)
    edit(folder / "sentence_bert_config.json", max_seq_length=20, do_lower_case=True)
    stated(prompts={"q": "query: "}, default_prompt_name="q", truncate_dim=5)(folder)
    edit(folder / "special_tokens_map.json", mask_token="[MASK]")  # noqa: S106
    edit(folder / "added_tokens.json")
    whole = json.loads((folder / name).read_text())
    keys = whole if isinstance(whole, dict) else {}
    # A model of 10^20 layers is one that is being made for ever.
    values = [value for value in NONSENSE if name != "config.json" or value != 10**20]
    texts = [*BROKEN, *(json.dumps(whole | {key: value}) for key in keys for value in values)]
    for text in texts:
        (folder / name).write_text(text, encoding="latin-1")
        problem = ""
        try:
            runner = load(folder)
        except StartupError as error:
            problem = error.message
        assert "\n" not in problem
        if not problem:
            vectors = ours(runner, Packing.PADDED, ["word1"])
            assert vectors.shape == (1, runner.spec.result_width)
