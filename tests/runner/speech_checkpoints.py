"""Tiny CTC checkpoints with random weights, of each kind that masks differently."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertConfig,
    HubertForCTC,
    PreTrainedModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
)

from loadtest.bench.speech_checkpoint import VOCABULARY, write_extractor, write_vocabulary

HIDDEN = 32
STRIDES = (5, 2, 2, 2, 2, 2, 2)
KERNELS = (10, 3, 3, 3, 3, 2, 2)
SIZES: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "pad_token_id": 0,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
WAVES: dict[str, Any] = {
    **SIZES,
    "conv_dim": (16,) * 7,
    "conv_kernel": KERNELS,
    "conv_stride": STRIDES,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STABLE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


class Kind(StrEnum):
    GROUP_NORM = "wav2vec2, group norm"
    LAYER_NORM = "wav2vec2, layer norm"
    ADAPTER = "wav2vec2, layer norm, adapter"
    HUBERT = "hubert, group norm"
    HUBERT_LARGE = "hubert, layer norm"
    BERT = "wav2vec2-bert"
    BERT_ADAPTER = "wav2vec2-bert, adapter"


def write_speech(folder: Path, kind: Kind) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = _model(kind)
        with torch.no_grad():  # so that different frames get clearly different labels
            head: Any = model.get_submodule("lm_head")
            head.weight.normal_(0, 1)
    model.save_pretrained(folder)
    write_vocabulary(folder)
    if kind in (Kind.BERT, Kind.BERT_ADAPTER):
        untyped: Any = SeamlessM4TFeatureExtractor
        untyped(feature_size=80, num_mel_bins=80, padding_value=1).save_pretrained(folder)
    else:
        # As published: the large models normalise, hubert-base does, and one here does not.
        write_extractor(folder, do_normalize=kind is not Kind.HUBERT_LARGE)
    return folder


def _model(kind: Kind) -> PreTrainedModel:
    adapter: dict[str, Any] = {"add_adapter": True, "num_adapter_layers": 2}
    match kind:
        case Kind.GROUP_NORM:
            return Wav2Vec2ForCTC(Wav2Vec2Config(**WAVES))
        case Kind.LAYER_NORM:
            return Wav2Vec2ForCTC(Wav2Vec2Config(**WAVES, **STABLE))
        case Kind.ADAPTER:
            return Wav2Vec2ForCTC(Wav2Vec2Config(**WAVES, **STABLE, **adapter))
        case Kind.HUBERT:
            return HubertForCTC(HubertConfig(**WAVES))
        case Kind.HUBERT_LARGE:
            return HubertForCTC(HubertConfig(**WAVES, **STABLE))
        case Kind.BERT:
            return Wav2Vec2BertForCTC(Wav2Vec2BertConfig(**SIZES, output_hidden_size=HIDDEN))
        case Kind.BERT_ADAPTER:
            return Wav2Vec2BertForCTC(
                Wav2Vec2BertConfig(**SIZES, **adapter, output_hidden_size=HIDDEN)
            )
