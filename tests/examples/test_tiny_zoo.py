"""Real models in small: they load, agree with the reference, keep promises, tell where they ran."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from .conftest import Heard

MODELS = ["magika", "silero-vad", "basic-pitch", "ocr-direction"]
QUICK = {"rounds": 5, "seconds": 0.5}
OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.mark.parametrize("model", MODELS)
def test_a_model_keeps_its_promises(zoo: ModuleType, heard: Heard, model: str) -> None:
    zoo.cell(model, batch=2, **QUICK)
    assert set(heard.verdicts.values()) == {"passed"}
    assert {"load", "parity"} < heard.verdicts.keys()
    assert len(heard.verdicts) >= 4
    (place,) = heard.of("placement")
    assert place["requested"] == place["actual"] == "CPUExecutionProvider"
    assert "nodes on CPUExecutionProvider" in place["detail"]


def test_a_cell_measures_with_units_and_raw_samples(zoo: ModuleType, heard: Heard) -> None:
    zoo.cell("ocr-direction", rounds=100, seconds=5.0)
    units = {one["name"]: one.get("unit") for one in heard.of("measurement")}
    assert units["load"] == units["first"] == units["latency.p50"] == "ms"
    assert units["throughput"] == "items/s"
    (p50,) = [one for one in heard.of("measurement") if one["name"] == "latency.p50"]
    assert len(p50["samples"]) == 100
    assert heard.values["latency.p50"] <= heard.values["latency.p95"]
    assert heard.values["latency.p95"] <= heard.values["latency.p99"]


def test_a_percentile_without_enough_samples_is_left_out(zoo: ModuleType, heard: Heard) -> None:
    zoo.cell("ocr-direction", **QUICK)
    assert "latency.p50" in heard.values
    assert not {"latency.p95", "latency.p99"} & heard.values.keys()


def test_quantising_writes_nothing_beside_the_installed_model(zoo: ModuleType) -> None:
    """Two tasks quantising the same model once removed each other's file there."""
    path = zoo.zoo_models.MODELS["ocr-direction"].path()
    before = path.parent.stat().st_mtime_ns
    assert zoo.zoo_backends.prepare("onnxruntime", path, "int8") != path.read_bytes()
    assert path.parent.stat().st_mtime_ns == before, "a file was made or removed in the folder"


def test_int8_decides_as_the_reference_does(zoo: ModuleType, heard: Heard) -> None:
    zoo.cell("ocr-direction", precision="int8", batch=4, **QUICK)
    assert heard.verdicts["parity"] == "passed"
    assert heard.values["error.max"] > 0, "nothing was quantised"


def test_what_cannot_be_quantised_is_skipped_with_the_reason(zoo: ModuleType, heard: Heard) -> None:
    zoo.cell("silero-vad", precision="int8", **QUICK)
    (skip,) = heard.of("skip")
    assert "nothing to quantise" in skip["reason"]
    assert not heard.of("case")


def test_a_session_that_fell_back_says_so(zoo: ModuleType, heard: Heard) -> None:
    zoo.cell("ocr-direction", provider="cuda", **QUICK)
    (place,) = heard.of("placement")
    assert (place["requested"], place["actual"]) == (
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda outputs: [part + 0.5 for part in outputs], "within rtol 0.001, atol 0.0001"),
        (lambda outputs: [part * float("nan") for part in outputs], "are not finite"),
        (lambda outputs: [part[:, :1] for part in outputs], "the reference has"),
    ],
)
def test_an_output_unlike_the_reference_fails_parity(
    zoo: ModuleType, heard: Heard, monkeypatch: pytest.MonkeyPatch, change: Any, message: str
) -> None:
    tested = zoo.zoo_models.MODELS["ocr-direction"]
    session = zoo.zoo_backends.OnnxRuntime(tested.path().read_bytes(), "fp32", "cpu")
    right = session.run
    monkeypatch.setattr(session, "run", lambda feed: change(right(feed)))
    zoo._parity(tested, session, tested.feed(2), "fp32")
    assert heard.verdicts == {"parity": "failed"}
    assert message in heard.message("parity")


def test_another_decision_fails_parity(
    zoo: ModuleType, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = zoo.zoo_models.MODELS["ocr-direction"]
    session = zoo.zoo_backends.OnnxRuntime(tested.path().read_bytes(), "fp32", "cpu")
    right = session.run
    monkeypatch.setattr(session, "run", lambda feed: [right(feed)[0][:, ::-1]])
    zoo._parity(tested, session, tested.feed(2), "int8")
    assert "decides [1, 0], the reference [0, 1]" in heard.message("parity")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "gpt"}, "model must be one of magika"),
        ({"backend": "tvm"}, "backend must be one of onnxruntime, openvino, got 'tvm'"),
        ({"precision": "fp4"}, "precision must be one of fp32, bf16, int8, got 'fp4'"),
    ],
)
def test_a_wrong_cell_names_the_value_and_the_choices(
    zoo: ModuleType, wrong: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.cell(**{"model": "magika", **wrong})


def test_a_missing_package_names_the_command(zoo: ModuleType) -> None:
    from dataclasses import replace

    absent = replace(zoo.zoo_models.MODELS["magika"], package="no-such-package")
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps -r examples/"):
        absent.path()


@pytest.mark.skipif(OPENVINO, reason="openvino is installed")
def test_without_openvino_the_cell_is_skipped(zoo: ModuleType, heard: Heard) -> None:
    zoo.cell("magika", backend="openvino")
    assert heard.of("skip") == [{"reason": "openvino is not installed: pip install openvino"}]


@pytest.mark.skipif(not OPENVINO, reason="openvino is not installed: pip install openvino")
@pytest.mark.parametrize("model", MODELS)
def test_openvino_agrees_with_the_reference(zoo: ModuleType, heard: Heard, model: str) -> None:
    zoo.cell(model, backend="openvino", **QUICK)
    assert set(heard.verdicts.values()) == {"passed"}
    assert heard.of("placement")[0]["actual"] == "CPU"
