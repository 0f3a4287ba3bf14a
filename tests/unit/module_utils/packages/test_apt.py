from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, StackError
from ansible.module_utils.tensorflow_stack.packages import apt as apt_commands
from ansible.module_utils.tensorflow_stack.packages.apt import Apt, complaint, holder
from ansible.module_utils.tensorflow_stack.packages.closure import Installed, Package, Plan, Transaction

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


PLAN = Plan(
    (Package("libcudnn8", "8.1-1", "amd64"),), Transaction(downgrade={"libcudnn8": "8.1-1"}, remove={"old": "1"})
)


def test_lock_that_is_not_freed_in_time_names_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_commands, "_POLL_SECONDS", 0.01)
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
    state = {"libcudnn8": Installed("libcudnn8", "8.6-1", "amd64", held=changes_holds)}
    Apt(lock_timeout=7, run=run).apply(PLAN, state, asked={"libcudnn8"}, changes_holds=changes_holds)
    (install,) = [argv for argv in run.seen if argv[0] == "apt-get"]
    assert install[-1] == "libcudnn8=8.1-1" and "--allow-downgrades" in install and "--no-install-recommends" in install
    assert ("--allow-change-held-packages" in install) is changes_holds
    assert "-o=DPkg::Lock::Timeout=7" in install and "-o=Dpkg::Use-Pty=0" in install


def test_failing_script_is_shown_in_its_own_words() -> None:
    said = Apt(lock_timeout=0, run=Commands({})).describe(DKMS)
    assert "Your kernel headers for kernel 6.1.0-99-amd64 cannot be found" in said
    assert "exit status 1" in said and "leaving unconfigured" not in said


def test_complaint_of_apt() -> None:
    assert "404" in complaint(GONE) and complaint("") == "it printed nothing"
    unmet = " libnvidia-ml1 : Depends: nvidia-alternative (= 535.54.03-1) but 580.159.04-1 is to be installed\n"
    assert "Depends: nvidia-alternative" in complaint(unmet + "E: Unable to correct problems.\n")


def test_dpkg_that_says_nothing_is_not_an_empty_node() -> None:
    with pytest.raises(StackError, match="dpkg does not say what is installed: .*database is corrupt"):
        Apt(lock_timeout=0, run=Commands({"dpkg-query": "dpkg-query: error: database is corrupt\n"})).installed()


def test_holder_of_a_lock_is_found(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    program = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, 2); print(1, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        with open(path, "r+b") as file:
            assert holder(file.fileno()).startswith(f"process {child.pid} (python")
    finally:
        child.kill()
        child.communicate()
    with open(path, "r+b") as file:
        assert holder(file.fileno()) == "an unknown process"
        fcntl.lockf(file, fcntl.LOCK_EX)


def test_own_pins_are_left_out_of_those_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_commands, "PREFERENCES", str(tmp_path / "tensorflow-gpu-stack-{}.pref"))
    for name in ("tensorflow-gpu-stack-cudnn.pref", "backports", "b.pref", "c.bak", "d.dpkg-old"):
        (tmp_path / name).write_text(f"# {name}\n")
    said = apt_commands._pins_of_others()
    assert "# backports" in said and "# b.pref" in said
    assert "tensorflow" not in said and "# c.bak" not in said and "# d.dpkg-old" not in said


STATE = {
    "libcudnn8": Installed("libcudnn8", "8.1-1", "amd64"),
    "libcudnn8-dev": Installed("libcudnn8-dev", "8.1-1", "amd64", depends=", libcudnn8 (= 8.1-1)"),
    "mail": Installed("mail", "1", "amd64", provides=("mta",)),
    "cron": Installed("cron", "1", "amd64", depends=", libc6, exim | mta"),
    "app": Installed("app", "1", "amd64", depends=", libcudnn8-dev, libc6"),
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
