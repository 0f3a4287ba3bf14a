"""Against an apt that says what apt 2.6 was seen to say; the real ones are in roles/nvidia_repository/molecule."""

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
from ansible.module_utils.tensorflow_stack.repositories import common
from ansible.module_utils.tensorflow_stack.repositories.apt import AptRepositories
from ansible.module_utils.tensorflow_stack.repositories.common import (
    VerificationError,
    Work,
    describe,
    repository,
)
from ansible.module_utils.tensorflow_stack.repositories.openpgp import read_keys

from tests.keys import FIRST, FIRST_KEY, RETIRED, RETIRED_KEY, SECOND, SECOND_KEY

URL = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
ROW = {
    "kind": "nvidia",
    "manager": "apt",
    "name": "nvidia-cuda-debian12",
    "url": URL,
    "key": "3bf863cc.pub",
    "fingerprints": [FIRST],
    "retired_fingerprints": [RETIRED],
}
REPOSITORY = repository(ROW, url="", fingerprints=[])
KEY = "/etc/apt/keyrings/nvidia-cuda-debian12.asc"
SOURCES = "/etc/apt/sources.list.d/nvidia-cuda-debian12.sources"
ENTRY = f"Types: deb\nURIs: {URL}\nSuites: /\nSigned-By: {KEY}\n"

DEBIAN = """\
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian-security bookworm-security main
"""
COMPONENTS = "/etc/apt/sources.list.d/tensorflow-gpu-stack-contrib-non-free.sources"


def ended(code: int, lines: list[str]) -> Completed:
    return Completed(code, "\n".join(lines))


@dataclass
class Apt:
    """`said` is what an update says; where `works`, it touches the indexes as apt does."""

    root: Path
    said: list[str] = field(default_factory=list)
    works: bool = True
    packaged: tuple[str, ...] = ()
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, argv: Sequence[str]) -> Completed:
        self.commands.append(list(argv))
        if argv[0] == "dpkg-query":
            return ended(0 if argv[2] in self.packaged else 1, [])
        if argv[1] == "indextargets":
            return ended(0, self.targets())
        assert argv == ["apt-get", "update", "-o", "APT::Update::Error-Mode=any"]
        if self.works:
            self.put_indexes()
        return ended(100 if self.said else 0, [*self.said, "Reading package lists..."])

    def put_indexes(self) -> None:
        lists = self.root / "lists"
        lists.mkdir(exist_ok=True)
        for name in ("nvidia_InRelease", "nvidia_Packages", "debian_bookworm_Release"):
            (lists / name).write_text("")
            os.utime(lists / name, (0, 0))  # the server's time
        for component in ("main", "contrib", "non-free"):
            (lists / f"debian_bookworm_{component}_binary-amd64_Packages.lz4").write_text("")

    def targets(self) -> list[str]:
        lists = self.root / "lists"
        rows = [("Packages", lists / "nvidia_Packages", URL, "", "", "NVIDIA")]
        for component in ("main", "contrib", "non-free"):
            path = lists / f"debian_bookworm_{component}_binary-amd64_Packages.lz4"
            key = f"{component}/binary-amd64/Packages"
            rows.append((key, path, "http://deb.debian.org/debian/", "bookworm", component, "Debian"))
        return [
            line
            for key, path, url, suite, component, origin in rows
            if path.exists()
            for line in (
                f"MetaKey: {key}",
                f"Filename: {path}",
                f"Origin: {origin}",
                *([f"Component: {component}"] if component else []),
                f"Release: {suite}",
                f"Repo-URI: {url}",
                "",
            )
        ]


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    for directory in ("sources.list.d", "trusted.gpg.d"):
        (tmp_path / "etc/apt" / directory).mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(DEBIAN)
    (tmp_path / "etc/os-release").write_text('PRETTY_NAME="Debian"\nID=debian\nVERSION_CODENAME=bookworm\n')
    return Apt(tmp_path)


def plan(apt: Apt, key: bytes = FIRST_KEY, *, components: bool = False) -> tuple[Work, AptRepositories]:
    work = Work(FileChanges(str(apt.root)), run=apt, fetch=lambda _: key, root=str(apt.root))
    manager = AptRepositories(work)
    if components:
        manager.add_components(["contrib", "non-free"])
    manager.add(REPOSITORY)
    return work, manager


def tree(root: Path) -> dict[str, bytes]:
    paths = (root / "etc").rglob("*")
    return {"/" + str(path.relative_to(root)): path.read_bytes() for path in paths if path.is_file()}


def test_from_nothing_and_again(apt: Apt) -> None:
    before = tree(apt.root)
    _, manager = plan(apt, components=True)
    assert manager.is_changed
    assert manager.refreshed_at() == 0
    assert tree(apt.root) == before, "a plan changes nothing"
    manager.apply(lock_timeout=0)
    assert tree(apt.root) == {
        **before,
        KEY: FIRST_KEY,
        SOURCES: ENTRY.encode(),
        COMPONENTS: (
            b"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\nComponents: contrib non-free\n\n"
            b"Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: bookworm-security\n"
            b"Components: contrib non-free\n"
        ),
    }
    work, manager = plan(apt, b"the network is not needed", components=True)
    assert not manager.is_changed
    assert manager.diff() == work.repaired == work.warnings == []
    assert time.time() - 60 < manager.refreshed_at() <= time.time() + 1


def test_components_that_are_there_already_are_not_added_twice(apt: Apt) -> None:
    plan(apt, components=True)[1].apply(lock_timeout=0)
    (apt.root / "etc/apt/sources.list").write_text(DEBIAN.replace("main", "main contrib non-free"))
    work, manager = plan(apt, components=True)
    assert [row["after_header"] for row in manager.diff()] == [COMPONENTS]
    manager.apply(lock_timeout=0)
    assert COMPONENTS not in tree(apt.root)
    assert work.repaired == []


def test_no_entry_of_the_distribution(apt: Apt) -> None:
    (apt.root / "etc/apt/sources.list").write_text("deb [signed-by=/x.asc] http://x.example.org bookworm main\n")
    with pytest.raises(StackError, match="contrib and non-free of debian bookworm, but no enabled entry"):
        plan(apt, components=True)


# --- What is in the way -----------------------------------------------------------------------------


def test_other_entries_of_the_same_repository(apt: Apt) -> None:
    parts = apt.root / "etc/apt/sources.list.d"
    (parts / "cuda.list").write_text(f"deb [trusted=yes] {URL} /\ndeb http://x.example.org/ /\n")
    (parts / "cuda.list.save").write_text(f"deb {URL} /\n")
    (parts / "v.sources").write_text(f"Types: deb\nURIs: {URL}\nSuites: /\n")
    (apt.root / "etc/apt/sources.list").write_text(DEBIAN + f"deb {URL.rstrip('/')} /\n")
    work, manager = plan(apt)
    manager.apply(lock_timeout=0)
    reason = f"the same repository is in {SOURCES}, with its own key"
    mark = f"# Disabled by tensorflow-gpu-stack: {reason}\n"
    written = {path: data.decode() for path, data in tree(apt.root).items()}
    assert written["/etc/apt/sources.list"] == DEBIAN + mark + f"# deb {URL.rstrip('/')} /\n"
    assert written["/etc/apt/sources.list.d/cuda.list"] == (
        mark + f"# deb [trusted=yes] {URL} /\ndeb http://x.example.org/ /\n"
    )
    assert written["/etc/apt/sources.list.d/cuda.list.save"] == f"deb {URL} /\n", "apt does not read it"
    assert written["/etc/apt/sources.list.d/v.sources"].endswith(f"Suites: /\n{mark}Enabled: no\n")
    assert work.repaired == [
        {"file": f"/etc/apt/{file}", "entry": entry, "action": f"disabled, {reason}"}
        for file, entry in [
            ("sources.list", f"deb {URL.rstrip('/')} /"),
            ("sources.list.d/cuda.list", f"deb {URL} / (Trusted: yes)"),
            ("sources.list.d/v.sources", f"deb {URL} /"),
        ]
    ]
    assert not plan(apt)[1].is_changed


def test_a_mirror_is_in_place_of_what_it_mirrors(apt: Apt) -> None:
    (apt.root / "etc/apt/sources.list.d/cuda.list").write_text(f"deb {URL} /\n")
    mirror = repository(ROW, url="https://mirror.example.org/cuda", fingerprints=[SECOND.lower()])
    work = Work(FileChanges(str(apt.root)), run=apt, fetch=lambda _: SECOND_KEY, root=str(apt.root))
    AptRepositories(work).add(mirror)
    assert [row["file"] for row in work.repaired] == ["/etc/apt/sources.list.d/cuda.list"]
    written = work.files.read(SOURCES)
    assert written is not None
    assert b"URIs: https://mirror.example.org/cuda/\n" in written


def test_retired_key(apt: Apt) -> None:
    several = b"".join(key.packets for data in (SECOND_KEY, RETIRED_KEY) for key in read_keys(data))
    keybox = bytes(8) + b"KBXf" + bytes(20)
    left = {
        "/etc/apt/trusted.gpg.d/other.asc": SECOND_KEY,
        "/etc/apt/trusted.gpg.d/README": RETIRED_KEY,
        "/etc/apt/trusted.gpg.d/box.gpg": keybox + bytes.fromhex(RETIRED),
        "/etc/apt/trusted.gpg.d/box-of-others.gpg": keybox,
        "/etc/apt/trusted.gpg.d/damaged.gpg": several[:-5],
        "/usr/share/keyrings/packaged.gpg": several,
    }
    found = {
        "/etc/apt/trusted.gpg": several,
        "/etc/apt/trusted.gpg.d/alone.asc": RETIRED_KEY,
        "/etc/apt/trusted.gpg.d/armoured.asc": RETIRED_KEY + SECOND_KEY,
        "/usr/share/keyrings/copied.gpg": RETIRED_KEY,
    }
    for path, data in {**left, **found}.items():
        (apt.root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (apt.root / path[1:]).write_bytes(data)
    apt.packaged = ("/usr/share/keyrings/packaged.gpg",)
    work, manager = plan(apt)
    assert sorted(row["file"] for row in work.repaired) == sorted(found)
    assert {(row["entry"], row["action"]) for row in work.repaired} == {(RETIRED, "removed the retired key")}
    assert [warning.split()[0] for warning in work.warnings] == [
        "/etc/apt/trusted.gpg.d/box.gpg",
        "/etc/apt/trusted.gpg.d/damaged.gpg",
    ]
    shown = {row["after_header"]: (row["before"], row["after"]) for row in manager.diff()}
    assert shown["/etc/apt/trusted.gpg"] == (
        f"OpenPGP key {SECOND}\nOpenPGP key {RETIRED}\n",
        f"OpenPGP key {SECOND}\n",
    )
    manager.apply(lock_timeout=0)
    now = tree(apt.root)
    assert {path: now.get(path) for path in [*left, *found] if path.startswith("/etc")} == {
        **{path: data for path, data in left.items() if path.startswith("/etc")},
        "/etc/apt/trusted.gpg": read_keys(SECOND_KEY)[0].packets,
        "/etc/apt/trusted.gpg.d/alone.asc": None,
        "/etc/apt/trusted.gpg.d/armoured.asc": SECOND_KEY,
    }
    assert (apt.root / "usr/share/keyrings/packaged.gpg").read_bytes() == several
    assert not (apt.root / "usr/share/keyrings/copied.gpg").exists()


# --- The key ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (SECOND_KEY, f"3bf863cc.pub is {SECOND}, not {FIRST}. Nothing was trusted."),
        (FIRST_KEY + SECOND_KEY, f"the key {FIRST} alone, but contains 2: {FIRST}, {SECOND}. Nothing was trusted."),
        (b"<html>sign in</html>", f"is not the key {FIRST}: it is not OpenPGP data."),
        (b"\xc6\x29\x06" + bytes(40), "3bf863cc.pub is a key of version 6, not"),
    ],
)
def test_another_key_is_refused(apt: Apt, key: bytes, said: str) -> None:
    with pytest.raises(StackError) as refused:
        plan(apt, key)
    assert said in refused.value.message
    assert "set nvidia_repository_fingerprints" in refused.value.message


def test_key_that_is_there(apt: Apt) -> None:
    """Kept where it is the right one, mode mended; another is replaced, shown by fingerprint."""
    path = apt.root / KEY[1:]
    path.parent.mkdir()
    path.write_bytes(SECOND_KEY)
    _, manager = plan(apt)
    [row] = [row for row in manager.diff() if row["after_header"] == KEY]
    assert (row["before"], row["after"]) == (f"OpenPGP key {SECOND}\n", f"OpenPGP key {FIRST}\n")
    path.write_bytes(b"of ours\n" + FIRST_KEY)
    path.chmod(0o600)
    _, manager = plan(apt, b"not fetched")
    [row] = [row for row in manager.diff() if row["after_header"] == KEY]
    assert row["before"] == "# mode 0600\n" + row["after"]
    # apt takes a binary key by its name only, and this one ends in .asc.
    path.write_bytes(read_keys(FIRST_KEY)[0].packets)
    assert plan(apt)[0].files.read(KEY) == FIRST_KEY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "https://user:secret@mirror.example.org/"}, "nvidia_repository_url contains credentials"),
        ({"fingerprints": ["3BF863CC"]}, "'3BF863CC' is no fingerprint"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(StackError, match=said) as refused:
        repository({**ROW, **changes}, url="", fingerprints=[])
    assert "secret" not in refused.value.message


def test_fingerprints_as_gpg_prints_them() -> None:
    spaced = " ".join(FIRST[start : start + 4] for start in range(0, 40, 4))
    assert repository(ROW, url="", fingerprints=[spaced]).fingerprints == (FIRST,)
    # Acceptable by the inventory's word, so not retired.
    assert repository(ROW, url="", fingerprints=[RETIRED]).retired == ()


# --- The index --------------------------------------------------------------------------------------

SITE = URL.rstrip("/")
FAILURES = {
    "down": [
        f"W: Failed to fetch {URL}InRelease  Could not connect to 127.0.0.1:80 (127.0.0.1). - connect (111: Connection"
        " refused)",
        "W: Some index files failed to download. They have been ignored, or old ones used instead.",
    ],
    "unsigned": [f"E: The repository '{SITE}  Release' is not signed."],
    "wrong key": [
        "W: An error occurred during the signature verification. The repository is not updated and the previous index"
        f" files will be used. GPG error: {SITE}  InRelease: The following signatures couldn't be verified because the"
        " public key is not available: NO_PUBKEY 01364CEFF705245D",
    ],
    "conflict": [
        f"E: Conflicting values set for option Trusted regarding source {URL} /",
        "E: The list of sources could not be read.",
    ],
}


@pytest.mark.parametrize("touched", [False, True], ids=["index left", "index touched"])
@pytest.mark.parametrize("failure", FAILURES)
def test_index_that_cannot_be_had_takes_everything_back(apt: Apt, failure: str, touched: bool) -> None:
    """apt touches the index also where the server says that it is unchanged but the key does not fit any more."""
    (apt.root / "etc/apt/sources.list.d/cuda.list").write_text(f"deb {URL} /\n")
    before = tree(apt.root)
    apt.said, apt.works = FAILURES[failure], touched
    with pytest.raises(VerificationError) as failed:
        plan(apt)[1].apply(lock_timeout=0)
    assert FAILURES[failure][0] in failed.value.message
    assert f"The repository {URL} cannot be used" in failed.value.message
    assert tree(apt.root) == before
    assert not (apt.root / "etc/apt/keyrings").exists()


def test_old_index_does_not_pass_for_a_new_one(apt: Apt) -> None:
    apt.put_indexes()
    time.sleep(1.1)
    apt.works = False
    with pytest.raises(VerificationError, match="fetched no list of its packages"):
        plan(apt)[1].apply(lock_timeout=0)


def test_components_that_the_archive_does_not_have(apt: Apt) -> None:
    apt.put_indexes()
    _, manager = plan(apt, components=True)
    (apt.root / "lists/debian_bookworm_non-free_binary-amd64_Packages.lz4").unlink()
    apt.works = False
    with pytest.raises(VerificationError, match="http://deb.debian.org/debian bookworm with contrib and non-free"):
        manager.apply(lock_timeout=0)


OTHERS = [
    "E: Failed to fetch http://x.example.org/InRelease  Could not connect",
    "E: The repository 'http://deb.debian.org/debian bookworm-backports Release' does not have a Release file.",
    "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm-updates/InRelease  404  Not Found",
    f"W: Failed to fetch {SITE}-other/InRelease  Could not connect",
]


def test_another_repository_that_is_down_is_said(apt: Apt) -> None:
    """One of Debian's archive, too, whose backports are taken away some day."""
    apt.said = [*OTHERS, f"W: {SITE}/InRelease: Signature by key {FIRST} uses weak digest algorithm (SHA1)"]
    work, manager = plan(apt, components=True)
    manager.apply(lock_timeout=0)
    assert work.warnings == [f"apt-get update reports of another repository: {line}" for line in OTHERS]


@pytest.mark.parametrize(
    "line",
    [
        "E: The repository 'http://deb.debian.org/debian bookworm Release' is not signed.",
        "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  404  Not Found",
        "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/main/Contents.xz  Hash Sum mismatch",
    ],
)
def test_the_distributions_release_that_is_broken(apt: Apt, line: str) -> None:
    apt.said = [line]
    with pytest.raises(VerificationError, match="bookworm with contrib and non-free cannot be used: " + line[:9]):
        plan(apt, components=True)[1].apply(lock_timeout=0)


@pytest.mark.parametrize(
    "what", ["is expired (invalid since 3d 2h 1min 5s)", "is not valid yet (invalid for another 2h)"]
)
def test_a_repository_out_of_date_has_a_remedy_of_its_own(apt: Apt, what: str) -> None:
    line = f"E: Release file for {SITE}/InRelease {what}. Updates for this repository will not be applied."
    apt.said = [line]
    with pytest.raises(VerificationError) as failed:
        plan(apt)[1].apply(lock_timeout=0)
    assert f"cannot be used: {line.rstrip('.')}" in failed.value.message
    assert "Set the clock of the node if that is wrong" in failed.value.message
    assert "fingerprints" not in failed.value.message


def test_lock(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    held = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 23794 (apt-get)"
    apt.said, apt.works = [held], False
    before = tree(apt.root)
    with pytest.raises(BusyError) as busy:
        plan(apt)[1].apply(lock_timeout=0)
    assert "held by process 23794 (apt-get)" in busy.value.message
    assert "package_lock_timeout" in busy.value.message
    assert tree(apt.root) == before

    def release(_: float) -> None:
        apt.said, apt.works = [], True

    monkeypatch.setattr(common.time, "sleep", release)
    plan(apt)[1].apply(lock_timeout=60)
    assert tree(apt.root)[SOURCES] == ENTRY.encode()


def test_description() -> None:
    assert describe(b"deb x /\n") == "deb x /\n"
    assert describe(b"\xc6\x29\x06" + bytes(40)) == "OpenPGP key 6\n"
