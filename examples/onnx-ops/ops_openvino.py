"""OpenVINO as a backend for single-operator models.

Rule: computed in the precision the model names, never lower.

On CPUs with bfloat16 the plugin would compute float32 models in bfloat16 by itself; the tests'
tolerances are meant for float32, so the hints ask for it.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnx
import openvino
from onnx import TensorProto, numpy_helper

NAME = "openvino"
PROVIDERS = {"cpu": "CPU", "openvino": "CPU", "xpu": "GPU"}
"""Hardware class of a task and the OpenVINO device that serves it."""
_CONFIG = {
    "INFERENCE_PRECISION_HINT": "f32",
    "EXECUTION_MODE_HINT": "ACCURACY",
    "INFERENCE_NUM_THREADS": 1,
}
_BARE_TYPES = {
    TensorProto.BFLOAT16: "bf16",
    TensorProto.FLOAT8E4M3FN: "f8e4m3",
    TensorProto.FLOAT8E5M2: "f8e5m2",
    TensorProto.FLOAT8E8M0: "f8e8m0",
    TensorProto.FLOAT4E2M1: "f4e2m1",
    TensorProto.INT4: "i4",
    TensorProto.UINT4: "u4",
    TensorProto.UINT2: "u2",
}
"""Element types without a numpy type of their own, and OpenVINO's name for them."""
_core = openvino.Core()


def version() -> str:
    return str(openvino.__version__).split("-", 1)[0]


def run(model: onnx.ModelProto, inputs: list[Any], hardware: str = "cpu") -> tuple[list[Any], str]:
    """(outputs, device the model was compiled for).

    Raises what OpenVINO raises for a model it does not take.
    """
    requested = PROVIDERS[hardware]
    device = requested if requested in _core.available_devices else "CPU"
    read = _core.read_model(model.SerializeToString())
    compiled = _core.compile_model(read, device, _CONFIG)
    request = compiled.create_infer_request()
    request.infer(_feed(compiled, list(model.graph.input), inputs))
    tensors = [request.get_output_tensor(index) for index in range(len(compiled.outputs))]
    outputs = [
        _from_tensor(tensor, item) for tensor, item in zip(tensors, model.graph.output, strict=True)
    ]
    return outputs, ",".join(compiled.get_property("EXECUTION_DEVICES"))


def _feed(
    compiled: openvino.CompiledModel, declared: list[onnx.ValueInfoProto], inputs: list[Any]
) -> dict[Any, openvino.Tensor]:
    """Tensors by port.

    OpenVINO keeps the order, but drops inputs nothing uses and renames some it passes through.
    """
    given = {item.name: (item.type, value) for item, value in zip(declared, inputs, strict=True)}
    names = [item.name for item in declared]
    if len(compiled.inputs) != len(names):
        found = [port.get_names() & given.keys() for port in compiled.inputs]
        renamed = iter([name for name in names if {name} not in found])
        names = [each.pop() if each else next(renamed) for each in found]
    pairs = zip(compiled.inputs, names, strict=True)
    return {port: _to_tensor(*given[name]) for port, name in pairs}


def _to_tensor(declared: onnx.TypeProto, value: Any) -> openvino.Tensor:
    if not declared.HasField("tensor_type"):
        raise NotImplementedError("OpenVINO has no sequence or optional values")
    element = declared.tensor_type.elem_type
    if element not in _BARE_TYPES:
        return openvino.Tensor(np.asarray(value, order="C"))
    kind = getattr(openvino.Type, _BARE_TYPES[element])
    packed = numpy_helper.from_array(value).raw_data
    tensor = openvino.Tensor(kind, openvino.Shape(value.shape))
    if tensor.get_byte_size() != len(packed):
        raise ValueError(f"{len(packed)} packed bytes, {tensor.get_byte_size()} expected")
    ctypes.memmove(tensor.data.ctypes.data, packed, len(packed))
    return tensor


def _from_tensor(tensor: openvino.Tensor, declared: onnx.ValueInfoProto) -> Any:
    element = declared.type.tensor_type.elem_type
    if element == TensorProto.STRING:
        return np.array(tensor.str_data, dtype=object)
    kind = tensor.get_element_type().get_type_name()
    if _BARE_TYPES.get(element) != kind:
        return np.array(tensor.data)
    proto = TensorProto(data_type=element, dims=list(tensor.get_shape()))
    proto.raw_data = ctypes.string_at(tensor.data.ctypes.data, tensor.get_byte_size())
    return numpy_helper.to_array(proto)
