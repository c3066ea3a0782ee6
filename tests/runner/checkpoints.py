"""Tiny checkpoints with random weights, written the way Hugging Face tools write them."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{index}" for index in range(60)))
ROBERTA_WORDS = ("<s>", "<pad>", "</s>", "<unk>", *(f"word{index}" for index in range(60)))
VOCABULARY = len(WORDS)
POSITIONS = 40
HIDDEN = 16
HEADS = 2
REACH = 8  # tokens that ModernBERT's local attention sees to each side
LABELS = {0: "bad", 1: "fair", 2: "good"}


class Family(StrEnum):
    BERT = "bert"
    DISTILBERT = "distilbert"
    ROBERTA = "roberta"
    MODERNBERT = "modernbert"


def write_classifier(
    folder: Path,
    family: Family,
    problem_type: str | None = None,
    *,
    hidden: int = HIDDEN,
    **options: Any,
) -> Path:
    """A sequence classifier of three labels with a tokenizer.json; `options` are the family's."""
    options |= {"id2label": LABELS, "problem_type": problem_type}
    match family:
        case Family.BERT:
            model: PreTrainedModel = BertForSequenceClassification(_bert(hidden, **options))
        case Family.DISTILBERT:
            model = DistilBertForSequenceClassification(_distilbert(hidden, **options))
        case Family.ROBERTA:
            model = RobertaForSequenceClassification(_roberta(hidden, **options))
        case Family.MODERNBERT:
            model = ModernBertForSequenceClassification(_modernbert(hidden, **options))
    return _save(folder, model, family)


def write_encoder(folder: Path, family: Family, *, hidden: int = HIDDEN) -> Path:
    """A bare encoder with a tokenizer.json and no sentence-transformers files."""
    match family:
        case Family.BERT:
            model: PreTrainedModel = BertModel(_bert(hidden))
        case Family.DISTILBERT:
            model = DistilBertModel(_distilbert(hidden))
        case Family.ROBERTA:
            model = RobertaModel(_roberta(hidden))
        case Family.MODERNBERT:
            model = ModernBertModel(_modernbert(hidden))
    return _save(folder, model, family)


def write_masked_language_model(folder: Path) -> Path:
    """Its checkpoint has no pooler, as those of many pretrained encoders."""
    return _save(folder, BertForMaskedLM(_bert()), Family.BERT)


def write_decoder(folder: Path) -> Path:
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=HIDDEN, n_layer=1)
    config.n_head = HEADS
    return _save(folder, GPT2Model(config), Family.BERT)


def write_mpnet(folder: Path) -> Path:
    """Its attention has relative positions."""
    config = MPNetConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=POSITIONS,
    )
    return _save(folder, MPNetModel(config), Family.ROBERTA)


def add_sentence_files(
    folder: Path, pooling: dict[str, object], *, normalise: bool, max_tokens: int | None = None
) -> Path:
    """modules.json and 1_Pooling/config.json as sentence-transformers writes them."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if normalise:
        kinds.append(("2_Normalize", "Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if max_tokens is not None:
        text = json.dumps({"max_seq_length": max_tokens, "do_lower_case": True})
        (folder / "sentence_bert_config.json").write_text(text)
    return folder


def edit_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def write_vocabulary(folder: Path) -> None:
    """vocab.txt alone, as checkpoints from before fast tokenizers have it."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    # No more of them than the model has embeddings for.
    (folder / "vocab.txt").write_text("\n".join([*WORDS[:-1], "[MASK]"]) + "\n")


def _bert(hidden: int = HIDDEN, **options: Any) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=2 * hidden,
        max_position_embeddings=POSITIONS,
        **options,
    )


def _distilbert(hidden: int = HIDDEN, **options: Any) -> DistilBertConfig:
    return DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=hidden,
        n_layers=2,
        n_heads=HEADS,
        hidden_dim=2 * hidden,
        max_position_embeddings=POSITIONS,
        **options,
    )


def _roberta(hidden: int = HIDDEN, **options: Any) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=2 * hidden,
        max_position_embeddings=POSITIONS,
        type_vocab_size=1,
        **options,
    )


def _modernbert(hidden: int = HIDDEN, **options: Any) -> ModernBertConfig:
    """One layer that looks everywhere, then two that look `REACH` tokens to each side."""
    return ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=2 * hidden,
        max_position_embeddings=POSITIONS,
        local_attention=2 * REACH,
        pad_token_id=WORDS.index("[PAD]"),
        cls_token_id=WORDS.index("[CLS]"),
        bos_token_id=WORDS.index("[CLS]"),
        sep_token_id=WORDS.index("[SEP]"),
        eos_token_id=WORDS.index("[SEP]"),
        **options,
    )


def _save(folder: Path, model: PreTrainedModel, family: Family) -> Path:
    """Weights so large that different rows differ clearly, so small that 16 bits tell them apart.

    Always the same ones.
    """
    random = torch.Generator().manual_seed(0)
    scale = 0.6 / model.config.hidden_size**0.5
    with torch.no_grad():
        for weights in model.parameters():
            noise = torch.empty_like(weights).normal_(generator=random)
            if weights.dim() > 1:
                weights.copy_(scale * noise)
            else:  # norms begin with ones, biases with zeros
                weights.add_(0.1 * noise)
    model.save_pretrained(folder)
    _tokenizer(family).save(str(folder / "tokenizer.json"))
    # Without it transformers makes a tokenizer of the family's own kind from these words.
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _tokenizer(family: Family) -> Tokenizer:
    """It pads and cuts to 8, as the files of some published checkpoints do."""
    roberta = family is Family.ROBERTA
    words = ROBERTA_WORDS if roberta else WORDS
    first, last, unknown, padding = (
        ("<s>", "</s>", "<unk>", "<pad>") if roberta else ("[CLS]", "[SEP]", "[UNK]", "[PAD]")
    )
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, ids[first]), (last, ids[last])]
    )
    tokenizer.enable_padding(length=8, pad_id=ids[padding], pad_token=padding)
    tokenizer.enable_truncation(8)
    return tokenizer
