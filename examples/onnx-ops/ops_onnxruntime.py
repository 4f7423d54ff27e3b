"""onnxruntime as a backend for single-operator models.

Rule: every ONNX type is fed as itself, none is cast away.

numpy has no bfloat16, float8, float4 or 2- and 4-bit integers. Such tensors cross the border as
bytes packed the way ONNX packs them, in an OrtValue of the right element type. Sequences, optionals
and strings take the ordinary path.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

NAME = "onnxruntime"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Hardware class of a task and the provider that serves it."""

_BARE_TYPES = frozenset(
    getattr(TensorProto, name)
    for name in (
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
        "FLOAT8E8M0",
        "FLOAT4E2M1",
        "INT4",
        "UINT4",
        "INT2",
        "UINT2",
    )
    if hasattr(TensorProto, name)
)
"""Element types without a numpy type of their own."""
onnxruntime.set_default_logger_severity(4)


def version() -> str:
    return str(onnxruntime.__version__)


def run(model: onnx.ModelProto, inputs: list[Any], hardware: str = "cpu") -> tuple[list[Any], str]:
    """(outputs, provider that ran them).

    Raises what onnxruntime raises for a model it does not take.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=[PROVIDERS[hardware]]
    )
    declared = list(model.graph.input)
    if any(map(_is_bare, [*declared, *model.graph.output])):
        outputs = _run_packed(session, declared, inputs)
    else:
        feed = {item.name: value for item, value in zip(declared, inputs, strict=True)}
        outputs = session.run(None, feed)
    return [_array(value) for value in outputs], _place(session, PROVIDERS[hardware])


def _place(session: onnxruntime.InferenceSession, requested: str) -> str:
    """The provider that took the nodes; a session may name one that took none of them."""
    took = [part.ep_name for part in session.get_provider_graph_assignment_info()]
    if not took:  # the whole graph was folded away
        return str(session.get_providers()[0])
    return requested if requested in took else str(took[0])


def _array(value: Any) -> Any:
    if value is None or isinstance(value, np.ndarray):
        return value
    return [_array(element) for element in value] if isinstance(value, list) else np.asarray(value)


def _is_bare(item: onnx.ValueInfoProto) -> bool:
    return item.type.tensor_type.elem_type in _BARE_TYPES


def _run_packed(
    session: onnxruntime.InferenceSession, declared: list[onnx.ValueInfoProto], inputs: list[Any]
) -> list[Any]:
    feed = {
        item.name: _to_ort(value, item.type.tensor_type.elem_type)
        for item, value in zip(declared, inputs, strict=True)
    }
    return [_from_ort(value) for value in session.run_with_ort_values(None, feed)]


def _to_ort(value: np.ndarray[Any, Any], element: int) -> onnxruntime.OrtValue:
    if element not in _BARE_TYPES:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"))
    packed = numpy_helper.from_array(value).raw_data
    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(value.shape), element)
    if made.tensor_size_in_bytes() != len(packed):
        raise ValueError(f"{len(packed)} packed bytes, {made.tensor_size_in_bytes()} expected")
    ctypes.memmove(made.data_ptr(), packed, len(packed))
    return made


def _from_ort(value: onnxruntime.OrtValue) -> Any:
    element = value.element_type()
    if element not in _BARE_TYPES:
        return value.numpy()
    tensor = TensorProto(data_type=element, dims=value.shape())
    tensor.raw_data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy_helper.to_array(tensor)
