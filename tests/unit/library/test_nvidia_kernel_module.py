"""What the module hands to the room that does the work, and what becomes of its errors."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.kernel.state import ModuleRequest
from ansible.modules import nvidia_kernel_module

from tests.conftest import RunModule


@pytest.mark.parametrize("check", [True, False])
def test_what_is_asked_for_is_handed_on(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    seen: list[Any] = []

    def ensure(request: ModuleRequest, *, check: bool) -> dict[str, Any]:
        seen.extend([request, check])
        return {"changed": True, "actions": ["load nvidia"]}

    monkeypatch.setattr(nvidia_kernel_module, "ensure", ensure)
    options = {"modules": "open", "kernels": ["6.1.0-56-amd64"], "services": ["nvidia-persistenced"]}
    result = run_module("nvidia_kernel_module", check=check, version="1:535.309.01-1~deb12u1", **options)
    request = ModuleRequest(
        "535.309.01", "open", kernels=["6.1.0-56-amd64"], services=["nvidia-persistenced"], pending=False
    )
    assert seen == [request, check]
    assert (result["changed"], result["actions"]) == (True, ["load nvidia"])


@pytest.mark.parametrize("check", [True, False])
def test_absent_asks_for_no_version(run_module: RunModule, monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    monkeypatch.setattr(nvidia_kernel_module, "give_back", lambda *, check: {"changed": not check})
    assert run_module("nvidia_kernel_module", state="absent", check=check)["changed"] is not check


def test_present_without_a_version_is_refused(run_module: RunModule) -> None:
    result = run_module("nvidia_kernel_module", modules="open")
    assert result["failed"] and result["msg"].endswith("missing: version")


def test_what_cannot_be_had_is_a_failure_with_its_details(
    run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ensure(*_: Any, **__: Any) -> None:
        raise StackError("Secure Boot is on, and nobody signed the module.", kernels=["6.1.0-56-amd64"])

    monkeypatch.setattr(nvidia_kernel_module, "ensure", ensure)
    result = run_module("nvidia_kernel_module", version="535.309.01", modules="proprietary")
    assert result["failed"] and result["msg"] == "Secure Boot is on, and nobody signed the module."
    assert result["kernels"] == ["6.1.0-56-amd64"]
