#!/usr/bin/env python3
"""Make ``musetalk/face/weights/facemesh.safetensors`` again from MediaPipe's own files.

    pip download --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64 \\
        --python-version 3.11 mediapipe==0.10.21
    unzip -j mediapipe-*.whl '*/face_detection_short_range.tflite' '*/face_landmark.tflite'
    pip install tflite numpy safetensors
    python scripts/convert_facemesh.py *.tflite --out facemesh.safetensors

Values are kept as they are (float16, int32 for paddings). Tensors are named ``det.<i>`` and ``mesh.<i>`` by
their number in the graph; the metadata key ``graphs`` holds both graphs as JSON (see musetalk/face/graph.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SHA256 = {
    "det": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "mesh": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}
SOURCE = "mediapipe 0.10.21 wheel, Apache-2.0"
# The options of the operators that have any, in the schema's order.
_STEP = ("Padding", "StrideW", "StrideH")
_REST = ("FusedActivationFunction", "DilationWFactor", "DilationHFactor")
OPTIONS = {
    "CONV_2D": ("Conv2DOptions", (*_STEP, *_REST, "QuantizedBiasType")),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_STEP, "DepthMultiplier", *_REST)),
    "MAX_POOL_2D": ("Pool2DOptions", (*_STEP, "FilterWidth", "FilterHeight", "FusedActivationFunction")),
    "ADD": ("AddOptions", ("FusedActivationFunction", "PotScaleInt16")),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", "FusedActivationFunction")),
}


def read_checked(path: Path, net: str) -> bytes:
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[net]:
        sys.exit(f"{path}: SHA-256 is {found}, expected {SHA256[net]} (mediapipe 0.10.21)")
    return data


def parse(data: bytes) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """A TFLite file's graph, and its stored tensors by number."""
    import tflite

    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    dtypes = {
        tflite.TensorType.FLOAT32: np.float32,
        tflite.TensorType.FLOAT16: np.float16,
        tflite.TensorType.INT32: np.int32,
    }
    shapes: dict[str, list[int]] = {}
    constants: dict[int, np.ndarray] = {}
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        shapes[str(i)] = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            constants[i] = buffer.DataAsNumpy().view(dtypes[tensor.Type()]).reshape(shapes[str(i)])
    ops = [operator(model, graph.Operators(i)) for i in range(graph.OperatorsLength())]
    inputs = [graph.Inputs(i) for i in range(graph.InputsLength())]
    outputs = [graph.Outputs(i) for i in range(graph.OutputsLength())]
    return {"ops": ops, "inputs": inputs, "outputs": outputs, "shapes": shapes}, constants


def operator(model: Any, op: Any) -> list[Any]:
    """``[kind, inputs, outputs, options]`` of one operator."""
    import tflite

    code = model.OperatorCodes(op.OpcodeIndex())
    kinds = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
    kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
    options = {}
    if kind in OPTIONS:
        class_name, fields = OPTIONS[kind]
        table = getattr(tflite, class_name)()
        table.Init(op.BuiltinOptions().Bytes, op.BuiltinOptions().Pos)
        options = {field[0].lower() + field[1:]: getattr(table, field)() for field in fields}
    inputs = [op.Inputs(i) for i in range(op.InputsLength())]
    return [kind, inputs, [op.Outputs(i) for i in range(op.OutputsLength())], options]


def compare(made: Path, existing: Path) -> None:
    """Exit with a message unless both files hold the same graphs and tensors."""
    from safetensors import safe_open

    with safe_open(made, "np") as a, safe_open(existing, "np") as b:
        if json.loads(a.metadata()["graphs"]) != json.loads(b.metadata()["graphs"]):
            sys.exit(f"{existing}: the graphs differ")
        if set(a.keys()) != set(b.keys()):
            sys.exit(f"{existing}: other tensors: {sorted(set(a.keys()) ^ set(b.keys()))}")
        for name in a.keys():  # noqa: SIM118, not a dict
            x, y = a.get_tensor(name), b.get_tensor(name)
            if x.dtype != y.dtype or not np.array_equal(x, y):
                sys.exit(f"{existing}: tensor {name} differs")
        print(f"{existing}: same graphs, same {len(list(a.keys()))} tensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path, help="face_detection_short_range.tflite")
    parser.add_argument("mesh", type=Path, help="face_landmark.tflite")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--compare", type=Path, help="an existing .safetensors file to compare with")
    arguments = parser.parse_args()

    from safetensors.numpy import save_file

    graphs, tensors = {}, {}
    for net, path in (("det", arguments.detector), ("mesh", arguments.mesh)):
        graphs[net], constants = parse(read_checked(path, net))
        tensors.update({f"{net}.{i}": np.ascontiguousarray(array) for i, array in constants.items()})
    metadata = {"graphs": json.dumps(graphs, separators=(",", ":")), "source": SOURCE}
    save_file(tensors, arguments.out, metadata=metadata)
    if arguments.compare:
        compare(arguments.out, arguments.compare)


if __name__ == "__main__":
    main()
