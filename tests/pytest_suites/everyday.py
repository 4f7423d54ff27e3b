"""Suites of what people use every day. Rule: plain pytest says the same in every run of them."""

from __future__ import annotations

OUTCOMES = {
    "pytest.ini": "[pytest]\nmarkers = slow: takes long\njunit_family = xunit1\n",
    "test_outcomes.py": """
import warnings

import pytest


def test_passes():
    pass


def test_fails():
    left, right = {"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]}
    assert left == right


def test_raises():
    raise ValueError("a message\\nof two lines")


@pytest.mark.skip(reason="not today")
def test_skipped_by_mark():
    pass


@pytest.mark.skipif(True, reason="a condition holds")
def test_skipped_by_condition():
    pass


def test_skipped_from_inside():
    pytest.skip("found out late")


@pytest.mark.xfail(reason="known")
def test_xfailed():
    assert 0


@pytest.mark.xfail(reason="known, they said")
def test_xpassed():
    pass


@pytest.mark.xfail(reason="must fail", strict=True)
def test_xpassed_strict():
    pass


@pytest.mark.xfail(raises=KeyError)
def test_xfail_of_another_kind():
    raise IndexError("not a KeyError")


@pytest.mark.xfail(run=False, reason="would hang")
def test_xfail_not_run():
    raise SystemExit


def test_xfailed_from_inside():
    pytest.xfail("given up")


@pytest.fixture
def broken():
    raise RuntimeError("set-up is broken")


@pytest.fixture
def broken_at_the_end():
    yield
    raise RuntimeError("tear-down is broken")


@pytest.fixture
def skipping():
    pytest.skip("no such device")


def test_error_in_setup(broken):
    pass


def test_error_in_teardown(broken_at_the_end):
    pass


def test_failure_and_error(broken_at_the_end):
    assert 0, "both"


def test_skipped_in_setup(skipping):
    pass


def test_warns():
    warnings.warn("deprecated word", DeprecationWarning)
    warnings.warn("another", UserWarning)


def test_exits():
    raise SystemExit(3)


def test_prints_and_fails(capsys):
    print("seen by capsys")
    assert capsys.readouterr().out == "seen by capsys\\n"
    print("in the section of stdout")
    assert 0


def test_properties(record_property, record_testsuite_property):
    record_property("speed", 12.5)
    record_property("unicode", "\\u00b5s")


def test_long_message():
    raise AssertionError("word " * 400)
""",
    "test_module_skipped.py": (
        'import pytest\n\npytest.skip("not on this system", allow_module_level=True)\n'
    ),
    "test_importorskip.py": (
        'import pytest\n\nnothing = pytest.importorskip("no_such_module_anywhere")\n'
    ),
}

SUBTESTS = {
    "test_subtests.py": """
import unittest

import pytest


def test_all_pass(subtests):
    for n in range(3):
        with subtests.test(n=n):
            assert n < 3


def test_some_fail(subtests):
    for n in range(4):
        with subtests.test("with a message", n=n):
            assert n % 2 == 0


def test_some_skip(subtests):
    for n in range(3):
        with subtests.test(n=n):
            if n == 1:
                pytest.skip("odd")


class TestOld(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = ["class"]

    def setUp(self):
        self.made = [*self.made, "case"]

    def test_made(self):
        self.assertEqual(self.made, ["class", "case"])

    def test_subtests(self):
        for n in range(3):
            with self.subTest(n=n):
                self.assertNotEqual(n, 1)

    @unittest.skip("old reason")
    def test_skipped(self):
        pass

    def test_skips(self):
        self.skipTest("old reason from inside")

    @unittest.expectedFailure
    def test_expected(self):
        self.fail("as expected")

    @unittest.expectedFailure
    def test_unexpected(self):
        pass

    def test_fails(self):
        self.assertIn("a", "xyz")


class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def test_async(self):
        self.assertTrue(True)


class TestBrokenClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no database")

    def test_one(self):
        pass

    def test_two(self):
        pass
""",
}

DOCTESTS = {
    "pytest.ini": "[pytest]\naddopts = --doctest-modules --doctest-glob=*.rst\n",
    "area.py": '''
def square(side):
    """The area.

    >>> square(3)
    9
    >>> square(2)
    5
    """
    return side * side


def cube(side):
    """
    >>> cube(2)  # doctest: +SKIP
    9
    >>> cube(2)
    8
    """
    return side**3
''',
    "guide.rst": "Guide\n=====\n\n>>> 1 + 1\n2\n\n>>> print('a\\nb')\na\nb\n",
    "wrong.rst": ">>> 1 + 1\n3\n",
    "test_beside.py": "def test_beside():\n    pass\n",
}

IDS = {
    "test_ids.py": r"""
import pytest

LONG = "long-" + "abcdefghij" * 250


@pytest.mark.parametrize("value", ["", " ", "a b", "a/b", "a::b", "[x]", "]", "a[", "\\", "'", '"'])
def test_signs(value):
    pass


@pytest.mark.parametrize("value", ["\u00fc", "\u65e5\u672c", "\U0001f600", "e\u0301", "\u202e"])
def test_unicode(value):
    assert value != "\u65e5\u672c"


@pytest.mark.parametrize("value", ["\n", "\t", "\x00", "\x1b[31m", "\x7f", "a\rb", "\ud800"])
def test_control(value):
    assert value != "\t"


@pytest.mark.parametrize("value", [b"bytes", b"\xff\x00", 1, 1.5, -0.0, None, True, int, object()])
def test_kinds(value):
    pass


@pytest.mark.parametrize("value", ["same", "same", "same"])
def test_duplicates(value):
    pass


@pytest.mark.parametrize("value", [1, 2], ids=["twin", "twin"])
def test_named_duplicates(value):
    assert value == 1


@pytest.mark.parametrize("value", [LONG, LONG + "1"])
def test_long(value):
    assert value == LONG


@pytest.mark.parametrize("value", [pytest.param(1, id="\u00fc \n \x1b"), pytest.param(2, id="-k")])
def test_given(value):
    pass


@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize("b", ["x", "y"])
class TestGrid:
    @pytest.mark.parametrize("c", [None, ()])
    def test_grid(self, a, b, c):
        assert (a, b) != (2, "y")

    class TestInner:
        def test_inner(self, a, b):
            pass
""",
}
