from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.errors import RefusedError
from ansible.module_utils.tensorflow_stack.packages.closure import (
    Branch,
    can_move_to,
    choose_requested,
    choose_version,
    fits,
    rank,
)
from ansible.module_utils.tensorflow_stack.packages.model import (
    InstalledPackage,
    PackageRefusal,
    PackageRequest,
    WantedPackage,
)
from ansible.module_utils.tensorflow_stack.records.component import upstream_version

DRIVERS = ["580.159.04-1", "550.163.01-1", "535.309.01-1", "535.104.05-1", "470.256.02-1"]


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
    wanted = WantedPackage("libcuda1", pattern)
    assert choose_version(wanted, available=DRIVERS, recorded=recorded, installed=installed) == expected


def test_vanished_version_names_those_there_are() -> None:
    found = choose_version(
        WantedPackage("libcuda1", "525.*"), available=DRIVERS[:2], recorded=None, installed="470.1-1"
    )
    assert isinstance(found, PackageRefusal) and found.reason == "vanished"
    assert "libcuda1 525.*" in found.message and "580.159.04-1, 550.163.01-1" in found.message


WHOLE = PackageRequest(
    "driver",
    "nvidia_repo",
    tuple(WantedPackage(name, "580.*") for name in ("libcuda1", "nvidia-fabricmanager", "nvidia-persistenced"))
    + (WantedPackage("linux-headers-6.1.0-56-amd64"),),
    name_patterns=("*nvidia*", "libcuda1"),
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
    state = {name: InstalledPackage(name, version, "amd64") for name, version in installed.items()}
    asked = choose_requested(WHOLE, state, available={**REPOSITORY, **changes}, recorded=recorded)
    assert asked["libcuda1"] == expected
    assert upstream_version(asked["nvidia-fabricmanager"]) == upstream_version(expected)
    assert asked["nvidia-persistenced"] == "580.82.07-1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nvidia-fabricmanager": []}, "do not have nvidia-fabricmanager 580"),
        ({"libcuda1": []}, "do not have libcuda1 580"),
        (
            {"nvidia-fabricmanager": ["580.126.09-1"], "nvidia-persistenced": ["580.159.04-1"]},
            "must have the same version, .*nvidia-fabricmanager has 580.126.09-1; nvidia-persistenced has 580.159.04-1",
        ),
    ],
)
def test_driver_that_no_repository_has_whole_is_refused(changes: dict[str, list[str]], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        choose_requested(WHOLE, {}, available={**REPOSITORY, **changes}, recorded={})


BRANCH = Branch.of(
    "550",
    requested=["550.163.01-1"],
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
    return rank("libnvidia-ml1", versions, requested=["550.163.01-1"], branch=BRANCH, **options)


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
        requested=["550.163.01-1"],
        recorded=None,
        installed=None,
        branch=BRANCH,
    ) == ["550.1-1", "570.133.07-1"]


def test_package_can_move_to_another_version_that_goes_with_the_requested_ones() -> None:
    assert can_move_to(["8.1-1"], ["8.1-1", "8.6-1"], installed="8.6-1")
    assert not can_move_to(["8.1-1"], ["8.1-1"], installed="8.1-1")
    assert not can_move_to(["8.1-1"], ["8.6-1"], installed="8.6-1")
