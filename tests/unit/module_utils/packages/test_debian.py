from __future__ import annotations

import shutil
import subprocess
from itertools import product

import pytest
from ansible.module_utils.tensorflow_stack.packages.closure import Branch
from ansible.module_utils.tensorflow_stack.packages.debian import (
    Index,
    Stanza,
    close,
    compare_versions,
    parse_depends,
    parse_installed,
    parse_madison,
    parse_simulation,
    parse_stanzas,
    unmet,
)
from ansible.module_utils.tensorflow_stack.packages.model import InstalledPackage, PackageRefusal, ResolvedPackage

ORDERED = [
    "1.0~rc1-1",
    "1.0-1",
    "1.0-1+b1",
    "1.0a-1",
    "1.0+dfsg-1",
    "1.2-1",
    "1.10-1",
    "8.9.7.29-1+cuda11.8",
    "8.9.7.29-1+cuda12.2",
    "11.8.89~11.8.0-5~deb12u1",
    "535.309.01-0+deb12u1",
    "535.309.01-1",
    "20240109+1",
    "1:1.1.18-1",
    "2:0",
]


def test_order_of_versions() -> None:
    for (one, left), (other, right) in product(enumerate(ORDERED), repeat=2):
        assert compare_versions(left, right) == (one > other) - (one < other), (left, right)


def test_a_digit_that_is_no_number_ends_the_comparison() -> None:
    assert compare_versions("1.²", "1.2") == -compare_versions("1.2", "1.²") != 0


def test_numbers_of_any_length_are_compared() -> None:
    assert compare_versions("1." + "9" * 5000, "1." + "9" * 4999) == 1
    assert compare_versions("1.007", "1.7") == 0 == compare_versions("1.0", "1.")


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg to compare with")
def test_order_of_versions_is_dpkgs() -> None:
    for left, right in zip(ORDERED, ORDERED[1:]):
        assert subprocess.run(["dpkg", "--compare-versions", left, "lt", right]).returncode == 0, (left, right)


def test_installed_as_dpkg_query_says_it() -> None:
    lines = [
        "libcudnn8|amd64|8.1.0.77-1+cuda11.2|hi ||, ",
        "nvidia-kernel-dkms|amd64|535.309.01-1|iF |nvidia-kernel-535.309.01, nvidia-kernel-dkms-any (= 1)|, dkms",
        "cuda-documentation-12-5|amd64|12.5.1-1|iHR||, ",
        "libc-bin|amd64|2.36-9|it ||, libc6 (>> 2.36)",
        "libcuda1|i386|535.309.01-1|ii ||libc6 (>= 2.34), libnvidia-ml1",
        "vim|amd64|2:9|rc ||, ",
        "gone|amd64||un ||, ",
        "tzdata|all|2026f|ii |tzdata-trixie|, debconf (>= 0.5) | debconf-2.0",
    ]
    text = "\n".join(line.replace("|", "\t", 5) for line in lines) + "\ndpkg-query: warning: something\n"
    found = parse_installed(text, native="amd64")
    assert sorted(found) == [
        "cuda-documentation-12-5",
        "libc-bin",
        "libcuda1:i386",
        "libcudnn8",
        "nvidia-kernel-dkms",
        "tzdata",
    ]
    assert found["libcudnn8"].held and not found["libcudnn8"].trouble
    assert found["nvidia-kernel-dkms"].trouble == "half configured" and not found["nvidia-kernel-dkms"].needs_unpacking
    assert found["nvidia-kernel-dkms"].provides == ("nvidia-kernel-535.309.01", "nvidia-kernel-dkms-any")
    assert found["cuda-documentation-12-5"].needs_unpacking
    assert found["libc-bin"].waits_for_trigger and not found["libc-bin"].needs_unpacking
    assert found["tzdata"].depends == ", debconf (>= 0.5) | debconf-2.0"


# apt 2.6.1 of Debian 12, `apt-get --simulate install`; the last two lines are of 2.2.4 and 3.0.3.
SIMULATED = """
Reading package lists...
The following packages will be REMOVED:
  nvidia-smi
Remv nvidia-smi [535.54.03-1]
Inst libcudnn8 (8.1.0.77-1+cuda11.2 NVIDIA CUDA:127.0.0.1 [amd64])
Inst libnvidia-ml1 [535.54.03-1] (550.163.01-1 NVIDIA CUDA:127.0.0.1 [amd64]) []
Conf libnvidia-ml1 (550.163.01-1 NVIDIA CUDA:127.0.0.1 [amd64])
Purg libcudnn9 [9.3.0.75-1]
Inst libcuda1:i386 [535.1-1] (535.2-1 Debian:12.12/stable, Debian-Security:12/stable-security [i386])
Inst their-app (1.0 [all])
"""


def test_simulation() -> None:
    simulated = parse_simulation(SIMULATED)
    assert simulated.resulting == {
        "libcudnn8": ResolvedPackage("libcudnn8", "8.1.0.77-1+cuda11.2", "amd64"),
        "libnvidia-ml1": ResolvedPackage("libnvidia-ml1", "550.163.01-1", "amd64"),
        "libcuda1:i386": ResolvedPackage("libcuda1:i386", "535.2-1", "i386"),
        "their-app": ResolvedPackage("their-app", "1.0", "all"),
    }
    assert simulated.removed == {"nvidia-smi": "535.54.03-1", "libcudnn9": "9.3.0.75-1"}


def test_versions_that_can_be_fetched() -> None:
    text = """
 libcudnn8 | 8.9.7.29-1+cuda12.2 | http://127.0.0.1:39373/plain/debian12/x86_64 ./ Packages
 libcudnn8 | 8.9.7.29-1+cuda12.2 | http://mirror/ ./ Packages
 libcudnn8 | 8.1.0.77-1+cuda11.2 | http://127.0.0.1:39373/plain/debian12/x86_64 ./ Packages
  hello | 2.10-3 | http://deb.debian.org/debian bookworm/main Sources
W: Unable to read something
"""
    assert parse_madison(text) == {"libcudnn8": ["8.9.7.29-1+cuda12.2", "8.1.0.77-1+cuda11.2"]}


def test_stanzas() -> None:
    text = (
        "Package: cuda-drivers-470\nArchitecture: amd64\nVersion: 470.256.02-2\nSection: oldlibs\n"
        "Depends: cuda-drivers-535\nDescription: transitional package for cuda-drivers-535\nDescription-md5: 6c\n"
        "\nPackage: libcuda1\nArchitecture: amd64\nVersion: 535.1-1\nPre-Depends: a (>= 1)\nDepends: b\n"
        "Description-en: NVIDIA CUDA Driver Library\n more text\n"
        "\nPackage: libcuda1\nArchitecture: i386\nVersion: 535.1-1\nDepends: c\n"
    )
    assert parse_stanzas(text, native="amd64") == {
        ("cuda-drivers-470", "470.256.02-2"): Stanza("amd64", "cuda-drivers-535", True),
        ("libcuda1", "535.1-1"): Stanza("amd64", "a (>= 1), b", False),
    }


def test_depends() -> None:
    clauses = parse_depends(", a, b:any (>= 1:2.0~) | c [amd64], d(<<3)")
    assert [[str(one) for one in clause] for clause in clauses] == [["a"], ["b (>= 1:2.0~)", "c"], ["d (<< 3)"]]
    assert clauses[2][0].accepts("2.9") and not clauses[2][0].accepts("3")


PACKAGES = {
    ("driver", "535.2-1"): "ml (>= 535), kernel (= 535.2-1) | open (= 535.2-1), dkms, modprobe (>= 535)",
    ("driver", "550.1-1"): "ml (>= 550)",
    ("ml", "535.1-1"): "",
    ("ml", "535.2-1"): "",
    ("ml", "550.1-1"): "",
    ("kernel", "535.2-1"): "firmware (= 535.2) | firmware-535.2",
    ("open", "535.2-1"): "",
    ("modprobe", "560.9-1"): "",
    ("firmware", "1.1-1"): "",
    ("firmware", "1.2-1"): "",
    ("old", "470.2-2"): "driver (>= 535)",
    ("cuda", "12.2.2-1"): "blas (<< 12.3), fft",
    ("fft", "11.0-1"): "blas (>= 12.1)",
    ("blas", "12.3-1"): "",
    ("blas", "12.2-1"): "",
    ("blas", "12.0-1"): "",
}


def index(
    *,
    installed: dict[str, InstalledPackage] | None = None,
    branch: str | None = "535",
    asked: str = "535.2-1",
    without: tuple[tuple[str, str], ...] = (),
    recorded: dict[str, str] | None = None,
) -> Index:
    rows = {key: text for key, text in PACKAGES.items() if key not in without}
    available: dict[str, list[str]] = {}
    for name, version in rows:
        available.setdefault(name, []).insert(0, version)
    return Index(
        available={**available, "dkms": ["3.0-1"], "blas": [v for v in ("12.3-1", "12.2-1", "12.0-1")]},
        installed=installed or {},
        stanza=lambda name, version: Stanza("amd64", rows.get((name, version), ""), name == "old"),
        name_patterns=["driver", "ml", "kernel", "open", "modprobe", "old", "cuda", "blas", "fft"],
        branch=Branch.of(branch, requested=[asked], available=available),
        recorded=recorded or {},
    )


def test_closure_takes_the_version_asked_for_and_tools_with_numbers_of_their_own() -> None:
    assert close({"driver": "535.2-1"}, index()) == {
        "driver": "535.2-1",
        "ml": "535.2-1",
        "kernel": "535.2-1",
        "modprobe": "560.9-1",
    }


def test_closure_takes_the_alternative_that_was_asked_for_or_is_installed() -> None:
    closure = close({"driver": "535.2-1", "open": "535.2-1"}, index())
    assert isinstance(closure, dict) and "kernel" not in closure
    there = {"open": InstalledPackage("open", "535.2-1", "amd64")}
    closure = close({"driver": "535.2-1"}, index(installed=there))
    assert isinstance(closure, dict) and "open" in closure and "kernel" not in closure


def test_closure_knows_what_an_installed_package_provides() -> None:
    there = {"modprobe": InstalledPackage("modprobe", "560.9-1", "amd64", provides=("kernel",))}
    closure = close({"driver": "535.2-1"}, index(installed=there))
    assert isinstance(closure, dict) and "modprobe" in closure and "kernel" not in closure


def test_closure_is_narrowed_by_what_is_found_later() -> None:
    assert close({"cuda": "12.2.2-1"}, index(branch=None)) == {
        "cuda": "12.2.2-1",
        "fft": "11.0-1",
        "blas": "12.2-1",
    }
    there = {"blas": InstalledPackage("blas", "12.0-1", "amd64")}  # does for cuda, not for fft
    closure = close({"cuda": "12.2.2-1"}, index(branch=None, installed=there))
    assert isinstance(closure, dict) and closure["blas"] == "12.2-1"


def test_dependency_that_leaves_the_branch() -> None:
    refusal = close({"driver": "535.2-1"}, index(without=(("ml", "535.1-1"), ("ml", "535.2-1"))))
    assert isinstance(refusal, PackageRefusal) and refusal.reason == "leaves_branch"
    assert "driver needs ml (>= 535), which leaves branch 535: the only versions of ml are 550.1-1" in refusal.message


def test_dependency_that_is_in_no_repository() -> None:
    refusal = close({"kernel": "535.2-1", "driver": "535.2-1"}, index(without=(("modprobe", "560.9-1"),)))
    assert isinstance(refusal, dict)  # nothing of that name at all: apt says so
    missing = close({"cuda": "12.2.2-1"}, index(branch=None, recorded={}, installed={}))
    assert isinstance(missing, dict)
    refusal = close({"driver": "535.2-1"}, index(without=(("kernel", "535.2-1"),), installed=OLD_KERNEL))
    assert isinstance(refusal, PackageRefusal) and refusal.reason == "vanished"
    assert (
        "driver needs kernel (= 535.2-1)" in refusal.message and "these versions of kernel: 535.1-1." in refusal.message
    )


OLD_KERNEL = {"kernel": InstalledPackage("kernel", "535.1-1", "amd64")}


def test_transitional_package() -> None:
    rows = index(branch="470", asked="470.2-2")
    rows = Index(
        available={**rows.available, "driver": ["535.2-1"], "ml": ["535.2-1", "470.2-1"]},
        installed={},
        stanza=rows.stanza,
        name_patterns=rows.name_patterns,
        branch=Branch("470", frozenset({"535.2", "470.2"})),
        recorded={},
    )
    refusal = close({"old": "470.2-2"}, rows)
    assert isinstance(refusal, PackageRefusal) and refusal.reason == "transitional"
    assert "old 470.2-2 is a transitional package: it only installs driver 535.2-1" in refusal.message


def test_asked_for_versions_that_contradict_each_other() -> None:
    refusal = close({"cuda": "12.2.2-1", "blas": "12.3-1"}, index(branch=None))
    assert isinstance(refusal, PackageRefusal) and refusal.reason == "unsolvable"
    assert "cuda 12.2.2-1 needs blas (<< 12.3)" in refusal.message


def test_recorded_version_is_gone_back_to() -> None:
    there = {"blas": InstalledPackage("blas", "12.1-1", "amd64")}
    closure = close({"cuda": "12.2.2-1"}, index(branch=None, installed=there, recorded={"blas": "12.2-1"}))
    assert isinstance(closure, dict) and closure["blas"] == "12.2-1"


def installed(name: str, depends: str, *, provides: tuple[str, ...] = ()) -> InstalledPackage:
    return InstalledPackage(name, "2", "amd64", provides=provides, depends=depends)


@pytest.mark.parametrize(
    ("depends", "names"),
    [
        (", libc6", set()),
        (", libc6 (>= 3)", {"libc6"}),
        (", libcublas (>= 1), libc6", {"libcublas"}),
        (", exim | mta", set()),
        (", exim | postfix (>= 3)", {"exim", "postfix"}),
        ("libcublas, libc6 (= 2) | libmusl", {"libcublas"}),
    ],
)
def test_what_is_needed_and_not_there(depends: str, names: set[str]) -> None:
    there = [installed("libc6", ", "), installed("mail", ", ", provides=("mta",)), installed("app", depends)]
    assert unmet({one.name: one for one in there}) == names
