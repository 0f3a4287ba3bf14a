from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.errors import RefusedError
from ansible.module_utils.tensorflow_stack.packages.closure import (
    Branch,
    Installed,
    Plan,
    Refusal,
    Request,
    Transaction,
    Wanted,
    belongs,
    check_transaction,
    choose_all_asked,
    choose_asked,
    fits,
    is_alike,
    rank,
    refuse,
    sort_transaction,
    upstream,
)
from ansible.module_utils.tensorflow_stack.packages.debian import compare_versions

DRIVERS = ["580.159.04-1", "550.163.01-1", "535.309.01-1", "535.104.05-1", "470.256.02-1"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("8.1.0.77-1+cuda11.2", "8.1.0.77"),
        ("3:535.309.01-1.el8", "535.309.01"),
        ("11.8.89~11.8.0-5~deb12u1", "11.8.89~11.8.0"),
        ("1:1.1.18-1", "1.1.18"),
        ("1.2.2", "1.2.2"),
    ],
)
def test_upstream_version(version: str, expected: str) -> None:
    assert upstream(version) == expected


@pytest.mark.parametrize(
    ("version", "pattern", "expected"),
    [
        ("535.309.01-1", "535.*", True),
        ("3:535.309.01-1.el8", "535.*", True),
        ("3:535.309.01-1.el8", "3:535.309.01-1.el8", True),
        ("535.309.01-1", None, True),
        ("5350.1-1", "535.*", False),
        ("8.1.0.77-1+cuda11.2", "8.1.0.77-1+cuda11.2", True),
        ("8.1.0.77-1+cuda11.2", "8.1.0.77", False),
    ],
)
def test_version_asked_for(version: str, pattern: str | None, expected: bool) -> None:
    assert fits(version, pattern) is expected


def test_name_belongs_whatever_its_architecture() -> None:
    assert belongs("libcuda1:i386", ["*nvidia*", "libcuda1"])
    assert not belongs("libcuda1-i386", ["libcuda1"])


@pytest.mark.parametrize(
    ("recorded", "installed", "pattern", "expected"),
    [
        (None, None, "535.*", "535.309.01-1"),
        (None, None, None, "580.159.04-1"),
        (None, "535.104.05-1", "535.*", "535.104.05-1"),
        ("535.104.05-1", "535.309.01-1", "535.*", "535.104.05-1"),
        ("470.256.02-1", None, "535.*", "535.309.01-1"),
        (None, "535.54.03-1", "535.*", "535.54.03-1"),  # installed, and gone from the repository
        ("535.54.03-1", None, "535.*", "535.309.01-1"),  # recorded, and gone from everywhere
    ],
)
def test_asked_version(recorded: str | None, installed: str | None, pattern: str | None, expected: str) -> None:
    wanted = Wanted("libcuda1", pattern)
    assert choose_asked(wanted, available=DRIVERS, recorded=recorded, installed=installed) == expected


def test_vanished_version_names_those_there_are() -> None:
    found = choose_asked(Wanted("libcuda1", "525.*"), available=DRIVERS[:2], recorded=None, installed="470.1-1")
    assert isinstance(found, Refusal) and found.reason == "vanished"
    assert "libcuda1 525.*" in found.message and "580.159.04-1, 550.163.01-1" in found.message


WHOLE = Request(
    "driver",
    "nvidia_repo",
    tuple(Wanted(name, "580.*") for name in ("libcuda1", "nvidia-fabricmanager", "nvidia-persistenced"))
    + (Wanted("linux-headers-6.1.0-56-amd64"),),
    belongs=("*nvidia*", "libcuda1"),
    branch="580",
)
REPOSITORY = {
    "libcuda1": ["580.159.04-1", "580.126.09-1", "580.95.05-1"],
    "nvidia-fabricmanager": ["580.159.04-1", "580.126.09-1", "580.95.05-1"],
    "nvidia-persistenced": ["580.82.07-1"],  # of the distribution: numbers of its own
    "linux-headers-6.1.0-56-amd64": ["6.1.170-1"],
}


@pytest.mark.parametrize(
    ("changes", "installed", "recorded", "expected"),
    [
        ({}, {}, {}, "580.159.04-1"),
        ({}, {"libcuda1": "580.126.09-1"}, {}, "580.126.09-1"),
        ({}, {"nvidia-fabricmanager": "580.126.09-1"}, {}, "580.159.04-1"),
        ({}, {"libcuda1": "580.126.09-1"}, {"libcuda1": "580.95.05-1"}, "580.95.05-1"),
        # The one lags behind the other, and the version that is there is no longer to be had for both.
        ({"nvidia-fabricmanager": ["580.126.09-1"]}, {}, {}, "580.126.09-1"),
        ({"nvidia-fabricmanager": ["580.126.09-1"]}, {"libcuda1": "580.65.06-1"}, {}, "580.126.09-1"),
        ({"nvidia-fabricmanager": ["1:580.159.04-1~deb12"]}, {}, {}, "580.159.04-1"),
    ],
)
def test_driver_and_fabric_manager_are_of_one_version(
    changes: dict[str, list[str]], installed: dict[str, str], recorded: dict[str, str], expected: str
) -> None:
    state = {name: Installed(name, version, "amd64") for name, version in installed.items()}
    asked = choose_all_asked(WHOLE, state, available={**REPOSITORY, **changes}, recorded=recorded)
    assert asked["libcuda1"] == expected
    assert upstream(asked["nvidia-fabricmanager"]) == upstream(expected)
    assert asked["nvidia-persistenced"] == "580.82.07-1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nvidia-fabricmanager": []}, "do not have nvidia-fabricmanager 580"),
        ({"libcuda1": []}, "do not have libcuda1 580"),
        (
            {"nvidia-fabricmanager": ["580.126.09-1"], "nvidia-persistenced": ["580.159.04-1"]},
            "have to be of one version, .*nvidia-fabricmanager has 580.126.09-1; nvidia-persistenced has 580.159.04-1",
        ),
    ],
)
def test_driver_that_no_repository_has_whole_is_refused(changes: dict[str, list[str]], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        choose_all_asked(WHOLE, {}, available={**REPOSITORY, **changes}, recorded={})


BRANCH = Branch.of(
    "550",
    asked=["550.163.01-1"],
    available={"libcuda1": DRIVERS, "nvidia-modprobe": ["570.133.07-1"], "nvidia-support": ["20240109+1"]},
)


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("libcuda1", "550.163.01-1", False),
        ("libnvidia-ml1", "580.159.04-1", True),
        ("nvidia-modprobe", "570.133.07-1", False),  # Debian 13: a tool with numbers of its own
        ("nvidia-support", "20240109+1", False),
        ("glx-alternative-nvidia", "1.2.2", False),
        ("nvidia-driver-535", "535.183.01-0ubuntu1", True),
        ("nvidia-driver-550-open", "550.163.01-0ubuntu1", False),
    ],
)
def test_branch_is_left(name: str, version: str, expected: bool) -> None:
    assert BRANCH.is_left_by(name, version) is expected


def test_no_branch_is_never_left() -> None:
    assert not Branch(None).is_left_by("nvidia-driver-535", "535.1-1")


def ranked(versions: list[str], **known: str | None) -> list[str]:
    options = {"recorded": None, "installed": None, **known}
    return rank("libnvidia-ml1", versions, asked=["550.163.01-1"], branch=BRANCH, **options)


def test_version_of_what_was_asked_for_comes_first_whatever_is_installed() -> None:
    assert ranked(DRIVERS, installed="550.54.14-1")[0] == "550.163.01-1"


def test_same_upstream_version_with_another_revision_comes_next() -> None:
    assert ranked(["550.163.01-3", "550.54.14-1"], installed="550.54.14-1")[0] == "550.163.01-3"


def test_recorded_comes_before_installed_before_newest() -> None:
    versions = ["1.4-1", "1.3-1", "1.2-1"]
    assert ranked(versions, recorded="1.2-1", installed="1.3-1")[:3] == ["1.2-1", "1.3-1", "1.4-1"]
    assert ranked(versions, installed="1.3-1")[0] == "1.3-1"
    assert ranked(versions)[0] == "1.4-1"
    assert "1.1-1" not in ranked(versions, recorded="1.1-1")


def test_versions_of_another_branch_are_none_and_tools_of_their_own_come_last() -> None:
    assert ranked(["580.159.04-1"]) == []
    assert rank(
        "nvidia-modprobe",
        ["570.133.07-1", "550.1-1"],
        asked=["550.163.01-1"],
        recorded=None,
        installed=None,
        branch=BRANCH,
    ) == ["550.1-1", "570.133.07-1"]


def test_alike_is_another_version_that_goes_with_what_was_asked_for() -> None:
    assert is_alike(["8.1-1", "8.6-1"], ["8.1-1"], besides="8.6-1")
    assert not is_alike(["8.1-1"], ["8.1-1"], besides="8.1-1")
    assert not is_alike(["8.6-1"], ["8.1-1"], besides="8.6-1")


STATE = {name: Installed(name, "8.6-1", "amd64") for name in ("libcudnn8", "libcudnn8-dev", "app")}
REQUEST = Request("cudnn", "nvidia_repo", (Wanted("libcudnn8", "8.1-1"),), ("libcudnn*",))


def test_kinds_of_a_transaction() -> None:
    lands = {"libcudnn8": "8.1-1", "libcudnn8-dev": "8.6-1", "app": "8.7-1", "new": "1"}
    transaction = sort_transaction(lands, {"old": "1"}, STATE, compare_versions)
    assert transaction.texts() == {
        "install": ["new=1"],
        "upgrade": ["app=8.7-1"],
        "downgrade": ["libcudnn8=8.1-1"],
        "remove": ["old=1"],
        "reinstall": ["libcudnn8-dev=8.6-1"],
    }
    assert transaction.lands == lands and transaction and not Transaction()


def reasons(
    transaction: Transaction,
    *,
    allow_downgrade: bool = True,
    ours: tuple[str, ...] = (),
    others: tuple[str, ...] = (),
    pinned_by: dict[str, tuple[str, str]] | None = None,
) -> list[str]:
    request = Request(REQUEST.component, REQUEST.source, REQUEST.packages, REQUEST.belongs, None, allow_downgrade)
    found = check_transaction(
        request,
        Plan((), transaction),
        before=STATE,
        ours=ours,
        others={name: f"apt-mark unhold {name}" for name in others},
        pinned_by=pinned_by or {},
    )
    return [row.reason for row in found]


DOWN = Transaction(downgrade={"libcudnn8": "8.1-1"})


def test_transaction_that_may_be() -> None:
    assert reasons(DOWN) == []
    assert reasons(Transaction(remove={"libcudnn8-dev": "8.6-1"})) == []
    assert reasons(DOWN, ours=("libcudnn8",), others=("libcudnn8",)) == []
    assert reasons(DOWN, others=("libcudnn8-dev",)) == []
    assert reasons(DOWN, pinned_by={"libcudnn8": ("cuda", "8.1-1")}) == []


def test_transaction_that_must_not_be() -> None:
    assert reasons(DOWN, allow_downgrade=False) == ["downgrade"]
    assert reasons(Transaction(remove={"app": "8.6-1"})) == ["removes_others"]
    assert reasons(DOWN, others=("libcudnn8",)) == ["held_by_others"]
    assert reasons(DOWN, pinned_by={"libcudnn8": ("cuda", "8.6-1")}) == ["held_by_others"]


def test_refusal_says_all_and_has_rows() -> None:
    refuse("cudnn", [])
    with pytest.raises(RefusedError, match="One. Two. Nothing was changed.") as caught:
        refuse("cudnn", [Refusal("vanished", ("a",), "One."), Refusal("downgrade", ("b",), "Two.")])
    rows = caught.value.details["refusals"]
    assert rows[0] == {"component": "cudnn", "reason": "vanished", "packages": ["a"], "message": "One."}
