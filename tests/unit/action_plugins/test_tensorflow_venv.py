"""The action that starts the module: it says who asked."""

from __future__ import annotations

import platform
import pwd
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow_venv


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(**arguments: Any) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def execute(module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
            seen.update(module_args)
            return {"changed": True}

        task = SimpleNamespace(args=arguments, action="tensorflow_venv", async_val=0, check_mode=False, diff=False)
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
        action = tensorflow_venv.ActionModule(task, connection, SimpleNamespace(check_mode=False), None, None, None)
        action._load_name = "tensorflow_venv"
        monkeypatch.setattr(action, "_execute_module", execute)
        assert action.run(task_vars={})["changed"] is True
        return seen

    return run


def test_behind_sudo_it_is_who_called_it(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    assert given(name="a") == {"name": "a", "by": f"ada@{platform.node()}"}


def test_a_user_without_a_name_is_a_number(given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(tensorflow_venv.os, "getuid", lambda: 1234)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert given()["by"] == f"1234@{platform.node()}"


def test_a_task_may_say_it_itself(given: Any) -> None:
    assert given(by="a pipeline")["by"] == "a pipeline"
