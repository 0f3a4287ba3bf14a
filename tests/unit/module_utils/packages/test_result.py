"""Whether a node is as planned, and what a run shows, with a package manager that has only words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io.files import FileChanges
from ansible.module_utils.tensorflow_stack.packages.manager import PackageManager
from ansible.module_utils.tensorflow_stack.packages.model import (
    ClosurePlan,
    InstalledPackage,
    ResolvedPackage,
    StreamChange,
    Transaction,
)
from ansible.module_utils.tensorflow_stack.packages.result import check_holds, check_result, show_diff

DRIVER = ResolvedPackage("driver", "580.1", "x86_64")
STREAM = StreamChange("nvidia-driver", before="535-dkms", after="580-open")
PLAN = ClosurePlan((DRIVER,), Transaction(upgrade={"driver": "580.1"}, remove={"old": "1"}), STREAM)
INSTALLED = InstalledPackage("driver", "580.1", "x86_64", held=True)


class Manager:
    def __init__(self, stream: str | None) -> None:
        self.stream = stream

    def enabled_stream(self, module: str) -> str | None:
        assert module == "nvidia-driver"
        return self.stream

    def explain(self, output: str) -> str:
        return f"<{output}>"


def check(*installed: InstalledPackage, plan: ClosurePlan = PLAN, stream: str | None = "580-open") -> None:
    manager = cast(PackageManager, Manager(stream))
    check_result("driver", manager, {one.name: one for one in installed}, plan, "output")


def test_node_that_is_as_planned() -> None:
    check(INSTALLED)
    check(plan=ClosurePlan((), Transaction(), StreamChange("nvidia-driver", "580-open", None)), stream=None)


@pytest.mark.parametrize(
    ("installed", "stream", "text"),
    [
        pytest.param([], "580-open", "driver 580.1 is not installed", id="missing"),
        pytest.param([replace(INSTALLED, version="535.1")], "580-open", "driver is 535.1, not 580.1", id="moved"),
        pytest.param(
            [INSTALLED, InstalledPackage("libc6", "2", "amd64", trouble="half configured")],
            "580-open",
            "libc6 2 is half configured",
            id="another one",
        ),
        pytest.param(
            [INSTALLED, InstalledPackage("old", "1", "x86_64")], "580-open", "old 1 is still installed", id="left"
        ),
        pytest.param(
            [INSTALLED],
            "535-dkms",
            "of the module nvidia-driver the stream 535-dkms is enabled, not 580-open",
            id="stream",
        ),
    ],
)
def test_node_that_is_not_as_planned(installed: list[InstalledPackage], stream: str, text: str) -> None:
    with pytest.raises(StackError) as caught:
        check(*installed, stream=stream)
    assert caught.value.message == (
        f"The packages of driver are not as planned: {text}. The package manager printed: <output> "
        "Correct that and run again: the run continues from here."
    )
    assert caught.value.details["stderr"] == "output"


def test_module_that_was_not_reset() -> None:
    plan = ClosurePlan((), Transaction(), StreamChange("nvidia-driver", "580-open", None))
    with pytest.raises(StackError, match="the stream 580-open is enabled, not none"):
        check(plan=plan)


def test_hold_that_was_not_taken() -> None:
    check_holds({"driver": INSTALLED}, ["driver"])
    with pytest.raises(StackError, match="driver could not be held[.] Check the package manager's state"):
        check_holds({"driver": replace(INSTALLED, held=False)}, ["driver"])


def test_difference_has_packages_the_stream_and_files() -> None:
    before = {"driver": replace(INSTALLED, version="535.1", held=False), "old": InstalledPackage("old", "1", "x86_64")}
    changes: Any = FileChanges("/nowhere")
    changes.write("/etc/pins", b"new\n")
    rows = show_diff(before, PLAN, changes, place={"driver"}, lift=set())
    assert [(row["before_header"], row["before"], row["after"]) for row in rows] == [
        ("packages", "driver=535.1\nold=1\n", "driver=580.1 held\n"),
        ("module nvidia-driver", "stream=535-dkms\n", "stream=580-open\n"),
        ("/etc/pins", "", "new\n"),
    ]
    same = ClosurePlan((DRIVER,), Transaction())
    assert show_diff({"driver": INSTALLED}, same, FileChanges("/nowhere"), place=set(), lift=set()) == []
