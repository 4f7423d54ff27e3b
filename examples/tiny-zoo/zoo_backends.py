"""Sessions of the engines a model can run on.

Rule: a session says where it really runs; what an engine cannot do is said as a reason, never
replaced by something it can.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
THREADS = 1


class Unsupported(Exception):
    """This cell of the matrix cannot be run, and why."""


class Session(Protocol):
    """A loaded model. `requested` and `actual` are the engine's own names of where it runs."""

    requested: str
    actual: str
    detail: str

    def run(self, feed: dict[str, Array]) -> list[Array]: ...


class OnnxRuntime:
    """onnxruntime with the provider of one hardware class, and the CPU behind it as usual."""

    PROVIDERS: ClassVar = {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "rocm": "ROCMExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
        "qnn": "QNNExecutionProvider",
        "directml": "DmlExecutionProvider",
        "webgpu": "WebGpuExecutionProvider",
    }

    def __init__(self, model: bytes, precision: str, hardware: str, optimised: bool = True) -> None:
        onnxruntime = importlib.import_module("onnxruntime")
        if precision == "bf16":
            raise Unsupported("onnxruntime's CPU kernels take no bfloat16 for these operators")
        if hardware not in self.PROVIDERS:
            raise Unsupported(f"onnxruntime has no provider for hardware {hardware!r}")
        self.requested = self.PROVIDERS[hardware]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 4
        if not optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        wanted = dict.fromkeys([self.requested, "CPUExecutionProvider"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an absent provider is one warning; `placed` tells it
            self._session = onnxruntime.InferenceSession(model, options, providers=list(wanted))
        nodes = self._nodes()
        fell_to = (*nodes, *self._session.get_providers())[0]
        self.actual = self.requested if nodes[self.requested] else fell_to
        placed = ", ".join(f"{count} nodes on {name}" for name, count in nodes.items())
        self.detail = f"onnxruntime {onnxruntime.__version__}: {placed}"

    def _nodes(self) -> Counter[str]:
        """How many nodes each provider really took; the rest of the graph was folded away."""
        found: Counter[str] = Counter()
        for part in self._session.get_provider_graph_assignment_info():
            found[part.ep_name] += len(part.get_nodes())
        return found

    def run(self, feed: dict[str, Array]) -> list[Array]:
        outputs: list[Array] = self._session.run(None, feed)
        return outputs


class OpenVino:
    """OpenVINO on one of its devices, in exactly the precision asked for."""

    DEVICES: ClassVar = {"cpu": "CPU", "openvino": "CPU", "xpu": "GPU"}
    HINTS: ClassVar = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}

    def __init__(self, model: bytes, precision: str, hardware: str) -> None:
        openvino = importlib.import_module("openvino")
        if hardware not in self.DEVICES:
            raise Unsupported(f"OpenVINO has no device for hardware {hardware!r}")
        core = openvino.Core()
        self.requested = self.DEVICES[hardware]
        device = self.requested if self.requested in core.available_devices else "CPU"
        if precision == "bf16" and "BF16" not in core.get_property(
            device, "OPTIMIZATION_CAPABILITIES"
        ):
            raise Unsupported("this CPU has no bfloat16 instructions")
        hints = {
            "INFERENCE_PRECISION_HINT": self.HINTS[precision],
            "INFERENCE_NUM_THREADS": THREADS,
        }
        self._compiled = core.compile_model(core.read_model(model), device, hints)
        self.actual = ",".join(self._compiled.get_property("EXECUTION_DEVICES"))
        kind = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.detail = f"OpenVINO {openvino.__version__.split('-')[0]}: computes in {kind}"

    def run(self, feed: dict[str, Array]) -> list[Array]:
        return [np.array(value) for value in self._compiled(feed).values()]


BACKENDS: dict[str, type[OnnxRuntime] | type[OpenVino]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}
PRECISIONS = ("fp32", "bf16", "int8")


def prepare(backend: str, path: Path, precision: str) -> bytes:
    """The model to load, quantised where asked; the backend's package is imported.

    All that is not loading, so that it is not measured as such. Raises Unsupported with the reason.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    try:
        importlib.import_module(backend)
    except ModuleNotFoundError:
        raise Unsupported(f"{backend} is not installed: pip install {backend}") from None
    return _int8(path) if precision == "int8" else path.read_bytes()


def open_session(backend: str, model: bytes, precision: str, hardware: str) -> Session:
    """The model, loaded. Raises Unsupported with the reason, or what the engine raises."""
    return BACKENDS[backend](model, precision, hardware)


def open_reference(path: Path) -> Session:
    """What every cell is compared with: onnxruntime, CPU, float32, graph optimisations off."""
    return OnnxRuntime(path.read_bytes(), "fp32", "cpu", optimised=False)


@contextmanager
def _only_errors() -> Iterator[None]:
    """Inside, the root logger passes on errors only: quantising advises at every call."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _int8(path: Path) -> bytes:
    """The model with weights in 8 bits and activations quantised as they come.

    Of a copy: the quantiser writes a file beside the model it reads, and the installed package is
    shared by every task of the machine (and often read-only).
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _only_errors():
        made = Path(folder) / "int8.onnx"
        copy = Path(shutil.copy(path, folder))
        quantize_dynamic(copy, made)
        data = made.read_bytes()
    kinds = {node.op_type for node in onnx.load_from_string(data).graph.node}
    if not kinds & {"MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM"}:
        raise Unsupported("dynamic quantisation finds nothing to quantise in this graph")
    return data
