"""Run the small TFLite graphs of the face networks as ordinary PyTorch modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelFileError

Constants = Mapping[int, Tensor]
Options = Mapping[str, Any]
Shapes = Mapping[int, Sequence[int]]

_SAME_PADDING = 0
_NO_ACTIVATION = 0


class TFLiteGraph(nn.Module):
    """One TFLite graph, rebuilt in PyTorch's layout: ``[B, C, H, W]`` in, one tensor per graph output out.

    graph: ``ops`` as ``[kind, inputs, outputs, options]`` in execution order, ``inputs`` and ``outputs``
        (tensor numbers) and ``shapes`` (tensor number as text -> shape at batch 1, channels last).
    constants: tensor number -> stored weight, channels last as TFLite keeps it, any float type.

    Outputs keep TFLite's order of values: a tensor that was reshaped is ``[B, ...]`` channels last.
    Raises ModelFileError for an operator or option that these graphs do not use.
    """

    def __init__(self, graph: Mapping[str, Any], constants: Constants) -> None:
        super().__init__()
        shapes = {int(number): shape for number, shape in graph["shapes"].items()}
        known = {n: t.float() if t.is_floating_point() else t for n, t in constants.items()}
        layers: list[nn.Module] = []
        self._wiring: list[tuple[tuple[int, ...], int]] = []
        for kind, inputs, (output,), options in graph["ops"]:
            if kind == "DEQUANTIZE" and inputs[0] in known:
                known[output] = known[inputs[0]]
                continue
            if kind not in _BUILDERS or options.get("fusedActivationFunction", _NO_ACTIVATION) != _NO_ACTIVATION:
                raise ModelFileError(f"face network: operator {kind} with options {dict(options)} is not supported")
            layers.append(_BUILDERS[kind](inputs, output, options, known, shapes))
            self._wiring.append((tuple(i for i in inputs if i >= 0 and i not in known), output))
        self.layers = nn.ModuleList(layers)
        (self._input,) = graph["inputs"]
        self._outputs = tuple(graph["outputs"])
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values = {self._input: x}
        for layer, (inputs, output) in zip(self.layers, self._wiring, strict=True):
            values[output] = layer(*(values[i] for i in inputs))
        return tuple(values[i] for i in self._outputs)


class _Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class _Concatenate(nn.Module):
    """Joins tensors that are in TFLite's own order already (after a reshape): the axis needs no mapping."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, self.axis)


class _ReshapeChannelsLast(nn.Module):
    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], *self.shape)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME rule: an odd total puts the extra row after the picture, never before it."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _padding(shape: Sequence[int], kernel: tuple[int, int], options: Options) -> tuple[int, int, int, int]:
    """left, right, top, bottom for an input of channels-last ``shape``."""
    if options["padding"] != _SAME_PADDING:
        return 0, 0, 0, 0
    top, bottom = _same_padding(shape[1], kernel[0], options["strideH"])
    left, right = _same_padding(shape[2], kernel[1], options["strideW"])
    return left, right, top, bottom


def _conv(
    inputs: Sequence[int],
    output: int,
    options: Options,
    constants: Constants,
    shapes: Shapes,
    *,
    depthwise: bool,
) -> nn.Module:
    if options["dilationHFactor"] != 1 or options["dilationWFactor"] != 1:
        raise ModelFileError("face network: dilated convolutions are not supported")
    stored, bias = constants[inputs[1]], constants[inputs[2]]
    weight = stored.permute(3, 0, 1, 2) if depthwise else stored.permute(0, 3, 1, 2)
    kernel = (weight.shape[2], weight.shape[3])
    left, right, top, bottom = _padding(shapes[inputs[0]], kernel, options)
    symmetric = left == right and top == bottom
    channels = shapes[inputs[0]][3]
    # skip_init: the usual constructor would draw from the caller's random generator for nothing
    conv = nn.utils.skip_init(
        nn.Conv2d,
        channels,
        weight.shape[0],
        kernel,
        stride=(options["strideH"], options["strideW"]),
        padding=(top, left) if symmetric else 0,
        groups=channels if depthwise else 1,
    )
    conv.load_state_dict({"weight": weight, "bias": bias})
    return conv if symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)


def _conv2d(i: Sequence[int], o: int, p: Options, c: Constants, s: Shapes) -> nn.Module:
    return _conv(i, o, p, c, s, depthwise=False)


def _depthwise(i: Sequence[int], o: int, p: Options, c: Constants, s: Shapes) -> nn.Module:
    return _conv(i, o, p, c, s, depthwise=True)


def _max_pool(i: Sequence[int], o: int, p: Options, c: Constants, s: Shapes) -> nn.Module:
    kernel = (p["filterHeight"], p["filterWidth"])
    pool = nn.MaxPool2d(kernel, (p["strideH"], p["strideW"]))
    padding = _padding(s[i[0]], kernel, p)
    return nn.Sequential(nn.ConstantPad2d(padding, -math.inf), pool) if any(padding) else pool


def _pad(i: Sequence[int], o: int, p: Options, c: Constants, s: Shapes) -> nn.Module:
    _, rows, columns, channels = c[i[1]].tolist()
    return nn.ConstantPad3d((*columns, *rows, *channels), 0.0)


def _prelu(i: Sequence[int], o: int, p: Options, c: Constants, s: Shapes) -> nn.Module:
    slope = c[i[1]].flatten()
    prelu = nn.PReLU(len(slope))
    prelu.load_state_dict({"weight": slope})
    return prelu


_Builder = Callable[[Sequence[int], int, Options, Constants, Shapes], nn.Module]
_BUILDERS: dict[str, _Builder] = {
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _max_pool,
    "PAD": _pad,
    "PRELU": _prelu,
    "RELU": lambda i, o, p, c, s: nn.ReLU(),
    "ADD": lambda i, o, p, c, s: _Add(),
    "CONCATENATION": lambda i, o, p, c, s: _Concatenate(p["axis"]),
    "RESHAPE": lambda i, o, p, c, s: _ReshapeChannelsLast(s[o][1:]),
}
