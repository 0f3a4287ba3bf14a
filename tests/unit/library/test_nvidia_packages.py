from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, RefusedError
from ansible.module_utils.tensorflow_stack.packages import install
from ansible.module_utils.tensorflow_stack.packages.model import (
    PackageRequest,
    ResolvedPackage,
    Transaction,
    WantedPackage,
)
from ansible.module_utils.tensorflow_stack.packages.result import PackagesOutcome

from tests.conftest import RunModule

WISH: dict[str, Any] = {
    "component": "driver",
    "source": "distro",
    "packages": [{"name": "libcuda1", "version": "535.*"}, {"name": "nvidia-smi"}],
    "belongs": ["*nvidia*", "libcuda1"],
    "branch": "535",
}


@pytest.fixture(autouse=True)
def _apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "lacks_dnf", lambda: False)
    monkeypatch.setattr(install, "find_manager", lambda *, lock_timeout: lock_timeout)


def test_result_has_all_keys_and_the_request_is_as_it_was_given(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def present(request: PackageRequest, manager: Any, *, check: bool) -> PackagesOutcome:
        seen.extend([request, manager, check])
        return PackagesOutcome(
            True,
            "535.309.01",
            (ResolvedPackage("libcuda1", "535.309.01-1", "amd64"),),
            Transaction(install={"libcuda1": "535.309.01-1"}),
            ("libc6",),
            [{"name": "libcuda1", "problem": "missing", "recorded": "535.309.01-1", "found": None}],
            ("nvidia-smi",),
            [{"before": "", "after": "x"}],
        )

    monkeypatch.setattr(install, "apply_present", present)
    result = run_module("nvidia_packages", check=True, diff=True, lock_timeout=7, **WISH)
    wanted = (WantedPackage("libcuda1", "535.*"), WantedPackage("nvidia-smi", None))
    assert seen == [PackageRequest("driver", "distro", wanted, ("*nvidia*", "libcuda1"), "535", False), 7, True]
    result.pop("invocation", None)
    assert result == {
        "changed": True,
        "pending": True,
        "version": "535.309.01",
        "packages": [{"name": "libcuda1", "version": "535.309.01-1", "architecture": "amd64"}],
        "transaction": {
            "install": ["libcuda1=535.309.01-1"],
            "upgrade": [],
            "downgrade": [],
            "remove": [],
            "reinstall": [],
        },
        "healed": ["libc6"],
        "drift": [{"name": "libcuda1", "problem": "missing", "recorded": "535.309.01-1", "found": None}],
        "held_by_others": ["nvidia-smi"],
        "diff": [{"before": "", "after": "x"}],
    }


def test_absent_where_nothing_is_recorded_needs_no_package_manager(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "is_recorded", lambda component: False)
    monkeypatch.delattr(install, "find_manager")
    assert run_module("nvidia_packages", component="cudnn", state="absent")["changed"] is False


def test_absent_asks_for_nothing_but_the_component(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_recorded", lambda component: True)
    monkeypatch.setattr(install, "apply_absent", lambda component, manager, *, check: PackagesOutcome(False))
    result = run_module("nvidia_packages", component="cudnn", state="absent")
    assert result["changed"] is False and result["version"] is None and result["packages"] == []


def test_what_a_repository_lacks_that_is_not_there_yet_is_foretold(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def present(request: PackageRequest, manager: Any, *, check: bool) -> PackagesOutcome:
        raise RefusedError("no libcuda1 535.*")

    monkeypatch.setattr(install, "apply_present", present)
    result = run_module("nvidia_packages", check=True, pending=True, **WISH)
    assert (result["changed"], result["version"]) == (True, "535.*")
    assert result["transaction"]["install"] == ["libcuda1=535.*", "nvidia-smi=*"]
    assert run_module("nvidia_packages", check=True, **WISH)["msg"] == "no libcuda1 535.*"
    assert run_module("nvidia_packages", pending=True, **WISH)["msg"] == "no libcuda1 535.*"


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (RefusedError("No such version.", refusals=[{"reason": "vanished"}]), "refusals"),
        (BusyError("Held by process 1.", lock="/var/lib/dpkg/lock-frontend"), "lock"),
    ],
)
def test_errors_are_failures_with_their_details(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch, error: Exception, key: str
) -> None:
    def present(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(install, "apply_present", present)
    result = run_module("nvidia_packages", **WISH)
    assert result["failed"] and result["msg"] == str(error) and result[key]


def test_directory_that_cannot_be_read_is_a_failure_not_a_traceback(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def present(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/dpkg/lock-frontend")

    monkeypatch.setattr(install, "apply_present", present)
    result = run_module("nvidia_packages", **WISH)
    assert result["failed"] and "Permission denied" in result["msg"] and "Run as root" in result["msg"]


def test_what_is_missing_is_said(run_module: RunModule) -> None:
    result = run_module("nvidia_packages", component="cudnn")
    assert result["failed"] and "source" in result["msg"]
