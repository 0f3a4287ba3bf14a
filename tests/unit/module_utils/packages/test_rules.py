from __future__ import annotations

from dataclasses import replace

import pytest
from ansible.module_utils.tensorflow_stack.packages.model import (
    ClosurePlan,
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    Transaction,
    WantedPackage,
)
from ansible.module_utils.tensorflow_stack.packages.rules import check_transaction

STATE = {name: InstalledPackage(name, "8.6-1", "amd64") for name in ("libcudnn8", "libcudnn8-dev", "app", "mail")}
REQUEST = PackageRequest("cudnn", "nvidia_repo", (WantedPackage("libcudnn8", "8.1-1"),), ("libcudnn*",))
DOWN = Transaction(downgrade={"libcudnn8": "8.1-1"})
REMOVED = Transaction(remove={"libcudnn8-dev": "8.6-1"})


def check(
    transaction: Transaction,
    *,
    allow_downgrade: bool = True,
    ours: tuple[str, ...] = (),
    foreign: tuple[str, ...] = (),
    pinned_by: dict[str, tuple[str, str]] | None = None,
) -> list[PackageRefusal]:
    return check_transaction(
        replace(REQUEST, allow_downgrade=allow_downgrade),
        ClosurePlan((), transaction),
        before=STATE,
        our_holds=ours,
        foreign_holds={name: f"apt-mark unhold {name}" for name in foreign},
        pinned_by=pinned_by or {},
    )


def test_transaction_that_may_be() -> None:
    assert check(DOWN) == []
    assert check(REMOVED) == []
    assert check(DOWN, ours=("libcudnn8",), foreign=("libcudnn8",)) == []
    assert check(DOWN, foreign=("libcudnn8-dev",)) == []
    assert check(DOWN, pinned_by={"libcudnn8": ("cuda", "8.1-1")}) == []


@pytest.mark.parametrize(
    ("found", "reason", "packages", "text"),
    [
        pytest.param(
            check(DOWN, allow_downgrade=False),
            "downgrade",
            ("libcudnn8",),
            "libcudnn8 8.1-1 is older than the installed version and would downgrade libcudnn8 8.6-1 to 8.1-1. "
            "Set allow_downgrade (of the driver: nvidia_driver_allow_downgrade), or request a version that is not "
            "older.",
            id="downgrade",
        ),
        pytest.param(
            check(Transaction(remove={"mail": "8.6-1", "app": "8.6-1"})),
            "removes_others",
            ("app", "mail"),
            "Installing libcudnn8 8.1-1 would remove app, mail, which do not belong to cudnn. "
            "If it is not needed, remove it first; otherwise request another version.",
            id="other packages",
        ),
        pytest.param(
            check(DOWN, foreign=("libcudnn8",)),
            "held_by_others",
            ("libcudnn8",),
            "libcudnn8 is held at 8.6-1, and not by this toolkit, but must become 8.1-1 for libcudnn8 8.1-1. "
            "If that hold is not needed: apt-mark unhold libcudnn8.",
            id="foreign hold",
        ),
        pytest.param(
            check(REMOVED, foreign=("libcudnn8-dev",)),
            "held_by_others",
            ("libcudnn8-dev",),
            "libcudnn8-dev is held at 8.6-1, and not by this toolkit, but must be removed for libcudnn8 8.1-1. "
            "If that hold is not needed: apt-mark unhold libcudnn8-dev.",
            id="foreign hold of a removed package",
        ),
        pytest.param(
            check(DOWN, pinned_by={"libcudnn8": ("cuda", "8.6-1")}),
            "held_by_others",
            ("libcudnn8",),
            "libcudnn8 was requested at 8.6-1 as cuda, but libcudnn8 8.1-1 needs it at 8.1-1. "
            "Request versions that fit together.",
            id="another component",
        ),
        pytest.param(
            check(REMOVED, pinned_by={"libcudnn8-dev": ("cuda", "8.6-1")}),
            "held_by_others",
            ("libcudnn8-dev",),
            "libcudnn8-dev was requested at 8.6-1 as cuda, but libcudnn8 8.1-1 needs it removed. "
            "Request versions that fit together.",
            id="removed from another component",
        ),
    ],
)
def test_transaction_that_must_not_be(
    found: list[PackageRefusal], reason: str, packages: tuple[str, ...], text: str
) -> None:
    assert found == [PackageRefusal(reason, packages, text)]
