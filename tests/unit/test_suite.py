"""Suite files: what they say becomes few events; what is wrong is told with place and remedy."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from dtf.core.codec import encode_batch
from dtf.core.errors import InvalidSuite
from dtf.core.labels import decode_params
from dtf.core.model import task_params
from dtf.core.selection import Filters
from dtf.core.submit import GroupPlan, submission_messages
from dtf.core.suite import (
    demand_shipped,
    expand,
    filter_hints,
    group_name,
    load_suite,
    suite_submission,
)
from hypothesis import given, settings
from hypothesis import strategies as st

HEAD = '[[task]]\nname = "t"\n'
TASK = HEAD + 'command = ["true"]\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return path


def plans(tmp_path: Path, text: str, filters: Filters | None = None) -> list[GroupPlan]:
    return expand(load_suite(write(tmp_path, text)), filters)


def params_of(plan: GroupPlan) -> list[dict]:
    return [decode_params(task_params(plan.items, plan.axes, index)) for index in range(plan.size)]


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(InvalidSuite) as caught:
        load_suite(write(tmp_path, text))
    told = f"{caught.value} {caught.value.remedy}"
    assert "suite.toml" in told, told
    return told


def test_a_complete_suite(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "parity.py").write_text("def run(model, hardware, batch): pass")
    (tmp_path / "bench.py").write_text("")
    text = """
name = "tiny zoo"
priority = 5
labels = { team = "vision" }
wait_for_capacity = true

[bundle]
exclude = ["*.bin"]
limit = "128M"

[defaults]
wall = "5m"
env = { MODE = "fast", SEED = "1" }
labels = { os = "linux" }

[[task]]
name = "parity"
python = "tests.parity:run"
isolation = "none"
cpus = 0.25
matrix = { model = ["a", "b"], hardware = ["cpu", "cuda"], batch = [1, 4] }
device_memory = "16G"
allow_fallback = true

[[task]]
name = "bench: big"
command = "python bench.py --model {model} '{\\"k\\": {n}}'"
params = [{ model = "a", n = 1 }, { model = "b", n = 2 }]
env = { SEED = "{n}" }
memory = "4G"
wall = 90
silence = "30s"
queue = "1h"
grace = "250ms"
retries = 2
infra_retries = 0
artifacts = ["*.json"]

[[task]]
name = "smoke"
command = ["true"]
count = 100000
"""
    suite = load_suite(write(tmp_path, text))
    assert (suite.name, suite.priority, suite.labels) == ("tiny zoo", 5, {"team": "vision"})
    assert (suite.bundle.limit, suite.bundle.exclude) == (128 << 20, ["*.bin"])
    cpu, cuda, bench, smoke = expand(suite)
    assert [cpu.name, cuda.name, smoke.name] == ["parity-cpu", "parity-cuda", "smoke"]
    assert bench.name.startswith("bench-big-")
    assert (cpu.size, cuda.size, bench.size, smoke.size) == (4, 4, 2, 100_000)
    assert (cuda.spec.require.hardware, cuda.spec.require.device_memory_bytes) == ("cuda", 16 << 30)
    assert (cpu.spec.require.device_memory_bytes, cpu.spec.require.cpu_milli) == (0, 250)
    assert cpu.spec.wall_ms == 300_000
    spec = bench.spec
    assert spec.command == ["python", "bench.py", "--model", "{model}", '{"k": {n}}']
    assert spec.env == {"MODE": "fast", "SEED": "{n}"}
    assert (spec.wall_ms, spec.silence_ms, spec.queue_ms, spec.grace_ms) == (
        90_000,
        30_000,
        3_600_000,
        250,
    )
    assert (spec.retries, spec.infra_retries, spec.artifacts) == (2, 0, ["*.json"])
    assert (spec.require.memory_bytes, spec.require.labels) == (4 << 30, {"os": "linux"})
    run = suite_submission(
        suite, expand(suite), publisher="me", key="k", bundle="sha256:00", labels={"ci": "1"}
    )
    assert (run.name, run.priority, run.wait_for_capacity) == ("tiny zoo", 5, True)
    assert run.labels == {"team": "vision", "ci": "1"}
    assert {group.spec.bundle for group in run.groups} == {"sha256:00"}
    [(_, events)] = submission_messages(run)[1]
    assert len(encode_batch(events)) < 4096


def test_an_array_of_100_000_tasks_is_one_small_event(tmp_path: Path) -> None:
    axes = f"matrix = {{ a = {list(range(1000))}, b = {list(range(100))} }}"
    [plan] = plans(tmp_path, TASK + axes)
    assert (plan.size, plan.items, len(plan.axes)) == (100_000, None, 2)


JSON_VALUES = st.one_of(
    st.integers(-3, 3), st.booleans(), st.sampled_from(["", "a", "b c", "1"]), st.just(0.5)
)


@st.composite
def matrices(draw) -> dict:
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
    key = msgspec.json.encode
    axes = {
        name: draw(st.lists(JSON_VALUES, min_size=1, max_size=4, unique_by=key)) for name in names
    }
    if draw(st.booleans()):
        classes = st.sampled_from(["cpu", "cuda", "xpu"])
        axes["hardware"] = draw(st.lists(classes, min_size=1, max_size=3, unique=True))
    pick = {name: st.sampled_from(values) for name, values in axes.items()}
    excluded = st.fixed_dictionaries({}, optional=pick).filter(bool)
    extra = dict.fromkeys(names, JSON_VALUES)
    if "hardware" in axes:
        extra["hardware"] = st.sampled_from(["cpu", "cuda", "rocm"])
    return {
        "matrix": axes,
        "exclude": draw(st.lists(excluded, max_size=3)),
        "include": draw(st.lists(st.fixed_dictionaries(extra), max_size=3)),
    }


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return msgspec.json.encode(value).decode()


def key_of(params: dict) -> bytes:
    return msgspec.json.encode(params, order="deterministic")


def naive(table: dict) -> list[bytes]:
    axes = table["matrix"]
    combos = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]

    def out(params: dict) -> bool:
        return any(
            all(key_of({"": params[n]}) == key_of({"": v}) for n, v in entry.items())
            for entry in table["exclude"]
        )

    kept = [key_of(params) for params in combos if not out(params)]
    return list(dict.fromkeys(kept + [key_of(entry) for entry in table["include"]]))


@settings(deadline=None, max_examples=150)
@given(matrices())
def test_a_matrix_is_the_product_less_what_is_excluded_and_with_what_is_included(
    tmp_path_factory: pytest.TempPathFactory, table: dict
) -> None:
    tmp_path = tmp_path_factory.mktemp("suite", numbered=True)
    expected = naive(table)
    lines = [f"{key} = {toml(value)}" for key, value in table.items() if value or key == "matrix"]
    text = TASK + "\n".join(lines)
    if not expected:
        assert "no combination" in refusal(tmp_path, text)
        return
    groups = plans(tmp_path, text)
    found = [key_of(params) for plan in groups for params in params_of(plan)]
    assert sorted(found) == sorted(expected)
    by_class = {}
    for plan in groups:
        for params in params_of(plan):
            hardware = params.get("hardware", "cpu")
            assert plan.spec.require.hardware == hardware
            by_class.setdefault(hardware, []).append(key_of(params))
    assert len(groups) == len(by_class)
    for hardware, keys in by_class.items():
        in_order = [
            k for k in expected if msgspec.json.decode(k).get("hardware", "cpu") == hardware
        ]
        assert keys == in_order
    if len(groups) == 1 and not (table["include"] or table["exclude"]):
        assert groups[0].axes is not None


def test_include_and_exclude_may_stand_in_the_matrix(tmp_path: Path) -> None:
    text = f"{TASK}[task.matrix]\na = [1, 2]\nb = [1, 2]\nexclude = [{{ a = 1, b = [1, 2] }}]\n"
    [plan] = plans(tmp_path, text + "include = [{ a = 3, b = 3 }]")
    assert params_of(plan) == [{"a": 2, "b": 1}, {"a": 2, "b": 2}, {"a": 3, "b": 3}]
    assert "matrix.exclude[0].c" in refusal(tmp_path, text.replace("b = [1, 2] }", "c = 1 }"))
    twice = text.replace("[task.matrix]", "exclude = []\n[task.matrix]")
    assert "said twice" in refusal(tmp_path, twice)


@pytest.mark.parametrize(
    ("array", "sizes", "shown"),
    [
        ("", {"t-cpu": 1, "t-cuda": 1}, [{"hardware": "cpu"}, {"hardware": "cuda"}]),
        ("count = 3", {"t-cpu": 3, "t-cuda": 3}, [{}, {}]),
        (
            "params = [{ a = 1 }]",
            {"t-cpu": 1, "t-cuda": 1},
            [{"a": 1, "hardware": "cpu"}, {"a": 1, "hardware": "cuda"}],
        ),
        (
            "matrix = { a = [1] }\nexclude = [{ hardware = 'cuda' }]",
            {"t-cpu": 1},
            [{"hardware": "cpu", "a": 1}],
        ),
    ],
)
def test_a_list_of_hardware_runs_the_task_on_each(tmp_path, array, sizes, shown) -> None:
    groups = plans(tmp_path, f'{TASK}hardware = ["cpu", "cuda"]\n{array}')
    assert {plan.name: plan.size for plan in groups} == sizes
    assert [params_of(plan)[0] for plan in groups] == shown
    assert [plan.spec.require.hardware for plan in groups] == [n.split("-")[1] for n in sizes]


FILTERED = (
    '[[task]]\nname = "grid"\ncommand = ["true"]\n'
    'matrix = { model = ["ocr_a", "ocr_b", "vad"], hardware = ["cpu", "cuda"], batch = [1, 4] }\n'
    '[[task]]\nname = "plain"\ncommand = ["true"]\ncount = 5\n'
)


@pytest.mark.parametrize(
    ("filters", "total", "compact"),
    [
        (Filters(), 17, True),
        (Filters(axes={"model": ["ocr*"]}), 8, True),
        (Filters(axes={"model": ["vad"], "batch": ["4"]}), 2, True),
        (Filters(hardware=["cuda"]), 6, True),
        (Filters(hardware=["cpu"]), 11, True),
        (Filters(axes={"hardware": ["cuda"]}), 6, True),
        (Filters(axes={"nothing": ["x"]}), 0, True),
        (Filters(expression="plain"), 5, True),
        (Filters(expression="GRID"), 12, True),
        (Filters(expression="vad or batch=4"), 8, False),
        (Filters(expression="grid and not (model=vad or batch=4)"), 4, False),
        (Filters(expression="vad", hardware=["cpu"], axes={"batch": ["1"]}), 1, False),
    ],
)
def test_filters_only_take_away_and_keep_arrays_compact(tmp_path, filters, total, compact) -> None:
    suite = load_suite(write(tmp_path, FILTERED))
    chosen = expand(suite, filters)
    assert sum(plan.size for plan in chosen) == total
    assert all(plan.items is None for plan in chosen) is compact
    everything = {p.name: [key_of(x) for x in params_of(p)] for p in expand(suite)}
    for plan in chosen:
        assert all(key_of(params) in everything[plan.name] for params in params_of(plan))


def test_a_filter_that_chooses_nothing_says_why(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, FILTERED))
    filters = Filters(axes={"modl": ["x"], "model": ["ocr_c"]}, hardware=["rocm"], expression="zz")
    hints = " ".join(filter_hints(suite, filters))
    for part in ("'modl'", "Did you mean 'model'?", "model=ocr_c", "'ocr_", "rocm", "'zz'"):
        assert part in hints


@pytest.mark.parametrize("expression", ["a and", "(a", "a b", "not", ")", "or a", "()"])
def test_an_expression_without_sense_is_refused(tmp_path: Path, expression: str) -> None:
    suite = load_suite(write(tmp_path, FILTERED))
    with pytest.raises(InvalidSuite, match="expression"):
        expand(suite, Filters(expression=expression))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("task = 3", ["task", "3", "[[task]]"]),
        ("", ["task", "is missing"]),
        ("nam = 'x'\n" + TASK, ["nam", "Did you mean 'name'?"]),
        (TASK + "wal = 3", ["task 't'", "wal", "Did you mean 'wall'?"]),
        ("[defaults]\nwal = 3\n" + TASK, ["defaults.wal", "Did you mean 'wall'?"]),
        ("[defaults]\ncommand = 'x'\n" + TASK, ["defaults.command", "belongs to a task"]),
        ("[defaults]\nwall = 'soon'\n" + TASK, ["defaults.wall", "'soon'", '"30s"']),
        ("[[task]]\ncommand = 'x'", ["task[1].name", "is missing"]),
        (TASK + "[[task]]\nname = 5", ["task[2].name", "5", "text"]),
        (HEAD, ["task 't'", "nothing to run"]),
        (TASK + "python = 'a:b'", ["task 't'", "both"]),
        (HEAD + "command = 5", ["command", "5"]),
        (HEAD + "command = []", ["command", "no program"]),
        (HEAD + 'command = "a \'b"', ["command", "quotation"]),
        (HEAD + "python = '../x.py'", ["python", "'../x.py'"]),
        (HEAD + "python = 'a b:c'", ["python", "'a b:c'"]),
        (HEAD + "python = 'x.py'\nisolation = 'none'", ["isolation 'none'", "'x.py'"]),
        (TASK + "isolation = 'none'", ["isolation 'none'"]),
        (TASK + "isolation = 'proces'", ["isolation", "'proces'", "'process'"]),
        (TASK + "hardware = 'cudaa'", ["hardware", "'cudaa'", "Did you mean 'cuda'?", "webgpu"]),
        (TASK + "hardware = []", ["hardware", "[]"]),
        (TASK + "hardware = ['cpu', 'cpu']", ["hardware", "twice"]),
        (TASK + "matrix = { hardware = ['gpu'] }", ["matrix.hardware", "'gpu'", "Known are"]),
        (TASK + "hardware = 'cpu'\nmatrix = { hardware = ['cpu'] }", ["hardware", "said twice"]),
        (TASK + "params = [{ hardware = 'x' }]", ["params[0].hardware", "'x'"]),
        (TASK + "params = [{ hardware = 'cpu' }, { a = 1 }]", ["params", "some do not"]),
        (TASK + "devices = 2", ["devices", "cpu has no devices"]),
        (TASK + "cpus = -1", ["cpus", "-1"]),
        (TASK + "memory = '4 apples'", ["memory", "'4 apples'", '"64M"']),
        (TASK + "wall = 0", ["wall", "above zero", "0"]),
        (TASK + "retries = 1.5", ["retries", "1.5", "whole number"]),
        (TASK + "allow_fallback = 'yes'", ["allow_fallback", "'yes'"]),
        (TASK + "artifacts = '*.json'", ["artifacts", "list of texts"]),
        (TASK + "env = { A = 1 }", ["env", "table of texts"]),
        (TASK + "env = { 'A=B' = '1' }", ["env", "'A=B'"]),
        (TASK + "count = 0", ["count", "0"]),
        (TASK + "count = 20000000", ["count", "20000000"]),
        (TASK + "count = 2\nparams = [{}]", ["params", "cannot go with `count`"]),
        (TASK + "params = []", ["params", "is empty"]),
        (TASK + "params = [3]", ["params", "list of tables"]),
        (TASK + "params = [{ 'a b' = 1 }]", ["params[0].a b", "no name"]),
        (TASK + "params = [{ a = 2020-01-01 }]", ["params[0].a", "JSON", "quotes"]),
        (TASK + "params = [{ a = nan }]", ["params[0].a", "nan"]),
        (TASK + "matrix = {}", ["matrix", "1 to 16 axes"]),
        (TASK + "matrix = { a = [] }", ["matrix.a", "empty"]),
        (TASK + "matrix = { a = 1 }", ["matrix.a", "1", "list"]),
        (TASK + "matrix = { a = [1, 2, 1] }", ["matrix.a", "1 twice"]),
        (TASK + "include = [{ a = 1 }]", ["include", "belongs to a `matrix`"]),
        (TASK + "matrix = { a = [1] }\ninclude = [{ b = 1 }]", ["include[0].b", "no axis", "a"]),
        (TASK + "matrix = { a = [1], b = [1] }\ninclude = [{ b = 1 }]", ["include[0]", "'a'"]),
        (
            TASK + "matrix = { axis = ['x1'] }\nexclude = [{ axes = 1 }]",
            ["exclude[0].axes", "'axis'"],
        ),
        (TASK + "matrix = { a = ['x1'] }\nexclude = [{ a = 'x2' }]", ["exclude[0].a", "'x1'"]),
        (TASK + "matrix = { a = [1] }\nexclude = [{}]", ["exclude[0]", "everything"]),
        (TASK + "matrix = { a = [1] }\nexclude = [{ a = 1 }]", ["exclude", "no combination"]),
        (
            HEAD + "command = ['x', '{modle}']\nmatrix = { model = [1] }",
            ["command", "'modle'", "'model'"],
        ),
        (HEAD + "command = ['x', '{a}']", ["'a'", "It has none", "{{a}}"]),
        (TASK + "env = { A = '{b}' }\nparams = [{ a = 1, b = 1 }, { a = 2 }]", ["env.A", "'b'"]),
        ("priority = 101\n" + TASK, ["priority", "101"]),
        ("bundle = 3\n" + TASK, ["bundle", "3"]),
        ("[bundle]\nroot = 'nowhere'\n" + TASK, ["bundle.root", "nowhere"]),
        ("[bundle]\nlimit = 'x'\n" + TASK, ["bundle.limit", "'x'"]),
        ("[bundle]\nexcludes = []\n" + TASK, ["bundle.excludes", "'exclude'"]),
        (TASK + TASK, ["task 't'", "another task", "'t'"]),
        ("[[task]\n", ["not valid TOML", "line 1"]),
    ],
)
def test_a_wrong_file_is_told_precisely(tmp_path: Path, text: str, parts: list[str]) -> None:
    told = refusal(tmp_path, text)
    assert all(part in told for part in parts), told


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSuite, match="no such file"):
        load_suite(tmp_path / "suite.toml")


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("python = 'tests/pairty.py'", ["tests/pairty.py", "Did you mean 'parity.py'?"]),
        ("python = 'tests.pairty:run'", ["'tests.pairty'", "Did you mean 'tests.parity'?"]),
        ("python = 'tests.parity:rum'", ["has no 'rum'", "Did you mean 'run'?"]),
        ("python = 'nosuchmodule:run'", ["'nosuchmodule'", "nor installed here"]),
        ("command = './rnu.sh'", ["./rnu.sh", "'run.sh'"]),
        ("command = 'python3.11 tests/pairty.py -o out.py'", ["tests/pairty.py"]),
        ("command = 'pytest -q tests/pairty.py::test_x'", ["tests/pairty.py"]),
        ("command = 'python -m pytest tests/pairty.py'", ["tests/pairty.py"]),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, what: str, parts: list[str]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "parity.py").write_text("def run(): pass")
    (tmp_path / "run.sh").write_text("")
    told = refusal(tmp_path, HEAD + what)
    assert all(part in told for part in [*parts, "check = false"]), told
    load_suite(write(tmp_path, f"{HEAD}{what}\ncheck = false"))
    load_suite(write(tmp_path, f"bundle = false\n{HEAD}{what}"))


@pytest.mark.parametrize(
    "what",
    [
        "python = 'tests/parity.py'",
        "python = 'tests.parity:run'",
        "python = 'tests.parity:made'",
        "python = 'tests.dynamic:anything'",
        "python = 'json:dumps'",
        "python = 'os.path:join'",
        "command = 'python tests/parity.py -o out.py'",
        "command = 'python -c print(1)'",
        "command = './run.sh missing.py'",
        "command = '/nowhere/absolute.sh'",
        "command = 'pytest tests/parity.py::test_x -k x.py --junit=a.py'",
    ],
)
def test_what_is_there_or_cannot_be_known_passes(tmp_path: Path, what: str) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "parity.py").write_text("def run(): pass\nif True:\n    made = run\n")
    (tmp_path / "tests" / "dynamic.py").write_text("def __getattr__(name): ...")
    (tmp_path / "run.sh").write_text("")
    if "-k x.py" in what:
        (tmp_path / "x.py").write_text("")
    load_suite(write(tmp_path, HEAD + what))


@pytest.mark.parametrize(
    ("function", "array", "parts"),
    [
        ("def run(): ...", "matrix = { model = [1] }", ["takes no 'model'", "It takes none"]),
        ("def run(modle): ...", "matrix = { model = [1] }", ["'model'", "'modle'", "by its name"]),
        ("def run(a, b): ...", "params = [{ a = 1 }]", ["needs 'b'", "It has: a"]),
        ("def run(a): ...", "", ["needs 'a'", "It has none"]),
        ("async def run(*, a): ...", "count = 2", ["needs 'a'"]),
        ("def run(a, /): ...", "params = [{ a = 1 }]", ["takes no 'a'"]),
        ("def run(): ...", "hardware = ['cpu', 'cuda']", ["takes no 'hardware'"]),
        ("def run(a, b=1): ...", "params = [{ a = 1, b = 2 }, { b = 3 }]", ["needs 'a'"]),
        ("def run(a, b=1, *, c=2): ...", "params = [{ a = 1, c = 2 }, { a = 3 }]", []),
        ("def run(**rest): ...", "matrix = { model = [1] }", []),
        ("def run(*places): ...", "", []),
        ("@wrap\ndef run(): ...", "matrix = { model = [1] }", []),
        ("class run: ...", "matrix = { model = [1] }", []),
        ("def run(): ...\nrun = wrap(run)", "matrix = { model = [1] }", []),
        ("if x:\n    def run(): ...", "matrix = { model = [1] }", []),
        ("def run(: broken", "matrix = { model = [1] }", []),
    ],
)
def test_a_call_that_cannot_bind_is_told(tmp_path, function, array, parts) -> None:
    (tmp_path / "tests.py").write_text(function)
    text = f"{HEAD}python = 'tests:run'\n{array}"
    if not parts:
        load_suite(write(tmp_path, text))
        return
    told = refusal(tmp_path, text)
    assert all(part in told for part in parts), told


def test_a_file_that_is_not_shipped_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("def main(): pass")
    for what in ("python = 'run.py'", "python = 'run:main'", "command = 'python run.py'"):
        suite = load_suite(write(tmp_path, HEAD + what))
        demand_shipped(suite, ["run.py", "other"])
        with pytest.raises(InvalidSuite, match=r"run\.py exists but is not shipped"):
            demand_shipped(suite, ["other"])


def test_names_become_tokens_and_labels_stay(tmp_path: Path) -> None:
    text = TASK.replace('"t"', '"Größe [x/y]: a very long name that goes on and on and on and on"')
    [plan] = plans(tmp_path, text)
    assert len(plan.name) <= 46
    assert plan.label.startswith("Größe [x/y]")
    assert group_name("a b") != group_name("a-b")
    assert len(group_name("x" * 300, "openvino")) <= 46


def test_a_name_for_the_suite_is_found(tmp_path: Path) -> None:
    assert load_suite(write(tmp_path, TASK)).name == "suite"
