"""An error that no code expected ends as one message and a log, never as a traceback."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.module_utils.tensorflow_stack import boundary
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.records import manifest

from tests.conftest import RunModule

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where logs are written."""
    user = SimpleNamespace(pw_dir=str(tmp_path / "home"), pw_name="someone")
    monkeypatch.setattr(boundary, "pwd", SimpleNamespace(getpwuid=lambda uid: user))
    return tmp_path / "home"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def logs(home: Path) -> list[Path]:
    return sorted(home.rglob("*.log"))


def test_an_error_of_ours_keeps_its_message_and_details(home: Path) -> None:
    assert boundary.failure(StackError("Set x.", found=1), "a_module") == {"msg": "Set x.", "found": 1}
    assert logs(home) == []


def test_another_error_is_named_with_its_place_and_a_log(home: Path) -> None:
    said = boundary.failure(raised(KeyError("source")), "a_module")["msg"]
    [log] = logs(home)
    assert said.startswith("a_module met something that it does not expect (test_boundary.py:")
    assert "KeyError: 'source'" in said
    assert str(log) in said
    assert "Traceback" not in said
    assert "docs/troubleshooting.md" in said
    assert "## Reporting a fault\n" in (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in log.read_text(encoding="utf-8")
    assert log.stat().st_mode & 0o777 == 0o600
    boundary.failure(raised(KeyError("source")), "a_module")
    assert logs(home) == [log]


def test_the_systems_own_error_is_no_fault_of_the_toolkit(home: Path) -> None:
    said = boundary.failure(raised(OSError(28, "No space left on device", "/x")), "a_module")["msg"]
    assert "could not finish" in said
    assert "No space left on device: '/x'. Correct the cause and run again. The traceback is in " in said
    assert "fault of" not in said


def test_neither_message_nor_log_has_credentials_or_raw_bytes(home: Path) -> None:
    error = raised(ValueError("http://user:hidden@host/ \x1b[31m \udcff\n" + "x" * 9000))
    said = boundary.failure(error, "a_module")["msg"]
    assert "hidden" not in said + logs(home)[0].read_text(encoding="utf-8")
    assert said.isprintable()
    assert len(said) < 1200


def test_without_a_place_for_the_log_the_message_has_the_way(home: Path) -> None:
    home.write_text("a file", encoding="utf-8")
    said = boundary.failure(raised(KeyError("source")), "a_module")["msg"]
    assert "No log can be written" in said
    assert "came by test_boundary.py:" in said


def test_a_module_fails_by_message(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any) -> Any:
        raise RecursionError("too deep")

    monkeypatch.setattr(manifest, "read", fail)
    result = run_module("tensorflow_history", root=str(tmp_path))
    assert result["failed"]
    assert " met something that it does not expect (" in result["msg"]
    assert "RecursionError: too deep" in result["msg"]


def test_an_action_fails_by_result_and_leaves_ansibles_errors_alone() -> None:
    def run(self: Any, error: Exception) -> dict[str, Any]:
        raise error

    bounded = boundary.failing_by_result("an_action", (AnsibleError,))(run)
    result = bounded(None, TypeError("odd"))
    assert result["failed"]
    assert "TypeError: odd" in result["msg"]
    with pytest.raises(AnsibleError):
        bounded(None, AnsibleError("unreachable"))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "library").glob("*.py")), ids=lambda path: path.stem)
def test_every_module_has_the_boundary(path: Path) -> None:
    [main] = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    ]
    module, *rest = [
        node for node in main.body if not isinstance(node, ast.Assign) or "AnsibleModule(" in ast.unparse(node)
    ]
    if "was not found. Run the playbook" in ast.unparse(main):
        return  # it only fails, with a message
    assert [ast.unparse(node).splitlines()[0] for node in rest] == ["with failing_by_message(module):"]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "action_plugins").glob("*.py")), ids=lambda path: path.stem)
def test_every_action_has_the_boundary(path: Path) -> None:
    assert (
        f'    @failing_by_result("{path.stem}", (AnsibleError,))  # type: ignore[untyped-decorator]\n    def run(self, '
        in path.read_text("utf-8")
    )


def test_the_log_is_in_the_home_of_the_user_who_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind sudo HOME may be another user's."""
    monkeypatch.setenv("HOME", os.path.join(home, "other"))
    boundary.failure(raised(KeyError("x")), "a_module")
    assert [path.parent for path in logs(home)] == [home / ".local/state/tensorflow-gpu-stack"]
