"""Suites that misbehave. Rule: each harms its own process and directory, and nothing else."""

from __future__ import annotations

from . import passing

DEATHS = {
    "exits": "os._exit(3)",
    "segfault": "ctypes.string_at(0)",
    "aborts": "os.abort()",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "os.kill(os.getpid(), signal.SIGTERM)",
}
"""How a test ends its interpreter."""


def dying(how: str) -> dict[str, str]:
    """The fourth of ten tests in one file ends the interpreter; another file has twenty."""
    body = f"import ctypes\nimport os\nimport signal\n\n\n{passing(3, 'before')}\n"
    body += f"def test_dies():\n    {how}\n\n\n{passing(6, 'after')}"
    return {"pytest.ini": "[pytest]\n", "test_dying.py": body, "test_other.py": passing(20)}


DIES_ONCE = {
    "pytest.ini": "[pytest]\n",
    "test_once.py": (
        f"import os\nfrom pathlib import Path\n\n{passing(3)}\n\ndef test_dies_once():\n"
        "    seen = Path(__file__).with_name('seen')\n    if not seen.exists():\n"
        f"        seen.touch()\n        os._exit(1)\n\n\n{passing(3, 'after')}"
    ),
}

FIXTURE_DIES = {
    "pytest.ini": "[pytest]\n",
    "test_fixture.py": (
        f"import os\n\nimport pytest\n\n{passing(2)}\n\n@pytest.fixture\ndef deadly():\n"
        f"    os._exit(5)\n\n\ndef test_deadly(deadly):\n    pass\n\n\n{passing(2, 'after')}"
    ),
    "test_teardown.py": (
        f"import os\n\nimport pytest\n\n{passing(2)}\n\n@pytest.fixture\ndef deadly():\n    yield\n"
        f"    os._exit(5)\n\n\ndef test_deadly_later(deadly):\n    pass\n\n\n{passing(2, 'after')}"
    ),
}

ENDURED = {
    "pytest.ini": "[pytest]\n",
    "test_a_directory.py": """
import os
import shutil


def test_changes_directory(tmp_path):
    os.chdir(tmp_path)


def test_removes_its_directory(tmp_path):
    os.chdir(tmp_path)
    shutil.rmtree(tmp_path)


def test_after():
    pass
""",
    "test_b_threads.py": """
import threading
import time

never = threading.Event()


def test_leaves_a_thread():
    threading.Thread(target=never.wait, daemon=True).start()


def test_leaves_a_thread_that_ends():
    threading.Thread(target=time.sleep, args=(0.3,)).start()


def test_after():
    pass
""",
    "test_c_forks.py": """
import os
import subprocess


def test_forks():
    child = os.fork()
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_leaves_a_zombie():
    if os.fork() == 0:
        os._exit(0)


def test_leaves_a_child_that_ends():
    subprocess.Popen(["sleep", "0.3"])


def test_after():
    pass
""",
    "test_d_output.py": """
import os
import sys


def test_binary():
    os.write(1, bytes(range(256)) * 40)
    os.write(2, b"\\xff\\xfe\\x00")


def test_binary_and_fails():
    os.write(1, b"\\x1b[31mred\\x00\\x07\\xff\\r\\n")
    raise AssertionError("control \\x00 \\x1b[0m \\x07 \\x7f \\x85 signs")


def test_surrogates():
    raise AssertionError("half \\ud800 a pair")


def test_prints_much():
    print("z" * 3_000_000)


def test_no_newline():
    sys.stdout.write("no newline")


def test_after():
    pass
""",
    "test_e_exceptions.py": """
import sys

import pytest


class Odd(BaseException):
    def __str__(self):
        raise RuntimeError("cannot be printed")


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


def test_odd():
    raise Odd


def test_unprintable():
    assert Unprintable() == 1


def test_recursion():
    test_recursion()


def test_generator_exit():
    raise GeneratorExit


def test_system_exit():
    sys.exit("with words")


def test_cause():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise ValueError("second") from error


def test_group():
    raise ExceptionGroup("several", [ValueError(1), TypeError(2)])


def test_after():
    pass
""",
}

CLOSES_STDOUT = {
    "pytest.ini": "[pytest]\n",
    "test_closes.py": (
        "import os\nimport sys\n\n\ndef test_closes_the_descriptor():\n    os.close(1)\n\n\n"
        f"{passing(3, 'between')}\n\ndef test_closes_the_stream():\n"
        "    sys.__stdout__.close()\n\n\n"
        f"{passing(3, 'after')}"
    ),
    "test_other.py": passing(5),
}

CLOSES_ALL = {
    "pytest.ini": "[pytest]\n",
    "test_closes.py": (
        f"import os\n\n\n{passing(3)}\n\ndef test_closes_all():\n    os.closerange(3, 1024)\n\n\n"
        f"{passing(3, 'after')}"
    ),
    "test_other.py": passing(5),
}

RUNS_TWICE = {
    "pytest.ini": "[pytest]\n",
    "test_forks.py": (
        f"import os\n\n\n{passing(3)}\n\ndef test_forks_and_goes_on():\n    os.fork()\n\n\n"
        f"{passing(5, 'after')}"
    ),
}

FOR_EVER = {
    "pytest.ini": "[pytest]\n",
    "test_for_ever.py": (
        "import threading\nfrom pathlib import Path\n\n"
        f"{passing(3)}\n\ndef wait_for_what_never_comes():\n"
        "    Path(__file__).with_name('started').touch()\n    threading.Event().wait()\n\n\n"
        "def test_for_ever():\n    wait_for_what_never_comes()\n\n\n"
        f"{passing(3, 'after')}"
    ),
    "test_other.py": passing(10),
}

LONG_TEXT = {
    "pytest.ini": "[pytest]\n",
    "test_long.py": (
        "def test_long_message():\n"
        "    raise AssertionError('head ' + 'y' * 2_000_000 + ' tail')\n\n"
        "def test_long_output():\n"
        "    print('head ' + 'o' * 2_000_000 + ' tail')\n    assert 0\n\n"
        f"{passing(2)}"
    ),
}

CANNOT_IMPORT = {
    "pytest.ini": "[pytest]\n",
    "test_missing.py": "import no_such_package_at_all\n\n\ndef test_a():\n    pass\n",
    "test_syntax.py": "def test_b(:\n    pass\n",
    "test_raises.py": "raise OSError('while it is imported')\n",
    "test_good.py": passing(4),
}

DIFFERS = {
    "pytest.ini": "[pytest]\n",
    "test_differs.py": (
        "import os\n\nimport pytest\n\n\n@pytest.mark.parametrize('pid', [os.getpid()])\n"
        f"def test_differs(pid):\n    pass\n\n\n{passing(6)}"
    ),
}

STOPS = {
    "exit": ("import pytest\n\n\n", "pytest.exit('enough', returncode=7)"),
    "interrupt": ("", "raise KeyboardInterrupt"),
}


def stopping(how: str) -> dict[str, str]:
    """One file whose third test ends the whole run."""
    head, body = STOPS[how]
    text = f"{head}{passing(2)}\n\ndef test_stops():\n    {body}\n\n\n{passing(3, 'after')}"
    return {"pytest.ini": "[pytest]\n", "test_stops.py": text}
