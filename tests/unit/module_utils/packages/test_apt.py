from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, StackError
from ansible.module_utils.tensorflow_stack.packages import apt_get
from ansible.module_utils.tensorflow_stack.packages.apt import Apt
from ansible.module_utils.tensorflow_stack.packages.apt_get import complaint
from ansible.module_utils.tensorflow_stack.packages.model import (
    ClosurePlan,
    InstalledPackage,
    PackageRequest,
    ResolvedPackage,
    Transaction,
    WantedPackage,
)

# apt 2.6.1, dpkg 1.21.22 of Debian 12.
LOCKED = (
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 11708 (python3)\n"
    "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n"
)
GONE = (
    "E: Failed to fetch http://127.0.0.1:1/libcudnn8.deb  404  Not Found [IP: 127.0.0.1 37371]\n"
    "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n"
)
DKMS = """Setting up nvidia-kernel-dkms (535.309.01-1) ...
Error! Your kernel headers for kernel 6.1.0-99-amd64 cannot be found.
dpkg: error processing package nvidia-kernel-dkms (--configure):
 installed nvidia-kernel-dkms package post-installation script subprocess returned error exit status 1
dpkg: dependency problems prevent configuration of nvidia-driver:
 nvidia-driver depends on nvidia-kernel-dkms (= 535.309.01-1); however:
  Package nvidia-kernel-dkms is not configured yet.

dpkg: error processing package nvidia-driver (--configure):
 dependency problems - leaving unconfigured
Errors were encountered while processing:
 nvidia-kernel-dkms
 nvidia-driver
E: Sub-process /usr/bin/dpkg returned an error code (1)
"""


class Commands:
    """Answers by the beginning of what is run."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = {"dpkg --print-architecture": "amd64\n", **answers}
        self.seen: list[list[str]] = []

    def __call__(self, argv: Sequence[str], *, stdin: str = "") -> str:
        self.seen.append(list(argv))
        words = [word for word in argv if not word.startswith("-o=")]
        return next(said for start, said in self.answers.items() if " ".join(words).startswith(start))


PLAN = ClosurePlan(
    (ResolvedPackage("libcudnn8", "8.1-1", "amd64"),),
    Transaction(downgrade={"libcudnn8": "8.1-1"}, remove={"old": "1"}),
)
REQUEST = PackageRequest("cudnn", "nvidia_repo", (WantedPackage("libcudnn8"),), ("libcudnn*",))


def test_lock_that_is_not_freed_in_time_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_get, "POLL_SECONDS", 0.01)
    apt = Apt(lock_timeout=0.05, run=Commands({"apt-get install": LOCKED}))
    with pytest.raises(BusyError, match=r"lock-frontend is held by process 11708 \(python3\); waited 0.05 s"):
        apt.download(PLAN)


def test_file_that_is_gone_is_an_error_before_anything_changes() -> None:
    with pytest.raises(StackError, match="404  Not Found.*Nothing was changed") as caught:
        Apt(lock_timeout=0, run=Commands({"apt-get install": GONE})).download(PLAN)
    assert "libcudnn8 8.1-1" in caught.value.message


@pytest.mark.parametrize("changes_holds", [False, True])
def test_transaction_is_one_command_with_what_it_may(changes_holds: bool) -> None:
    said = {"dpkg-query": "libcudnn8\tamd64\t8.1-1\tii \t\t, \n", "apt-mark": "", "apt-get": ""}
    run = Commands(said)
    state = {"libcudnn8": InstalledPackage("libcudnn8", "8.6-1", "amd64", held=changes_holds)}
    Apt(lock_timeout=7, run=run).install(PLAN, REQUEST, state)
    (install,) = [argv for argv in run.seen if argv[0] == "apt-get"]
    assert install[-1] == "libcudnn8=8.1-1" and "--allow-downgrades" in install and "--no-install-recommends" in install
    assert ("--allow-change-held-packages" in install) is changes_holds
    assert "-o=DPkg::Lock::Timeout=7" in install and "-o=Dpkg::Use-Pty=0" in install


def test_failing_script_is_shown_in_its_own_words() -> None:
    said = Apt(lock_timeout=0, run=Commands({})).explain(DKMS)
    assert "Your kernel headers for kernel 6.1.0-99-amd64 cannot be found" in said
    assert "exit status 1" in said and "leaving unconfigured" not in said


def test_complaint_of_apt() -> None:
    assert "404" in complaint(GONE) and complaint("") == "it printed nothing"
    unmet = " libnvidia-ml1 : Depends: nvidia-alternative (= 535.54.03-1) but 580.159.04-1 is to be installed\n"
    assert "Depends: nvidia-alternative" in complaint(unmet + "E: Unable to correct problems.\n")


def test_dpkg_that_says_nothing_is_not_an_empty_node() -> None:
    with pytest.raises(StackError, match="dpkg does not say what is installed: .*database is corrupt"):
        Apt(lock_timeout=0, run=Commands({"dpkg-query": "dpkg-query: error: database is corrupt\n"})).installed()


STATE = {
    "libcudnn8": InstalledPackage("libcudnn8", "8.1-1", "amd64"),
    "libcudnn8-dev": InstalledPackage("libcudnn8-dev", "8.1-1", "amd64", depends=", libcudnn8 (= 8.1-1)"),
    "mail": InstalledPackage("mail", "1", "amd64", provides=("mta",)),
    "cron": InstalledPackage("cron", "1", "amd64", depends=", libc6, exim | mta"),
    "app": InstalledPackage("app", "1", "amd64", depends=", libcudnn8-dev, libc6"),
}


@pytest.mark.parametrize(
    ("candidates", "needed"),
    [
        ({"libcudnn8", "libcudnn8-dev"}, {"libcudnn8", "libcudnn8-dev"}),
        ({"libcudnn8", "libcudnn8-dev", "app"}, set()),
        ({"mail"}, {"mail"}),
        ({"mail", "cron"}, set()),
    ],
)
def test_what_others_need_stays(candidates: set[str], needed: set[str]) -> None:
    assert Apt(lock_timeout=0, run=Commands({})).needed_by_others(candidates, STATE) == needed
