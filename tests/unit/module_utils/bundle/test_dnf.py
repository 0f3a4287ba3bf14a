"""Which packages a bundle takes from lists of dnf; real lists are in integration/test_bundle_repositories.py."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from ansible.module_utils.tensorflow_stack.bundle import dnf
from ansible.module_utils.tensorflow_stack.bundle.dnf import Stream
from ansible.module_utils.tensorflow_stack.errors import RefusedError, StackError

NAMESPACES = (
    'xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" '
    'xmlns:repo="http://linux.duke.edu/metadata/repo"'
)
DIGEST = hashlib.sha256(b"").hexdigest()
FLAGS = {"=": "EQ", "<": "LT", "<=": "LE", ">": "GT", ">=": "GE"}


def split(version: str) -> str:
    epoch, _, rest = version.rpartition(":")
    number, _, release = rest.partition("-")
    return f'epoch="{epoch or 0}" ver="{number}"' + (f' rel="{release}"' if release else "")


def entries(kind: str, relations: Sequence[str]) -> str:
    rows = []
    for text in relations:
        name, operator, version = text.split() if text.count(" ") == 2 and text[0] != "(" else (text, "", "")
        versioned = f' flags="{FLAGS[operator]}" {split(version)}' if operator else ""
        rows.append(f"<rpm:entry name={quoteattr(name)}{versioned}/>")
    return f"<rpm:{kind}>{''.join(rows)}</rpm:{kind}>"


def rpm(
    name: str, version: str, *requires: str, provides: Sequence[str] = (), files: Sequence[str] = (), arch: str = ""
) -> str:
    arch = arch or "x86_64"
    path = f"{name}-{version.rpartition(':')[2]}.{arch}.rpm"
    return (
        f'<package type="rpm"><name>{name}</name><arch>{arch}</arch><version {split(version)}/>'
        f'<checksum type="sha256" pkgid="YES">{DIGEST}</checksum><size package="7"/><location href="{path}"/><format>'
        + entries("provides", [f"{name} = {version}", *provides])
        + entries("requires", requires)
        + "".join(f"<file>{file}</file>" for file in files)
        + "</format></package>"
    )


def read(*packages: str) -> list[dnf.IndexedRpm]:
    text = f"<metadata {NAMESPACES}>{''.join(packages)}</metadata>"
    return dnf.read_primary(text.encode(), "x86_64", what="primary.xml")


def choose(rows: Sequence[dnf.IndexedRpm], **part: Any) -> list[str]:
    known = {row.name for row in rows}
    stream = part.pop("stream", None)
    if stream:
        rows = dnf.show_of_stream(rows, STREAMS, stream)
    part = {"source": "nvidia_repo", "belongs": ["nvidia-*", "kmod-nvidia*"], **part}
    return [f"{row.name} {row.version}" for row in dnf.choose_packages(rows, "driver", part, known=known)]


def wanted(*names: str, version: str | None = None) -> list[dict[str, str | None]]:
    return [{"name": name, "version": version} for name in names]


def driver(version: str) -> list[str]:
    return [
        rpm("nvidia-driver", f"3:{version}-1", f"nvidia-libs = 3:{version}", "nvidia-kmod-common", "/bin/sh"),
        rpm("nvidia-libs", f"3:{version}-1", "egl-wayland", "libc.so.6()(64bit)", "rpmlib(X) <= 4.6-1"),
        rpm("nvidia-kmod-common", f"3:{version}-1", f"nvidia-kmod = 3:{version}", arch="noarch"),
        rpm("kmod-nvidia-dkms", f"3:{version}-1", "dkms", provides=[f"nvidia-kmod = 3:{version}"]),
        rpm("kmod-nvidia-open-dkms", f"3:{version}-1", "dkms", provides=[f"nvidia-kmod = 3:{version}"]),
    ]


DRIVERS = read(
    *driver("535.54.03"),
    *driver("535.309.01"),
    *driver("580.1"),
    rpm("egl-wayland", "1.1.9-1"),
    rpm("egl-wayland", "1.1.13-1"),
    rpm("egl-wayland", "1.1.14-1", arch="i686"),
)
STREAMS = [
    Stream("nvidia-driver", number, frozenset(row.artifact for row in DRIVERS if f":{number}." in row.version))
    for number in ("535", "580")
]


def test_a_driver_is_of_one_version_with_all_that_the_repository_has_of_what_it_needs() -> None:
    chosen = choose(DRIVERS, packages=wanted("nvidia-driver", "kmod-nvidia-dkms", version="535.*"), branch="535")
    names = ("kmod-nvidia-dkms", "nvidia-driver", "nvidia-kmod-common", "nvidia-libs")
    assert chosen == ["egl-wayland 1.1.13-1", *sorted(f"{name} 3:535.309.01-1" for name in names)]


def test_an_exact_version() -> None:
    chosen = choose(
        DRIVERS, packages=wanted("nvidia-driver", "kmod-nvidia-dkms", version="3:535.54.03-1"), branch="535"
    )
    assert {row.split()[1] for row in chosen} == {"3:535.54.03-1", "1.1.13-1"}


def test_of_what_several_packages_provide_all_are_taken() -> None:
    chosen = choose(DRIVERS, packages=wanted("nvidia-driver", version="580.*"), branch="580")
    assert "kmod-nvidia-dkms 3:580.1-1" in chosen
    assert "kmod-nvidia-open-dkms 3:580.1-1" in chosen


def test_a_stream_hides_other_versions() -> None:
    chosen = choose(
        DRIVERS, packages=wanted("nvidia-driver", "kmod-nvidia-dkms"), branch=None, stream="nvidia-driver:535"
    )
    assert "nvidia-driver 3:535.309.01-1" in chosen
    assert "egl-wayland 1.1.13-1" in chosen
    with pytest.raises(RefusedError, match=r"do not have nvidia-driver 580\.\*"):
        choose(DRIVERS, packages=wanted("nvidia-driver", version="580.*"), stream="nvidia-driver:535")


def test_a_name_of_the_stream_is_hidden_outside_of_modules() -> None:
    plain = read(rpm("nvidia-driver", "3:590.1-1"), rpm("nvidia-tools", "1-1"))
    shown = dnf.show_of_stream([*DRIVERS, *plain], STREAMS, "nvidia-driver:580")
    assert {row.version for row in shown if row.name == "nvidia-driver"} == {"3:580.1-1"}
    assert "nvidia-tools" in {row.name for row in shown}


def test_a_stream_that_the_repository_does_not_have_is_refused() -> None:
    with pytest.raises(StackError, match="no module stream nvidia-driver:525.* are: 535, 580. Request another branch"):
        dnf.show_of_stream(DRIVERS, STREAMS, "nvidia-driver:525")


def test_what_the_repository_lacks_of_its_own_packages_is_refused() -> None:
    rows = read(rpm("nvidia-driver", "3:535.2-1", "nvidia-libs = 3:535.2"), rpm("nvidia-libs", "3:535.1-1"))
    with pytest.raises(StackError, match=r"nvidia-driver 3:535.2-1 requires nvidia-libs = 3:535.2, which the repos"):
        choose(rows, packages=wanted("nvidia-driver"), branch="535")


def test_requested_packages_of_the_distribution_are_left_to_it() -> None:
    rows = read(rpm("nvidia-driver", "3:535.2-1"))
    assert choose(rows, packages=wanted("nvidia-driver", "dkms"), branch="535") == ["nvidia-driver 3:535.2-1"]
    assert choose(rows, packages=wanted("dkms")) == []


def test_files_and_dependencies_in_a_circle() -> None:
    rows = read(
        rpm("cuda-a", "1-1", "/usr/bin/b"),
        rpm("cuda-b", "1-1", "cuda-a", "(cuda-c if cuda-x)", files=["/usr/bin/b"]),
        rpm("cuda-c", "1-1"),
        rpm("cuda-x", "1-1"),
    )
    chosen = choose(rows, packages=wanted("cuda-a"), belongs=["cuda-*"])
    assert chosen == ["cuda-a 1-1", "cuda-b 1-1", "cuda-c 1-1"]


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("(a >= 1-1 or b)", ["a >= 1-1", "b"]),
        ("(a if b)", ["a"]),
        ("(a if b else c = 3:2)", ["a", "c = 3:2"]),
        ("((a if (b or c)) and lib.so.1()(64bit))", ["a", "lib.so.1()(64bit)"]),
        ("(a >= 1 with a < 2)", ["a >= 1", "a < 2"]),
        ("(a without b)", ["a"]),
    ],
)
def test_rich_dependencies(text: str, needed: list[str]) -> None:
    assert [str(one) for one in dnf.read_rich(text)] == needed


REPOMD = """<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="primary">
<checksum type="{kind}">{digest}</checksum><location href="{path}"/><size>12</size></data></repomd>"""


def test_lists() -> None:
    text = REPOMD.format(kind="sha256", digest=DIGEST, path="repodata/primary.xml.gz")
    assert dnf.read_repomd(text.encode(), what="x") == [dnf.ListFile("primary", "repodata/primary.xml.gz", DIGEST, 12)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (REPOMD.format(kind="sha", digest="0" * 40, path="repodata/p.xml"), "x has no sha256 of repodata/p.xml"),
        (REPOMD.format(kind="sha256", digest=DIGEST, path="../p.xml"), "x names '../p.xml', which is no place below"),
        ("<repomd", "x cannot be read"),
    ],
)
def test_lists_that_cannot_be_bundled(text: str, said: str) -> None:
    with pytest.raises(StackError, match=said):
        dnf.read_repomd(text.encode(), what="x")


def test_packages_that_cannot_be_bundled() -> None:
    outside = rpm("a", "1-1").replace('href="', 'href="/')
    with pytest.raises(StackError, match="names '/a-1-1.x86_64.rpm', which is no place below the repository"):
        read(outside)
    with pytest.raises(StackError, match="primary.xml cannot be read"):
        dnf.read_primary(b"<metadata><package>", "x86_64", what="primary.xml")
    with pytest.raises(StackError, match="modules.yaml cannot be read"):
        dnf.read_streams("document: modulemd", what="modules.yaml")
