from __future__ import annotations

import pytest
from ansible.module_utils.tensorflow_stack.repositories.apt_sources import (
    disable,
    entries_of_distribution,
    further_components,
    is_at,
    place_of,
    read_entries,
)

URL = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
PLACES = {place_of(URL)}
REASON = "because"


def found(path: str, text: str) -> list[int]:
    """First lines of the entries at the place."""
    return [
        entry.start
        for entry in read_entries(path, text)
        if any(is_at(uri, suite, PLACES) for uri in entry.uris for suite in entry.suites)
    ]


@pytest.mark.parametrize(
    "line",
    [
        f"deb {URL} /",
        f"deb {URL} ./",
        f"deb {URL.rstrip('/')} /",
        f"deb {URL.replace('https', 'http')} /",
        f"deb  [trusted=yes]  {URL} / # cuda",
        f"deb [ arch=amd64 signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg ] {URL} /",
        f"  deb {URL} /",
        f"deb-src {URL} /",
        f"deb {URL.upper().replace('/COMPUTE/CUDA/REPOS/DEBIAN12/X86_64', '/compute/cuda/repos/debian12/x86_64')} /",
        "deb https://user:pass@developer.download.nvidia.com/compute/cuda/repos/ debian12/x86_64/",
        "deb https://developer.download.nvidia.com/compute//cuda/repos/debian12/ x86_64/",
    ],
)
def test_same_repository_however_written(line: str) -> None:
    text = f"# deb {URL} /\ndeb http://deb.debian.org/debian bookworm main\n{line}\n"
    assert found("a.list", text) == [2]
    [entry] = [entry for entry in read_entries("a.list", text) if entry.start == 2]
    disabled = disable(text, [entry], PLACES, REASON)
    assert found("a.list", disabled) == []
    assert disabled.splitlines()[2:] == ["# Disabled by tensorflow-gpu-stack: because", "# " + line]
    assert disabled.splitlines()[:2] == text.splitlines()[:2]


@pytest.mark.parametrize(
    "line",
    [
        f"#deb {URL} /",
        f"deb {URL.replace('debian12', 'debian11')} /",
        f"deb {URL} stable main",
        "deb file:///var/cuda-repo-debian12-12-5-local /",
        "deb cdrom:[Debian GNU/Linux 12]/ bookworm main",
        "debug",
    ],
)
def test_another_repository(line: str) -> None:
    assert found("a.list", line + "\n") == []


STANZAS = f"""\
# NVIDIA
Types: deb
URIs: {URL}
Suites: /
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDM=
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
uris: http://mirror.example.org/x/
  {URL}
suites: /

Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: {URL}
Suites: /
"""


def test_stanzas() -> None:
    entries = read_entries("a.sources", STANZAS)
    assert found("a.sources", STANZAS) == [0, 10]
    assert len(entries) == 3
    assert "BEGIN PGP" in entries[0].options["Signed-By"]
    disabled = disable(STANZAS, entries[:2], PLACES, REASON)
    assert found("a.sources", disabled) == []
    assert disabled == STANZAS.replace(
        " -----END PGP PUBLIC KEY BLOCK-----\n",
        " -----END PGP PUBLIC KEY BLOCK-----\n# Disabled by tensorflow-gpu-stack: because\nEnabled: no\n",
    ).replace(
        f"uris: http://mirror.example.org/x/\n  {URL}\nsuites: /\n",
        "suites: /\n# Disabled by tensorflow-gpu-stack: because\nURIs: http://mirror.example.org/x/\n",
    )


def test_disabling_replaces_what_says_enabled() -> None:
    text = f"Enabled: yes\nTypes: deb\nURIs: {URL}\nSuites: /\n"
    disabled = disable(text, read_entries("a.sources", text), PLACES, REASON)
    assert disabled.count("Enabled") == 1
    assert read_entries("a.sources", disabled) == []


# --- Components of the distribution -----------------------------------------------------------------

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEB822 = f"""\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By: {KEYRING}

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}
"""
ONE_LINE = """\
deb [arch=amd64,i386 check-valid-until=no] http://deb.debian.org/debian bullseye main contrib
deb http://deb.debian.org/debian-security bullseye-security main
deb-src http://deb.debian.org/debian bullseye main contrib non-free
"""


def added(path: str, text: str, codename: str, origins: dict[tuple[str, str], str] | None = None) -> str:
    entries = read_entries(path, text)
    own = entries_of_distribution(entries, "debian", codename, origins or {})
    assert own
    return further_components(own, entries, ["contrib", "non-free"], codename)


def test_components_of_stanzas() -> None:
    assert added("debian.sources", DEB822, "bookworm") == (
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm bookworm-updates\n"
        f"Components: contrib non-free\nSigned-By: {KEYRING}\n\n"
        "Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: bookworm-security\n"
        f"Components: contrib non-free\nSigned-By: {KEYRING}\n"
    )


def test_components_of_lines() -> None:
    assert added("sources.list", ONE_LINE, "bullseye") == (
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bullseye\nComponents: non-free\n"
        "Architectures: amd64 i386\nCheck-Valid-Until: no\n\n"
        "Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: bullseye-security\n"
        "Components: contrib non-free\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "deb http://deb.debian.org/debian bookworm main contrib non-free non-free-firmware\n",
        "deb http://deb.debian.org/debian bookworm main\ndeb http://deb.debian.org/debian bookworm contrib non-free\n",
        "deb http://deb.debian.org/debian stable main non-free contrib\n",
    ],
)
def test_nothing_where_they_are_there(text: str) -> None:
    assert added("sources.list", text, "bookworm") == ""


@pytest.mark.parametrize(
    ("options", "origins", "own"),
    [
        ("", {}, True),
        ("[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", {}, True),
        ("[signed-by=/etc/apt/keyrings/vendor.asc]", {}, False),
        ("[signed-by=/etc/apt/keyrings/mirror.asc]", {("http://x.example.org/d", "bookworm"): "Debian"}, True),
        ("", {("http://x.example.org/d", "bookworm"): "Vendor"}, False),
        ("", {("http://y.example.org/d", "bookworm"): "Vendor"}, True),
    ],
)
def test_whose_entry_it_is(options: str, origins: dict[tuple[str, str], str], own: bool) -> None:
    entries = read_entries("a.list", f"deb {options} http://x.example.org/d/ bookworm main\n")
    assert bool(entries_of_distribution(entries, "debian", "bookworm", origins)) is own
    assert entries_of_distribution(entries, "debian", "trixie", origins) == []


def test_ubuntu() -> None:
    text = (
        "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu/\nSuites: noble noble-updates noble-backports\n"
        "Components: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n"
    )
    entries = read_entries("ubuntu.sources", text)
    own = entries_of_distribution(entries, "ubuntu", "noble", {})
    assert further_components(own, entries, ["restricted"], "noble") == text.replace(" noble-backports", "").replace(
        "main universe", "restricted"
    )
    assert entries_of_distribution(entries, "debian", "noble", {}) == []
