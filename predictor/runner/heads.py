"""What is done to a pooled vector: the modules that sentence-transformers puts behind Pooling."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from predictor.core.errors import StartupError
from predictor.runner.checkpoint import first_line
from predictor.runner.sentence import Dense, LayerNorm, SentenceLayout, Step

# Those that need no arguments and work number by number, by the names that checkpoints have.
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    f"{kind.__module__}.{kind.__qualname__}": kind
    for kind in (
        *(nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity),
        *(nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid),
        *(nn.Softplus, nn.Softsign, nn.Tanh, nn.Tanhshrink),
    )
}
_ADVICE = "copy the whole checkpoint there again"


class DenseHead(nn.Module):
    """The names of its parts are those in the file of weights."""

    def __init__(self, dense: Dense, activation: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(dense.in_features, dense.out_features, bias=dense.bias)
        self._activation = activation
        self._use_residual = dense.use_residual
        if dense.use_residual and dense.in_features != dense.out_features:
            self.residual = nn.Linear(dense.in_features, dense.out_features, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self._activation(self.linear(vectors))
        if not self._use_residual:
            return out
        return out + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class LayerNormHead(nn.Module):
    def __init__(self, layer: LayerNorm) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(layer.dimension)

    def forward(self, vectors: Tensor) -> Tensor:
        out: Tensor = self.norm(vectors)
        return out


class NormalizeHead(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1)


class TruncateHead(nn.Module):
    """Keeps the first numbers of a vector, however long it is then."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self._dimensions = dimensions

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self._dimensions]


def build_head(layout: SentenceLayout, width: int) -> tuple[nn.Sequential, int]:
    """All steps of a layout, in FP32 on the CPU, for vectors of `width`; and the width behind them.

    Raises StartupError if a file of weights is missing or does not fit.
    """
    modules: list[nn.Module] = []
    for step in layout.steps:
        module, width = _build(step, width)
        modules.append(module)
    if layout.dimensions is not None:
        modules.append(TruncateHead(layout.dimensions))
        width = min(width, layout.dimensions)
    return nn.Sequential(*modules).eval(), width


def _build(step: Step, width: int) -> tuple[nn.Module, int]:
    match step:
        case Dense():
            _check_width(step.folder, "in_features", step.in_features, width)
            module: nn.Module = DenseHead(step, _activation(step))
            return _with_weights(module, step.folder), step.out_features
        case LayerNorm():
            _check_width(step.folder, "dimension", step.dimension, width)
            return _with_weights(LayerNormHead(step), step.folder), width
        case _:
            return NormalizeHead(), width


def _check_width(folder: Path, key: str, stated: int, width: int) -> None:
    if stated != width:
        raise StartupError(
            f"{folder / 'config.json'}: {key} is {stated}, but vectors of {width} numbers come;"
            f" the files are not of one checkpoint: {_ADVICE}"
        )


def _activation(step: Dense) -> nn.Module:
    if step.activation_function is None:
        return nn.Identity()
    kind = _ACTIVATIONS.get(step.activation_function)
    if kind is None:
        names = ", ".join(name.rpartition(".")[2] for name in _ACTIVATIONS)
        raise StartupError(
            f"{step.folder / 'config.json'}: activation_function is"
            f" {step.activation_function!r}; supported are these of torch.nn: {names}"
        )
    return kind()


def _with_weights(module: nn.Module, folder: Path) -> nn.Module:
    try:
        path = folder / "model.safetensors"
        if path.exists():
            weights = load_file(path)
        else:
            path = folder / "pytorch_model.bin"
            weights = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict({name: values.float() for name, values in weights.items()})
    except Exception as error:  # file formats and shapes have no common base
        raise StartupError(
            f"the weights in {folder} cannot be loaded: {first_line(error)}; {_ADVICE}"
        ) from None
    return module
