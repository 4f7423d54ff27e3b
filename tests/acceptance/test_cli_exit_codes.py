"""The exit status of real commands: what CI scripts branch on."""

from __future__ import annotations

from acceptance.cli_process import Place

ONE = '[[task]]\nname = "yes"\ncommand = "true"\n'


def test_usage_errors_name_what_is_wrong_and_change_nothing(place: Place) -> None:
    place.suite(ONE)
    place.suite(ONE.replace("command", "comand"), "typo.toml")
    for arguments, words in (
        (("run",), "no suite is named"),
        (("run", "missing.toml"), "missing.toml: no such file"),
        (("run", "typo.toml"), "comand"),
        (("run", "suite.toml", "-m", "nonsense"), "is not axis=value"),
        (("run", "suite.toml", "--nope"), "Unknown option"),
        (("rnu", "suite.toml"), "there is no command `dtf rnu`"),
        (("runs", "ls", "-o", "xml"), "xml"),
        (("runs", "show", "last"), "there is no history"),
    ):
        done = place.dtf(*arguments)
        assert done.status == 2, (arguments, done)
        assert words in done.err, done.err
        assert "next: " in done.err
        assert done.out == ""
        assert "Traceback" not in done.err
    assert not place.data_dir.exists()


def test_no_server_is_3(place: Place) -> None:
    place.suite(ONE)
    for command in (("runs", "ls"), ("run", "suite.toml"), ("submit", "suite.toml"), ("doctor",)):
        done = place.dtf(*command, "--server", "nats://127.0.0.1:1")
        assert done.status == 3, done
    done = place.dtf("submit", "suite.toml")
    assert done.status == 3
    assert "no local pool runs" in done.err


def test_nothing_selected_is_6(place: Place) -> None:
    place.suite(ONE)
    done = place.dtf("run", "suite.toml", "-k", "nothing-like-this")
    assert done.status == 6
    assert "no task's name matches 'nothing-like-this'" in done.err
    assert not place.data_dir.exists()


def test_what_cannot_be_placed_is_4_for_plan_and_for_run(place: Place) -> None:
    place.suite(ONE + '[[task]]\nname = "gpu"\ncommand = "true"\nhardware = "qnn"\n')
    planned = place.dtf("plan", "suite.toml", "--json")
    assert planned.status == 4
    assert [row["state"] for row in planned.json()["rows"]] == ["ok", "no_capacity"]
    assert "serves cpu, not qnn" in planned.json()["rows"][1]["reasons"][0]
    ran = place.dtf("run", "suite.toml", "--json")
    assert ran.status == 4, ran
    assert ran.json()["counts"] == {"passed": 1, "no_capacity": 1}
    assert ran.json()["failures"][0]["verdict"] == "no_capacity"


def test_a_fallback_is_4_unless_it_is_allowed(place: Place) -> None:
    (place.directory / "where.py").write_text(
        "import dtf\ndef session():\n    dtf.placed('cuda', 'cpu', 'no driver')\n"
    )
    suite = '[[task]]\nname = "where"\npython = "where:session"\n'
    place.suite(suite, head='name = "where"\n')
    ran = place.dtf("run", "suite.toml", "--json")
    assert ran.status == 4, ran
    assert ran.json()["counts"] == {"fallback": 1}
    allowed = place.dtf("run", "suite.toml", "--allow-fallback", "--json")
    assert allowed.status == 0, allowed
