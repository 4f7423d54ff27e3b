"""Writes known/<backend>.toml from what fails here and now: `python ops_baseline.py openvino`.

Rule: a person reads the difference before committing it. Each failure gets the first reason below
whose pattern it matches; the piece of text that matched becomes what the failure must contain from
then on.
"""

from __future__ import annotations

import json
import re
import sys
import warnings

import onnx
import ops
import ops_cases
import ops_compare
import ops_known

KERNEL = "no CPU kernel for {0} of opset {1}"
RULES: dict[str, list[tuple[str, str]]] = {
    "onnxruntime": [
        (
            r"Could not find an implementation for (\w+)\((\d+)\)",
            "no CPU kernel for {0} of opset {1}",
        ),
        (r"Failed to find kernel for (\w+)\((\d+)\)", KERNEL),
        (r"([\w.]+):(\w+)\(-1\) is not a registered", "{1} of {0} is not registered"),
        (r"Batchwise recurrent operations", "recurrent layers refuse layout 1"),
        (r"Failed to construct locale", "the host has no en_US.UTF-8 locale"),
        (r"ReduceMax is not defined for empty set with bool", "ReduceMax refuses an empty bool"),
        (r"Non per-tensor quantization is not supported", "ConvInteger takes one zero point"),
        (r"inconsistent total_sequence_length", "Attention refuses a mask shorter than the keys"),
    ],
    "openvino": [
        (r"No conversion rule found for operations: (.+?)-?\d* To", "no conversion of {0}"),
        (r"Unsupported data type (\w+)", "no values of type {0}"),
        (r"no sequence or optional values", "no sequence or optional values"),
        (r"doesn't support (\w+) operation with dynamic rank", "{0} refuses a dynamic rank"),
        (r"unsupported src_prc: string", "no string kernels"),
        (r"Model wasn't fully converted.+?-- (\w+)", "this form of {0} is not converted"),
        (r"Unsupported operation of type: (\w+)", "no CPU kernel for this {0}"),
    ],
}
DEVIATIONS = {
    "onnxruntime": [
        (r"dft|stft", "float32 sums leave up to 1.4e-4 where 0 is expected"),
        (r"dropout", "random by definition: the expected values are numpy's"),
        (r"causal_fp16$", "one float16 value is two units in the last place away"),
        (r"qk_matmul_bias", "masked scores are the lowest float, -inf is expected"),
    ],
    "openvino": [
        (r"dropout|bernoulli", "random by definition: the expected values are numpy's"),
        (r"cast", "values beyond the target's range are not converted as specified"),
        (r"bitshift", "shifts of negative values or by too much are not as specified"),
        (r"local_window|bidirectional_window", "Attention ignores its window"),
        (r"dft", "the axis of opset 20 and lengths of half transforms are read differently"),
        (r"top_k_same", "ties are not taken in order of index"),
        (r"antialias|not_larger|not_smaller", "Resize ignores antialiasing and aspect policy"),
        (r"^test_tile$", "the output is uninitialised memory"),
        (
            r"nan_robustness|structural_empty|padded_kv",
            "fully masked rows are NaN, not 0",
        ),
    ],
}
PLAIN = "differs from the specification"


def reason_for(backend: str, name: str, failure: str) -> tuple[str, str]:
    """(reason, piece of text) for a failure; the piece is in the failure."""
    for pattern, reason in RULES[backend]:
        found = re.search(pattern, failure)
        if found:
            text = re.split(r"[(:]? ?\(|: |\.\+", found.group(0))[0]
            return reason.format(*found.groups()), text
    if failure.startswith("output"):
        reasons = [why for pattern, why in DEVIATIONS[backend] if re.search(pattern, name)]
        return (reasons or [PLAIN])[0], re.split(r"[\[:]", failure)[0]
    return failure[:60], failure[:60]


def collect(backend: str) -> dict[tuple[str, str], list[str]]:
    """Failing tests by (reason, piece of text)."""
    engine = ops.load_backend(backend)
    if engine is None:
        raise SystemExit(f"{backend} is not installed: pip install {backend}")
    groups: dict[tuple[str, str], list[str]] = {}
    for case in ops_cases.all_cases():
        try:
            outputs, _ = engine.run(case.model, case.inputs, "cpu")
            failure = ops_compare.difference(case.expected, outputs, case.rtol, case.atol)
        except Exception as error:  # the boundary of one test
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if failure:
            groups.setdefault(reason_for(backend, case.name, failure), []).append(case.name)
    return groups


def render(backend: str, version: str, groups: dict[tuple[str, str], list[str]]) -> str:
    """The TOML text; strings are written as JSON strings, which TOML shares."""
    total = sum(map(len, groups.values()))
    first = f"# {total} node tests of onnx {onnx.__version__} fail on {backend} {version}, CPU."
    lines = [
        first,
        "# Made by ops_baseline.py, read by a person; ops_known.py says how it is used.",
    ]
    for (reason, error), names in sorted(groups.items()):
        lines += ["", "[[known]]", f"reason = {json.dumps(reason)}"]
        lines += [f"error = {json.dumps(error)}"]
        lines += ["cases = [", *(f"    {json.dumps(name)}," for name in sorted(names)), "]"]
    return "\n".join(lines) + "\n"


def main(backend: str) -> None:
    warnings.simplefilter("ignore")
    groups = collect(backend)
    engine = ops.load_backend(backend)
    assert engine is not None
    path = ops_known.FOLDER / f"{backend}.toml"
    path.write_text(render(backend, engine.version(), groups), encoding="utf-8")
    print(f"{path.name}: {sum(map(len, groups.values()))} tests in {len(groups)} groups")


if __name__ == "__main__":
    main(sys.argv[1])
