"""The weights of a decoder, from a checkpoint of any of the families.

transformers reads the files: shards, tied heads, number formats. What it has read is then joined
layer by layer, and its own modules keep views of the joined tensors. So the model is in memory
once, and transformers' forward can be compared with ours on the very same numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from predictor.core.errors import StartupError
from predictor.runner.decoder import DecoderWeights, LayerWeights
from predictor.runner.decoder_config import DecoderShape
from predictor.runner.weights import load_complete

_COMPUTED = "rotary_emb.inv_freq"  # old checkpoints store what config.json says already


def load_decoder(folder: Path, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """transformers' model, on the CPU. Raises StartupError unless the checkpoint holds exactly
    its weights."""
    return load_complete(
        AutoModelForCausalLM,
        folder,
        config,
        dtype,
        unused="",
        advice="copy the whole checkpoint there again, or use another",
        surplus=_refuse_surplus,
    )


def _refuse_surplus(folder: Path, names: Sequence[str]) -> None:
    surplus = sorted(name for name in names if not name.endswith(_COMPUTED))
    if surplus:
        raise StartupError(
            f"the checkpoint in {folder} has {len(surplus)} weights that config.json has no place"
            f" for ({surplus[0]}, …); they would be left out, so use a checkpoint whose config.json"
            " belongs to its weights"
        )


def join_weights(
    model: PreTrainedModel, shape: DecoderShape, device: torch.device
) -> DecoderWeights:
    """Bring the model to `device` layer by layer and join its projections on the way.

    `model` shares the memory afterwards. Raises torch.OutOfMemoryError.
    """
    whole: Any = model
    body = whole.model
    layers = []
    with torch.no_grad():
        for layer in body.layers:
            layer.to(device)
            layers.append(_join_layer(layer, shape))
        whole.to(device)
    rotary = body.rotary_emb
    return DecoderWeights(
        shape=shape,
        embedding=body.embed_tokens.weight.detach(),
        layers=layers,
        norm=body.norm.weight.detach(),
        head=whole.get_output_embeddings().weight.detach(),
        frequencies=rotary.inv_freq.to(device, torch.float32),
        rotation_scale=float(rotary.attention_scaling),
    )


def _join_layer(layer: Any, shape: DecoderShape) -> LayerWeights:
    attention, mlp = layer.self_attn, layer.mlp
    qkv, qkv_bias = _join([attention.q_proj, attention.k_proj, attention.v_proj])
    gate_up, gate_up_bias = _join([mlp.gate_proj, mlp.up_proj])
    return LayerWeights(
        attention_norm=layer.input_layernorm.weight.detach(),
        qkv=qkv,
        qkv_bias=qkv_bias,
        qk_norm=_head_norms(attention, shape),
        output=attention.o_proj.weight.detach(),
        output_bias=_bias(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=gate_up,
        gate_up_bias=gate_up_bias,
        down=mlp.down_proj.weight.detach(),
        down_bias=_bias(mlp.down_proj),
    )


def _join(parts: Sequence[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Their weights and biases, each as one tensor, of which `parts` keep views."""
    return _share(parts, "weight"), None if _bias(parts[0]) is None else _share(parts, "bias")


def _share(parts: Sequence[nn.Linear], name: str) -> Tensor:
    joint = torch.cat([getattr(part, name).detach() for part in parts])
    views = joint.split([part.out_features for part in parts])
    for part, view in zip(parts, views, strict=True):
        setattr(part, name, nn.Parameter(view, requires_grad=False))
    return joint


def _bias(part: nn.Linear) -> Tensor | None:
    bias: Tensor | None = part.bias  # torch's types say that all have one
    return None if bias is None else bias.detach()


def _head_norms(attention: Any, shape: DecoderShape) -> Tensor | None:
    """Of Qwen3: one weight for each query head and one for each key head, a line for each."""
    if getattr(attention, "q_norm", None) is None:
        return None
    return torch.cat(
        [
            attention.q_norm.weight.detach().expand(shape.heads, -1),
            attention.k_norm.weight.detach().expand(shape.kv_heads, -1),
        ]
    )
