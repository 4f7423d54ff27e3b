"""Node tests of the onnx wheel: what passes, what is known not to, and what must not be hidden."""

from __future__ import annotations

import dataclasses
import importlib.util
import tomllib
from types import ModuleType

import pytest

from .conftest import EXAMPLES, Heard

pytestmark = pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
OPENVINO = importlib.util.find_spec("openvino") is not None


def test_shards_split_the_operators_without_overlap(ops: ModuleType) -> None:
    shards = [ops.ops_cases.shard_operators(shard, 7) for shard in range(7)]
    together = [name for shard in shards for name in shard]
    assert sorted(together) == list(ops.ops_cases.operators())
    assert len(together) == len(set(together)) > 190


@pytest.mark.parametrize("shard", [-1, 7])
def test_a_shard_out_of_range_is_refused(ops: ModuleType, shard: int) -> None:
    with pytest.raises(ValueError, match="shard must be 0 to 6"):
        ops.run_shard(shard, 7)


def test_a_shard_reports_every_test_with_its_duration(ops: ModuleType, heard: Heard) -> None:
    counts = ops.run_shard(shard=5, shards=99)
    cases = heard.of("case")
    assert sum(counts.values()) == len(cases) > 0
    assert all(case["duration_us"] > 0 for case in cases)
    assert "failed" not in counts
    assert heard.values["cases.passed"] == counts["passed"]
    assert heard.of("placement")[0]["actual"] == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("operator", "case"),
    [
        ("add", "test_add_bcast"),
        ("cast", "test_cast_FLOAT_to_BFLOAT16"),
        ("cast", "test_cast_FLOAT_to_FLOAT8E4M3FN"),
        ("cast", "test_cast_INT4_to_FLOAT"),
        ("cast", "test_cast_FLOAT_to_UINT2"),
        ("sequenceinsert", "test_sequence_insert_at_back"),
        ("loop", "test_loop16_seq_none"),
        ("string_concat", "test_string_concat"),
        ("ai_onnx_ml.label_encoder", "test_ai_onnx_ml_label_encoder_string_int"),
    ],
)
def test_every_kind_of_value_is_fed_as_itself(
    ops: ModuleType, heard: Heard, operator: str, case: str
) -> None:
    assert ops.run_case(f"{operator}/{case}") == {"passed": 1}
    assert heard.verdicts == {case: "passed"}


def test_a_known_failure_is_skipped_with_its_reason(ops: ModuleType, heard: Heard) -> None:
    ops.run_case("quantizelinear/test_quantizelinear_int4")
    assert heard.verdicts == {"test_quantizelinear_int4": "skipped"}
    assert "no CPU kernel for QuantizeLinear of opset 28" in heard.message("int4")
    assert not heard.of("placement"), "it never ran, so it ran nowhere"
    (skip,) = heard.of("skip")
    assert skip["reason"].startswith("no CPU kernel"), "a task without a tested case never passes"


def test_an_unexpected_failure_is_a_failure(ops: ModuleType, heard: Heard) -> None:
    case = ops.ops_cases.find_case("add", "test_add")
    wrong = dataclasses.replace(case, expected=[case.expected[0] + 1])
    result = ops.run_one(ops.load_backend("onnxruntime"), wrong, "cpu")
    assert result.verdict == "failed"
    assert "60 of 60 values differ" in heard.message("test_add")


def test_a_known_failure_that_fails_otherwise_is_a_failure(ops: ModuleType) -> None:
    verdict, message = ops.ops_known.judge("onnxruntime", "test_swiglu", "output[0]: 3 of 4")
    assert (verdict, message) == ("failed", "output[0]: 3 of 4")


def test_a_known_failure_that_passes_is_told(ops: ModuleType) -> None:
    verdict, message = ops.ops_known.judge("onnxruntime", "test_swiglu", "")
    assert verdict == "passed"
    assert "remove it there" in message


def test_without_its_provider_a_test_ends_as_fallback(ops: ModuleType, heard: Heard) -> None:
    assert ops.run_case("add/test_add", provider="cuda") == {"fallback": 1}
    (place,) = heard.of("placement")
    assert place["requested"] == "CUDAExecutionProvider"
    assert place["actual"] == "CPUExecutionProvider"


def test_an_unknown_test_is_named(ops: ModuleType) -> None:
    with pytest.raises(LookupError, match=r"'add' of onnx .* has no test 'test_nothing'"):
        ops.run_case("add/test_nothing")
    with pytest.raises(LookupError, match="operator 'nothing' has no node tests"):
        ops.run_operator("nothing")


@pytest.mark.skipif(OPENVINO, reason="openvino is installed")
def test_without_openvino_the_task_is_skipped_with_the_remedy(
    ops: ModuleType, heard: Heard
) -> None:
    assert ops.run_operator("add", backend="openvino") == {}
    assert heard.of("skip") == [{"reason": "openvino is not installed: pip install openvino"}]


@pytest.mark.skipif(not OPENVINO, reason="openvino is not installed: pip install openvino")
def test_openvino_passes_what_is_not_listed(ops: ModuleType, heard: Heard) -> None:
    counts = ops.run_operator("cast", backend="openvino")
    assert counts["passed"] > 20
    assert "failed" not in counts
    assert heard.of("placement")[0]["actual"] == "CPU"


def difference(ops: ModuleType, expected: object, actual: object) -> str:
    found: str = ops.ops_compare.difference(expected, actual, 1e-3, 1e-7)
    return found


def test_outputs_are_compared_by_shape_type_and_value(ops: ModuleType) -> None:
    np = ops.ops_cases.np
    one = np.array([1.0, 2.0], dtype=np.float32)
    assert difference(ops, one, one * np.float32(1.0005)) == ""
    assert "1 of 2 values differ" in difference(ops, one, one + np.array([0, 1], np.float32))
    assert "shape (1,), expected (2,)" in difference(ops, one, one[:1])
    assert "type float64, expected float32" in difference(ops, one, one.astype(np.float64))
    assert "nothing, expected ndarray" in difference(ops, one, None)
    assert "1 elements, expected 2" in difference(ops, [one, one], [one])
    assert difference(ops, np.array([np.nan, np.inf]), np.array([np.nan, np.inf])) == ""
    assert "differ" in difference(ops, np.array([np.inf]), np.array([3.4e38]))
    assert "where one is not a number" in difference(ops, np.array([np.nan]), np.array([1.0]))
    words = np.array(["a", "b"], dtype=object)
    assert "expected ['a', 'b']" in difference(ops, words, words[::-1])


def test_the_suites_name_every_operator_and_test(ops: ModuleType) -> None:
    import ops_suites  # type: ignore[import-not-found]

    folder = EXAMPLES / "onnx-ops"
    assert (folder / "operators.toml").read_text() == ops_suites.operators_text()
    (task,) = tomllib.loads((folder / "cases.toml").read_text())["task"]
    listed = task["matrix"]["case"]
    assert {name.split("/")[0] for name in listed} == set(ops.ops_cases.operators())
    for operator in ("add", "cast", "loop"):
        names = [case.name for case in ops.ops_cases.cases_of(operator)]
        assert [name for name in listed if name.startswith(f"{operator}/")] == [
            f"{operator}/{name}" for name in names
        ]
