"""A speech checkpoint of real size with random weights: for speed, words do not matter."""

import json
from pathlib import Path

SAMPLING_RATE = 16_000
# The vocabulary of facebook/wav2vec2-base-960h: most frequent letters first.
VOCABULARY = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")


def write_wav2vec2_base(folder: Path, seed: int = 0) -> Path:
    """A CTC checkpoint with the configuration of facebook/wav2vec2-base: 94 M weights, 380 MB.

    Twelve layers of 768, norm over time in the first convolution, 32 labels.
    """
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # The defaults are those of wav2vec2-base.
        model = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(VOCABULARY), pad_token_id=0))
    model.save_pretrained(folder)
    write_vocabulary(folder)
    write_extractor(folder)
    return folder


def write_vocabulary(folder: Path) -> None:
    """vocab.json and tokenizer_config.json, as Hugging Face tools write them."""
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    config = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "word_delimiter_token": "|",
        "do_lower_case": False,
    }
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_extractor(folder: Path, *, do_normalize: bool = True) -> None:
    """preprocessor_config.json of a model that hears samples."""
    config = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": SAMPLING_RATE,
        "padding_value": 0.0,
        "do_normalize": do_normalize,
        "return_attention_mask": False,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
