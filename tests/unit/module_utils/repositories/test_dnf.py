"""Against a dnf and an rpm that behave as dnf 4.14 and rpm 4.18 were seen to."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import BusyError, StackError
from ansible.module_utils.tensorflow_stack.io.commands import Completed
from ansible.module_utils.tensorflow_stack.io.files import FileChanges
from ansible.module_utils.tensorflow_stack.repositories.common import VerificationError, Work, repository
from ansible.module_utils.tensorflow_stack.repositories.dnf import DnfRepositories

from tests.keys import FIRST, FIRST_KEY, RETIRED, RETIRED_KEY, SECOND, SECOND_KEY

URL = "https://developer.download.nvidia.com/compute/cuda/repos/rhel8/x86_64/"
ROW = {
    "name": "nvidia-cuda-rhel8",
    "url": URL,
    "key": "D42D0685.pub",
    "fingerprints": [FIRST],
    "retired_fingerprints": [RETIRED],
}
REPOSITORY = repository(ROW, url="", fingerprints=[])
KEY = "/etc/pki/rpm-gpg/nvidia-cuda-rhel8"
SECTIONS = "/etc/yum.repos.d/nvidia-cuda-rhel8.repo"
CACHE = "var/cache/dnf/nvidia-cuda-rhel8-82e72b0271d846ac"
SECTION = f"""\
[nvidia-cuda-rhel8]
name=nvidia-cuda-rhel8
baseurl={URL}
enabled=1
gpgcheck=1
repo_gpgcheck=1
gpgkey=file://{KEY}
"""
NAMES = {
    key: f"gpg-pubkey-{name[-8:].lower()}-6268878a"
    for key, name in ((FIRST_KEY, FIRST), (SECOND_KEY, SECOND), (RETIRED_KEY, RETIRED))
}


def ended(code: int, lines: list[str]) -> Completed:
    return Completed(code, "\n".join(lines))


@dataclass
class Dnf:
    root: Path
    trusted: list[bytes] = field(default_factory=list)
    takes_keys: bool = True
    fails: Completed | None = None

    def __call__(self, argv: Sequence[str]) -> Completed:
        if argv[:2] == ["rpm", "-q"]:
            texts = [f"{NAMES[key]}\n{key.decode()}" for key in self.trusted]
            return ended(0, "\n".join(texts).splitlines() or ["package gpg-pubkey is not installed"])
        if argv[:2] == ["rpmkeys", "--import"]:
            if self.takes_keys:
                self.trusted.append((self.root / argv[2][1:]).read_bytes())
            return ended(0 if self.takes_keys else 1, ["error: key 1 import failed."])
        if argv[:2] == ["rpm", "--erase"]:
            self.trusted = [key for key in self.trusted if NAMES[key] != argv[-1]]
            return ended(0, [])
        assert argv[0] == "dnf"
        assert argv[-1] == "makecache"
        assert not (self.root / CACHE / "pubring").exists()
        if self.fails:
            return self.fails
        lists = self.root / CACHE / "repodata"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "5951-primary.xml.gz").write_text("")
        return ended(0, ["Metadata cache created."])


@pytest.fixture
def dnf(tmp_path: Path) -> Dnf:
    (tmp_path / "etc/yum.repos.d").mkdir(parents=True)
    (tmp_path / "etc/pki/rpm-gpg").mkdir(parents=True)
    return Dnf(tmp_path)


def plan(dnf: Dnf) -> tuple[Work, DnfRepositories]:
    work = Work(FileChanges(str(dnf.root)), run=dnf, fetch=lambda _: FIRST_KEY, root=str(dnf.root))
    manager = DnfRepositories(work)
    manager.add(REPOSITORY)
    return work, manager


def tree(root: Path) -> dict[str, str]:
    return {"/" + str(path.relative_to(root)): path.read_text() for path in root.glob("etc/**/*") if path.is_file()}


def test_from_nothing_and_again(dnf: Dnf) -> None:
    _, manager = plan(dnf)
    shown = {row["after_header"]: (row["before"], row["after"]) for row in manager.diff()}
    assert shown == {
        KEY: ("", f"OpenPGP key {FIRST}\n"),
        SECTIONS: ("", SECTION),
        "rpm's keys": ("", f"OpenPGP key {FIRST}\n"),
    }
    assert manager.refreshed_at() == 0
    assert tree(dnf.root) == {}
    assert dnf.trusted == []
    manager.apply(lock_timeout=0)
    assert tree(dnf.root) == {KEY: FIRST_KEY.decode(), SECTIONS: SECTION}
    assert dnf.trusted == [FIRST_KEY]
    work, manager = plan(dnf)
    assert not manager.is_changed
    assert manager.diff() == work.repaired == []
    assert manager.refreshed_at() > time.time() - 60


def test_what_is_in_the_way(dnf: Dnf) -> None:
    """Also a section of the same name elsewhere, and a key of which rpm's name has the last digits alone."""
    (dnf.root / "etc/yum.repos.d/cuda.repo").write_text(
        f"[cuda]\nbaseurl={URL.replace('x86_64/', '$basearch')}\ngpgcheck=0\n[nvidia-cuda-rhel8]\nbaseurl=http://x/\n"
        "[baseos]\nbaseurl=http://y/\n"
    )
    (dnf.root / "etc/pki/rpm-gpg/RPM-GPG-KEY-NVIDIA").write_bytes(RETIRED_KEY)
    dnf.trusted = [RETIRED_KEY, SECOND_KEY]
    (dnf.root / CACHE / "pubring").mkdir(parents=True)
    work, manager = plan(dnf)
    assert [(row["file"], row["entry"]) for row in work.repaired] == [
        ("/etc/yum.repos.d/cuda.repo", f"[cuda] {URL.replace('x86_64/', '$basearch')}"),
        ("/etc/yum.repos.d/cuda.repo", "[nvidia-cuda-rhel8] http://x/"),
        ("/etc/pki/rpm-gpg/RPM-GPG-KEY-NVIDIA", RETIRED),
        ("rpm's keys", RETIRED),
    ]
    manager.apply(lock_timeout=0)
    assert dnf.trusted == [SECOND_KEY, FIRST_KEY]
    written = tree(dnf.root)
    assert sorted(written) == [KEY, "/etc/yum.repos.d/cuda.repo", SECTIONS]
    assert written["/etc/yum.repos.d/cuda.repo"].count("enabled=0") == 2
    assert not plan(dnf)[1].is_changed


def test_index_that_cannot_be_had_takes_everything_back(dnf: Dnf) -> None:
    said = (
        "Error: Failed to download metadata for repo 'nvidia-cuda-rhel8': repomd.xml GPG signature verification error"
    )
    dnf.fails = ended(1, ["nvidia 8.0 kB/s", said])
    dnf.trusted = [RETIRED_KEY]
    with pytest.raises(VerificationError) as failed:
        plan(dnf)[1].apply(lock_timeout=0)
    assert said in failed.value.message
    assert tree(dnf.root) == {}
    assert dnf.trusted == [RETIRED_KEY]


def test_old_list_does_not_pass_for_a_new_one(dnf: Dnf) -> None:
    plan(dnf)[1].apply(lock_timeout=0)
    os.utime(dnf.root / CACHE / "repodata/5951-primary.xml.gz", (0, 0))
    dnf.fails = ended(0, ["Metadata cache created."])
    with pytest.raises(VerificationError, match="dnf fetched no list of it"):
        plan(dnf)[1].apply(lock_timeout=0)


def test_key_that_rpm_does_not_take(dnf: Dnf) -> None:
    dnf.takes_keys = False
    with pytest.raises(StackError, match=f"rpm did not accept the key {FIRST} .*import failed"):
        plan(dnf)[1].apply(lock_timeout=0)
    assert tree(dnf.root) == {}


def test_lock(dnf: Dnf) -> None:
    dnf.fails = ended(200, ["Error: Failed to obtain the transaction lock (logged in as: root)."])
    with pytest.raises(BusyError, match="transaction lock .* Waited 0 s"):
        plan(dnf)[1].apply(lock_timeout=0)
    assert tree(dnf.root) == {}
    assert dnf.trusted == []
