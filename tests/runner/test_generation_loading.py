"""A checkpoint that generates is applied whole, or refused by the name of what is not done."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from predictor.core.errors import StartupError
from predictor.core.model import ModelSettings, Task
from predictor.runner import generation_trial
from predictor.runner.generation_loading import SLOTS
from predictor.runner.generator import Generator
from predictor.runner.loading import load_runner
from tests.runner.decoders import (
    CONTEXT,
    END_ID,
    VOCABULARY,
    Reference,
    edit_json,
    load_decoder,
    write_decoder,
    write_tokenizer,
    write_variant,
)
from tests.runner.stepping import greedy, texts

PROMPTS = [[5, 17, 33, 60, 9], [80, 4], [12] * 20]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return write_decoder(tmp_path, "llama")


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(StartupError) as caught:
        load_decoder(folder, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def check_text(folder: Path) -> None:
    reference = Reference(folder)
    expected = [reference.greedy(prompt, 8) for prompt in PROMPTS]
    assert texts(load_decoder(folder), PROMPTS, greedy(8)) == expected


def test_spec(folder: Path) -> None:
    edit_json(folder, "generation_config.json", eos_token_id=[2, 9, 2], temperature=0.7, top_k=20)
    spec = load_decoder(folder).spec
    assert (spec.task, spec.max_tokens, spec.vocabulary_size) == (
        Task.TEXT_GENERATION,
        CONTEXT,
        VOCABULARY,
    )
    generation = spec.generation
    assert generation is not None
    assert generation.end_ids == (2, 9)
    assert generation.defaults == {"temperature": 0.7, "top_k": 20.0}
    assert generation.special_tokens["eos_token"] == "</s>"  # noqa: S105 - no secret
    assert generation.prefix_cache
    assert generation.pages == SLOTS["cpu"] * CONTEXT // generation.page_tokens
    tokenizer = Tokenizer.from_file(spec.tokenizer_file)
    assert tokenizer.encode("word4 word9").ids == [7, 12]


def test_end_ids_come_from_config_json_where_nothing_else_says(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    generation = load_decoder(folder).spec.generation
    assert generation is not None
    assert generation.end_ids == (END_ID,)
    assert generation.defaults == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["llama, no groups, tied", "qwen2"])
def test_other_formats_and_shards(tmp_path: Path, dtype: torch.dtype, variant: str) -> None:
    write_variant(tmp_path, variant, dtype=dtype, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    check_text(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("variant", ["llama", "qwen3, layer types", "qwen2"])
def test_sixteen_bits_are_close(tmp_path: Path, dtype: str, variant: str) -> None:
    """The trial says so when it loads; and it generates."""
    write_variant(tmp_path, variant)
    assert {
        len(text) for text in texts(load_decoder(tmp_path, dtype=dtype), PROMPTS, greedy(8))
    } == {8}


def test_rope_scaling_as_older_files_write_it(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    scaling = {"type": "linear", "factor": 2.0}
    (folder / "config.json").write_text(
        json.dumps(config | {"rope_theta": 5000.0, "rope_scaling": scaling})
    )
    check_text(folder)


@pytest.mark.parametrize(
    ("file", "values", "named"),
    [
        ("config.json", {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantis"),
        ("config.json", {"model_type": "gpt_neox"}, "gpt_neox"),
        ("config.json", {"model_type": "qwen2_moe"}, "qwen2_moe"),
        ("config.json", {"model_type": "no_such"}, "no_such"),
        ("config.json", {"architectures": ["LlamaForSequenceClassification"]}, "SequenceClass"),
        ("config.json", {"hidden_act": "gelu"}, "gelu"),
        ("config.json", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("config.json", {"residual_multiplier": 0.2}, "residual_multiplier"),
        ("config.json", {"num_experts": 8}, "num_experts"),
        ("config.json", {"sliding_window": 8}, "sliding_window"),
        ("config.json", {"auto_map": {"AutoConfig": "x.Y"}}, "auto_map"),
        ("config.json", {"layer_types": ["sliding_attention"] * 3}, "sliding_attention"),
        ("config.json", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (
            "config.json",
            {
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "factor": 4.0,
                    "short_factor": [1.0] * 4,
                    "long_factor": [2.0] * 4,
                    "original_max_position_embeddings": 40,
                }
            },
            "longrope",
        ),
        (
            "config.json",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4]}},
            "mrope_section",
        ),
        ("config.json", {"num_key_value_heads": 3}, "num_key_value_heads"),
        ("generation_config.json", {"num_beams": 4}, "num_beams"),
        ("generation_config.json", {"suppress_tokens": [1]}, "suppress_tokens"),
        ("generation_config.json", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size"),
        ("generation_config.json", {"temperature": -1}, "temperature"),
        ("generation_config.json", {"top_p": "high"}, "top_p"),
        ("generation_config.json", {"eos_token_id": VOCABULARY}, "eos_token_id"),
        ("generation_config.json", {"something_new": {"a": 1}}, "something_new"),
    ],
)
def test_what_is_not_done_is_refused_by_name(
    folder: Path, file: str, values: dict[str, object], named: str
) -> None:
    assert named in refusal(edit_json(folder, file, **values))


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"use_cache": False, "torch_dtype": "float16", "_anything": 1}),
        ("config.json", {"sliding_window": None, "num_experts": 0, "auto_map": {}}),
        ("config.json", {"pretraining_tp": 1, "unsloth_fixed": True}),
        ("generation_config.json", {"num_beams": 1, "typical_p": 1.0, "max_length": 40}),
        ("generation_config.json", {"suppress_tokens": None, "no_repeat_ngram_size": 0}),
    ],
)
def test_what_changes_nothing_is_let_through(
    folder: Path, file: str, values: dict[str, object]
) -> None:
    check_text(edit_json(folder, file, **values))


def test_do_sample_false_is_greedy(folder: Path) -> None:
    edit_json(folder, "generation_config.json", do_sample=False)
    generation = load_decoder(folder).spec.generation
    assert generation is not None
    assert generation.defaults == {"temperature": 0.0}


def change_weights(folder: Path, **changed: torch.Tensor | None) -> None:
    """None: taken out. Names with __ for dots."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name, weight in changed.items():
        weights.pop(name.replace("__", "."), None)
        if weight is not None:
            weights[name.replace("__", ".")] = weight
    save_file(weights, path, metadata={"format": "pt"})


def test_weights_without_a_place_are_refused(folder: Path) -> None:
    change_weights(folder, model__layers__0__self_attn__q_proj__bias=torch.ones(32))
    assert "q_proj.bias" in refusal(folder)


def test_weights_that_are_computed_are_not_missed(folder: Path) -> None:
    change_weights(folder, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    check_text(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    change_weights(folder, model__layers__1__mlp__up_proj__weight=None)
    assert "up_proj" in refusal(folder)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    change_weights(folder, model__norm__weight=torch.full((32,), float("nan")))
    assert "not finite" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_damaged_files_are_refused(folder: Path, file: str, content: bytes | None) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    refusal(folder)


def test_the_trial_refuses_what_is_computed_differently(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generation_trial._whole

    def other(reference: Any, row: Any) -> torch.Tensor:
        reference.model.layers[1].self_attn.scaling = 0.4
        return whole(reference, row)

    monkeypatch.setattr(generation_trial, "_whole", other)
    message = refusal(folder)
    assert "computed differently" in message
    assert "apart" in message


def test_our_weights_and_those_of_the_trial_are_the_same_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def compare(generator: Generator, reference: Any) -> None:
        for layer, own in zip(reference.model.layers, generator._weights.layers, strict=True):
            theirs = (layer.self_attn.q_proj, layer.mlp.gate_proj, layer.mlp.down_proj)
            ours = (own.qkv, own.gate_up, own.down)
            seen.extend(
                a.weight.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
                for a, b in zip(theirs, ours, strict=True)
            )

    monkeypatch.setattr("predictor.runner.generation_loading.compare_forwards", compare)
    load_decoder(folder)
    assert len(seen) == 9
    assert all(seen)


def test_context_is_what_the_memory_holds(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = load_decoder(folder, kv_cache_gib=0.001)
    generation = runner.spec.generation
    assert generation is not None
    assert generation.pages == 2**30 // 1000 // (16 * 2 * 3 * 2 * 8 * 4)
    edit_json(folder, "config.json", max_position_embeddings=100_000)
    runner = load_decoder(folder, kv_cache_gib=0.001)
    assert runner.spec.max_tokens == 16 * generation.pages
    assert "kv_cache_gib" in caplog.text


def test_too_little_memory_is_refused(tmp_path: Path) -> None:
    write_decoder(tmp_path, "llama", {"head_dim": 512})
    assert "2 pages of 16 tokens" in refusal(tmp_path, kv_cache_gib=0.001)


@pytest.mark.parametrize("asked", [-1.0, 0.0, float("nan"), float("inf")])
def test_no_amount_of_memory_is_refused(folder: Path, asked: float) -> None:
    assert "kv_cache_gib" in refusal(folder, kv_cache_gib=asked)


def test_a_tokenizers_own_limit_counts(folder: Path) -> None:
    edit_json(folder, "tokenizer_config.json", model_max_length=48)
    assert load_decoder(folder).spec.max_tokens == 48


def test_yarn_reaches_as_far_as_it_says(tmp_path: Path) -> None:
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 40,
    }
    config = {"max_position_embeddings": 40, "rope_parameters": rope}
    assert load_decoder(write_decoder(tmp_path, "qwen3", config)).spec.max_tokens == 160


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("one", "one"),
        ([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}], "d"),
        ([{"name": "tool_use", "template": "t"}], ""),
        (None, ""),
    ],
)
def test_chat_templates_in_the_tokenizers_settings(
    folder: Path, template: object, expected: str
) -> None:
    edit_json(folder, "tokenizer_config.json", chat_template=template)
    generation = load_decoder(folder).spec.generation
    assert generation is not None
    assert generation.chat_template == expected


def test_a_chat_template_in_a_file_of_its_own(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ bos_token }}")
    generation = load_decoder(folder).spec.generation
    assert generation is not None
    assert generation.chat_template == "{{ bos_token }}"


def test_the_edge_encodes_as_transformers_does(folder: Path) -> None:
    write_tokenizer(folder, model_max_length=100)
    edit_json(folder, "tokenizer_config.json", add_bos_token=True)
    text = "word4 word9 unheard </s> word1"
    ours = Tokenizer.from_file(load_decoder(folder).spec.tokenizer_file)
    assert ours.encode(text).ids == AutoTokenizer.from_pretrained(folder)(text).input_ids


def test_flags_of_generation_are_for_generation(folder: Path) -> None:
    for flag, value in (("kv_cache_gib", 1.0), ("prefix_cache", False)):
        settings: dict[str, Any] = {flag: value}
        with pytest.raises(StartupError, match=flag):
            load_runner(ModelSettings(name="m", task=Task.SIMULATED, **settings))
    generation = load_decoder(folder, prefix_cache=False).spec.generation
    assert generation is not None
    assert not generation.prefix_cache
