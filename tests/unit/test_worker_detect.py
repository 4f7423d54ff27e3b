"""What a machine says about itself, on machines we make up: nothing is invented, no answer hides
another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from dtf.core.model import Device
from dtf.worker.devices import detect as d
from dtf.worker.devices import nvidia as n


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CORES = len(os.sched_getaffinity(0)) * 1000 if hasattr(os, "sched_getaffinity") else 0
OWN = "0::/kube/pod\n"


@pytest.fixture
def own_group(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = d.cgroup_folders
    monkeypatch.setattr(
        d, "cgroup_folders", lambda controller, root: folders(controller, root, OWN)
    )


@pytest.mark.usefixtures("own_group")
class TestCgroups:
    def test_a_quota_of_version_2_counts_also_when_it_is_set_above_us(self, tmp_path: Path) -> None:
        tree(tmp_path, {"kube/pod/cpu.max": "max 100000", "kube/cpu.max": "50000 100000"})
        assert d.cpu_milli(tmp_path) == 500

    def test_no_quota_leaves_the_cores_we_may_use(self, tmp_path: Path) -> None:
        tree(tmp_path, {"kube/pod/cpu.max": "max 100000"})
        assert d.cpu_milli(tmp_path) == CORES

    def test_garbage_is_no_limit(self, tmp_path: Path) -> None:
        tree(tmp_path, {"kube/pod/cpu.max": "x y z", "kube/pod/memory.max": "?"})
        assert d.cpu_milli(tmp_path) == CORES
        assert d.memory_bytes(tmp_path) > 0

    def test_memory_is_the_least_of_all_limits(self, tmp_path: Path) -> None:
        tree(tmp_path, {"kube/pod/memory.max": "max", "kube/memory.max": "123456789"})
        assert d.memory_bytes(tmp_path) == 123456789


def test_version_1_names_a_folder_for_each_controller(tmp_path: Path) -> None:
    own = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"
    tree(tmp_path, {"cpu,cpuacct/docker/abc/x": "", "memory/docker/abc/x": ""})
    assert tmp_path / "memory/docker/abc" in d.cgroup_folders("memory", tmp_path, own)
    assert tmp_path / "cpu,cpuacct/docker/abc" in d.cgroup_folders("cpu", tmp_path, own)


def test_a_quota_of_version_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"})
    monkeypatch.setattr(d, "cgroup_folders", lambda controller, root: [tmp_path])
    assert d.cpu_milli() == min(1500, CORES)


def test_the_processor_has_a_name_or_none(tmp_path: Path) -> None:
    intel = tree(tmp_path, {"a": "processor: 0\nmodel name\t: Fast CPU @ 3GHz\n"}) / "a"
    assert d.cpu_model(intel) == "Fast CPU @ 3GHz"
    assert isinstance(d.cpu_model(tmp_path / "none"), str)


def test_facts_are_words_and_none_is_empty() -> None:
    facts = d.platform_facts()
    assert facts["python"].count(".") >= 2
    assert all(0 < len(text) <= 256 for text in facts.values())


def test_hardware_classes_come_from_devices_and_declarations_and_always_have_the_cpu() -> None:
    gpu = Device(id="GPU-1", hardware="cuda")
    assert d.hardware_classes([], ()) == ["cpu"]
    assert d.hardware_classes([gpu, gpu], ("openvino", "cuda")) == ["cpu", "cuda", "openvino"]


def test_a_class_declared_without_a_device_has_one() -> None:
    gpu = Device(id="GPU-1", hardware="cuda")
    devices = d.with_declared([gpu], ("cuda", "openvino", "openvino", "cpu"))
    assert [(x.id, x.level) for x in devices] == [("GPU-1", "detected"), ("openvino:0", "declared")]


def program(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_what_nvml_says(tmp_path: Path) -> None:
    row = {"id": "GPU-1", "hardware": "cuda", "index": 0, "name": "H", "driver": "550.1"}
    row |= {"memory_bytes": 2**37}
    (device,) = n.ask_nvml(program(tmp_path, f"import json; print(json.dumps([{row}]))"))
    assert (device.id, device.hardware, device.memory_bytes) == ("GPU-1", "cuda", 2**37)
    assert (device.name, device.index, device.driver) == ("H", 0, "550.1")


def test_what_nvidia_smi_says_and_what_it_does_not_know_is_none(tmp_path: Path) -> None:
    text = "GPU-1, 0, NVIDIA H200, 143771, 570.1\nGPU-2, 1, X, [N/A], 570.1\ngarbage\n"
    first, second = n.ask_smi(program(tmp_path, f"print({text!r})"))
    assert first.memory_bytes == 143771 * 1024 * 1024
    assert (second.memory_bytes, second.index) == (None, 1)


@pytest.mark.parametrize(
    "text",
    ["import os; os.abort()", "print('no json')", "import sys; sys.exit(3)", "print('[{}]')"],
)
def test_a_driver_that_crashes_or_talks_nonsense_is_no_device(tmp_path: Path, text: str) -> None:
    assert n.ask_nvml(program(tmp_path, text)) == []
    assert n.ask_smi(program(tmp_path, text)) == []


def test_a_driver_that_hangs_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(n, "LIMIT_S", 0.2)
    assert n.ask_nvml(program(tmp_path, "import time; time.sleep(1000)")) == []


def test_a_program_that_is_not_there_is_no_device() -> None:
    assert n.ask_smi(["no-such-program"]) == []
