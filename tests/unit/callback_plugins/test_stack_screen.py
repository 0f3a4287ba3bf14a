"""Errors, tables and quiet tasks of the screen; tests/integration/test_screen.py sees them in a terminal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stack_screen
from ansible.plugins.loader import callback_loader

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("STACK_SCREEN_LOG_DIRECTORY", str(tmp_path / "logs"))
    callback_loader.add_directory(str(REPOSITORY / "callback_plugins"))
    module = callback_loader.get("stack_screen")
    module.set_options()
    module._last_task_banner = "task"
    return module


def make_result(action: str = "tensorflow_venv", name: str = "localhost", **result: Any) -> Any:
    task = SimpleNamespace(
        _uuid="task",
        action=action,
        loop=None,
        delegate_to=None,
        check_mode=False,
        no_log=False,
        get_name=lambda: "Build it",
        get_path=lambda: "play.yml:3",
    )
    host = SimpleNamespace(get_name=lambda: name, name=name)
    return SimpleNamespace(
        _host=host, host=host, _task=task, task=task, _result=result, result=result, is_changed=lambda: False
    )


def test_an_error_is_its_message(screen: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    node = {"driver": {"installed": None}, "gpus": []}
    said = (
        "TensorFlow 2.99 is not a known release; the nearest are 2.20.0, 2.21.0. Set tensorflow_version to one of them."
    )
    screen.v2_runner_on_failed(
        make_result(msg="Task failed: Action failed: " + said, failed=True, node=node, plan=None)
    )
    assert capsys.readouterr().out == (
        "fatal: [localhost]: FAILED! => TensorFlow 2.99 is not a known release; the\n"
        "  nearest are 2.20.0, 2.21.0. Set tensorflow_version to one of them.\n"
    )
    assert not (tmp_path / "logs").exists(), "the message says it all"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            {"cmd": ["kubectl", "drain"], "rc": 1, "stdout": "node/a cordoned", "stderr": "later\nerror: timeout\n"},
            "error: timeout",
        ),
        ({"cmd": "kubectl drain", "rc": 1, "stdout": "error: a budget\n", "stderr": ""}, "error: a budget"),
        ({"cmd": ["kubectl"], "rc": 1}, "it printed nothing"),
    ],
    ids=["stderr", "stdout", "nothing"],
)
def test_of_a_command_that_failed_its_last_line_is_shown(
    screen: Any, capsys: pytest.CaptureFixture[str], said: dict[str, Any], shown: str
) -> None:
    # Of the oldest ansible-core, and of the newest.
    for message in ("non-zero return code", "Task failed: The command exited with a non-zero return code."):
        screen.v2_runner_on_failed(make_result(msg=message, failed=True, **said))
        assert f"kubectl ended with 1: {shown}\n" in capsys.readouterr().out


def test_a_long_error_is_in_its_log(screen: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = " ".join(f"Line {number} of what uv says is long." for number in range(40)) + " Set tensorflow_index_url."
    screen.v2_runner_on_failed(make_result(name="../node 7", msg=message, failed=True, stderr="all that uv said", rc=2))
    lines = capsys.readouterr().out.splitlines()
    log = tmp_path / "logs" / "_node_7.failed.log"
    assert len(lines) == 5 and lines[-1] == f"  All of it: {log}"
    assert "Set tensorflow_index_url." in lines[-2]
    text = log.read_text()
    assert message in text and "all that uv said" in text and "play.yml:3" in text
    assert log.stat().st_mode & 0o777 == 0o600
    screen.v2_runner_on_failed(make_result(name="../node 7", msg="Another.", failed=True, stderr="more"))
    assert log.read_text().startswith(text), "a second one of the same run is added"


def test_a_message_that_fills_the_lines_is_whole(
    screen: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    message = "keras==2.8.0 cannot be installed with this release. " * 6 + "Change the line. No lock was changed."
    screen.v2_runner_on_failed(make_result(msg=message, failed=True, stderr="all that uv said"))
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 5 and message in " ".join(shown.split())
    assert "all that uv said" in (tmp_path / "logs" / "localhost.failed.log").read_text()
    screen.v2_runner_on_failed(make_result(msg=message, failed=True, exception="Traceback (most recent call last)"))
    assert "  All of it: " in capsys.readouterr().out.splitlines()[-1]


def test_a_log_that_cannot_be_written_is_elsewhere(
    screen: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").touch()
    monkeypatch.setattr(
        stack_screen.constants, "config", SimpleNamespace(get_config_value=lambda _: str(tmp_path / "a"))
    )
    screen.v2_runner_on_failed(make_result(msg="Wrong.", failed=True, stderr="more"))
    assert capsys.readouterr().out.endswith(f"  All of it: {tmp_path}/a/localhost.failed.log\n")


def test_what_is_not_to_be_logged_is_not(screen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    screen.v2_runner_on_failed(make_result(censored="hidden", failed=True))
    assert capsys.readouterr().out == "fatal: [localhost]: FAILED! => hidden\n"


def test_a_report_repeats_no_error(screen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    said = "The task 'Build it' failed, see above. The report is /reports/localhost.json."
    screen.v2_runner_on_failed(make_result("tensorflow_report", msg=said, failed=True, path="/reports/localhost.json"))
    assert capsys.readouterr().out == "localhost: the report is /reports/localhost.json\n"
    screen.v2_runner_on_failed(make_result("tensorflow_report", msg="Nothing was proven.", failed=True))
    assert capsys.readouterr().out == "fatal: [localhost]: FAILED! => Nothing was proven.\n"


def test_a_node_that_is_not_reached(screen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    screen.v2_runner_on_unreachable(make_result(msg="No route to host.", unreachable=True, changed=False))
    assert capsys.readouterr().out == "fatal: [localhost]: UNREACHABLE! => No route to host.\n"


@pytest.mark.parametrize("action", ["assert", "ansible.builtin.assert", "ansible.builtin.validate_argument_spec"])
def test_a_check_that_holds_is_silent(screen: Any, capsys: pytest.CaptureFixture[str], action: str) -> None:
    result = make_result(action, changed=False, msg="All assertions passed")
    screen._last_task_banner = None
    screen.v2_playbook_on_task_start(result._task, False)
    screen.v2_runner_on_ok(result)
    screen.v2_runner_on_skipped(result)
    assert capsys.readouterr().out == ""
    screen.v2_runner_on_failed(make_result(action, msg="Wrong.", failed=True, assertion="a == b", evaluated_to=False))
    shown = capsys.readouterr().out
    assert "TASK [Build it]" in shown and shown.endswith("FAILED! => Wrong.\n")


def test_a_text_is_shown_as_it_is(screen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    screen.v2_runner_on_ok(make_result("ansible.builtin.debug", msg="healthy: this node\n  driver none", changed=False))
    assert capsys.readouterr().out == "ok: [localhost]\nhealthy: this node\n  driver none\n"
    screen.v2_runner_on_ok(make_result("ansible.builtin.debug", msg=["one", "two"], changed=False))
    assert capsys.readouterr().out == "ok: [localhost]\none\ntwo\n"


def test_the_last_lines_fit(screen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"ok": 6, "changed": 1, "unreachable": 0, "failures": 0, "skipped": 2, "rescued": 0, "ignored": 0}
    stats = SimpleNamespace(processed={"localhost": 1}, summarize=lambda _: row, custom={})
    screen.v2_playbook_on_stats(stats)
    lines = capsys.readouterr().out.splitlines()
    assert "localhost    : ok=6 changed=1 unreachable=0 failed=0 skipped=2" in lines
    assert max(map(len, lines)) <= 80
