"""What tests need of a machine: named with the command that installs it, got by root, and never skipped in silence."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests import needs

TABLE = {
    "packages": [
        {"package": "chromium", "command": "chromium", "slow": True},
        {"package": "gcc", "command": "gcc"},
        {"package": "libc6-dev", "file": "/usr/include/stdio.h"},
        {"package": "python3-venv", "module": "ensurepip"},
    ]
}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine of root's with apt and none of the packages; gives back the commands that are run on it."""
    ran: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(needs, "table", lambda: TABLE)
    monkeypatch.setattr(needs, "is_there", lambda row: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(needs.subprocess, "run", run)
    return ran


def test_what_is_missing_is_a_reason_with_its_command(bare: list[list[str]]) -> None:
    assert needs.reason("libc6-dev", "gcc") == "missing: gcc libc6-dev; as root: apt-get install gcc libc6-dev"
    with pytest.raises(pytest.skip.Exception, match="missing: gcc; as root: apt-get install gcc"):
        needs.require("gcc")


def test_in_ci_it_fails_instead(bare: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="With CI=true nothing may be skipped"):
        needs.require("gcc")


def test_another_user_than_root_is_told_so(bare: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "is_there", lambda row: True)
    needs.require("gcc", root=True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        needs.require("gcc", root=True)


def test_root_with_apt_gets_what_is_missing(bare: list[list[str]]) -> None:
    assert needs.main() == 0
    assert [command[-3:] for command in bare][-1] == ["gcc", "libc6-dev", "python3-venv"]
    assert "update" in bare[0] and "install" in bare[1]


def test_what_only_slow_tests_use_is_installed_for_them(bare: list[list[str]]) -> None:
    assert needs.main(["--slow"]) == 0
    assert bare[-1][-4:] == ["chromium", "gcc", "libc6-dev", "python3-venv"]


def test_others_are_told_what_is_skipped(
    bare: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert needs.main() == 0
    assert bare == []
    assert "will be skipped: gcc libc6-dev python3-venv." in capsys.readouterr().err


def test_nothing_is_run_where_nothing_is_missing(bare: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "is_there", lambda row: True)
    assert needs.main() == 0
    assert bare == []


def test_each_row_of_the_list_can_be_looked_for() -> None:
    for row in needs.table()["packages"]:
        assert len({"command", "file", "module"} & row.keys()) == 1, row
        needs.is_there(row)
