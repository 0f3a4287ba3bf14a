"""Debian packages and RPMs made from rows: small, and the same bytes each time."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.repositories.contents import Package

# All that is built says that it was built then.
EPOCH = 1_700_000_000
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), "HOME": "/nonexistent"}

RELATION = re.compile(r"(?P<name>\S+)(?: \((?P<operator>\S+) (?P<version>\S+)\))?")


def run(*argv: str | Path, **options: object) -> str:
    """What the command wrote to its output; fails with what it said."""
    settings: dict[str, object] = {"env": ENVIRONMENT, "capture_output": True, "text": True, **options}
    result = subprocess.run([str(word) for word in argv], check=False, **settings)  # type: ignore[call-overload]
    if result.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, argv))}: ended with {result.returncode}\n{result.stdout}{result.stderr}"
        )
    output: str = result.stdout
    return output


class Libraries:
    """Shared objects with a given SONAME, each compiled once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def make(self, sonames: Iterable[str]) -> None:
        missing = sorted({soname for soname in sonames if not (self.directory / soname).exists()})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self._compile, missing))

    def body(self, soname: str) -> bytes:
        return (self.directory / soname).read_bytes()

    def _compile(self, soname: str) -> None:
        source = f'const char double_of[] = "{soname}";\n'
        # As small as it gets: this file is in a thousand packages.
        linker = [f"-Wl,-soname,{soname}", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"]
        target = self.directory / soname
        run("gcc", "-x", "c", "-", "-shared", "-nostdlib", "-fPIC", "-s", *linker, "-o", target, input=source)


def lay_files(root: Path, package: Package, libraries: Libraries) -> None:
    """Write the package's files below the root, as they are to be on a node."""
    for path, body in file_bodies(package, libraries).items():
        target = _below(root, path)
        target.write_bytes(body)
        target.chmod(0o755 if path in package.programs else 0o644)
    for path, leads_to in package.links.items():
        _below(root, path).symlink_to(leads_to)
    for path, size in package.zeros.items():
        with _below(root, path).open("wb") as file:
            file.truncate(size)


def file_bodies(package: Package, libraries: Libraries) -> dict[str, bytes]:
    texts = {**package.files, **package.programs}
    shared = {path: libraries.body(soname) for path, soname in package.libraries.items()}
    return {**{path: text.encode() for path, text in texts.items()}, **shared}


def _below(root: Path, path: str) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def build_debs(packages: Sequence[Package], libraries: Libraries, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    libraries.make(soname for package in packages for soname in package.libraries.values())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_build_deb, libraries=libraries, directory=directory), packages))


def deb_name(package: Package) -> str:
    return f"{package.name}_{package.version}_{_deb_architecture(package)}.deb"


def _deb_architecture(package: Package) -> str:
    return {"native": "amd64"}.get(package.architecture, package.architecture)


def _build_deb(package: Package, *, libraries: Libraries, directory: Path) -> None:
    fields = {
        "Package": package.name,
        "Version": package.version,
        "Architecture": _deb_architecture(package),
        "Maintainer": "cudatools <cudatools@example.invalid>",
        "Section": package.section,
        "Priority": "optional",
        **{kind.capitalize(): ", ".join(entries) for kind, entries in package.relations.items() if entries},
        "Description": package.summary,
    }
    with TemporaryDirectory() as temporary:
        root = Path(temporary, "root")
        control = root / "DEBIAN"
        control.mkdir(parents=True)
        root.chmod(0o755)
        lay_files(root, package, libraries)
        (control / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        for kind, text in package.scripts.items():
            (control / kind).write_text(f"#!/bin/sh\nset -e\n{text}")
            (control / kind).chmod(0o755)
        if package.libraries:
            (control / "triggers").write_text("activate-noawait ldconfig\n")
        configuration = sorted(path for path in package.files if path.startswith("/etc/"))
        if configuration:
            (control / "conffiles").write_text("".join(f"{path}\n" for path in configuration))
        run("dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", root, directory / deb_name(package))


def rpm_relation(relation: str) -> str:
    """A relation as RPM writes it: `a (>= 1-1) | b` is `(a >= 1-1 or b)`."""
    made = []
    for alternative in relation.split(" | "):
        match = RELATION.fullmatch(alternative)
        assert match, f"{alternative!r} is no relation: name, or name (operator version)"
        version = rpm_version(match["version"]) if match["version"] else ""
        made.append(f"{match['name']} {match['operator']} {version}" if version else match["name"])
    return made[0] if len(made) == 1 else f"({' or '.join(made)})"


def rpm_name(package: Package) -> str:
    architecture = "noarch" if package.architecture == "all" else "x86_64"
    return f"{package.name}-{rpm_version(package.version)}.{architecture}.rpm"


def rpm_version(version: str) -> str:
    # NVIDIA's own rule: 8.1.0.77-1+cuda11.2 is 8.1.0.77-1.cuda11.2 as an RPM.
    return version.replace("+", ".")


def build_rpms(packages: Sequence[Package], libraries: Libraries, directory: Path) -> None:
    """One spec for each group of packages: rpmbuild itself takes longer than what it builds."""
    directory.mkdir(parents=True, exist_ok=True)
    libraries.make(soname for package in packages for soname in package.libraries.values())
    groups: dict[tuple[str, ...], list[Package]] = {}
    for package in packages:
        groups.setdefault(tuple(package.values.values()), []).append(package)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_build_rpm_group, libraries=libraries, directory=directory), groups.values()))


def _build_rpm_group(packages: Sequence[Package], *, libraries: Libraries, directory: Path) -> None:
    with TemporaryDirectory() as temporary:
        root = Path(temporary, "files")
        root.mkdir()
        for package in packages:
            lay_files(root, package, libraries)
        spec = Path(temporary, "double.spec")
        spec.write_text(_spec(packages, root))
        macros: Mapping[str, str] = {
            "_topdir": f"{temporary}/rpmbuild",
            "_rpmdir": str(directory),
            "_rpmfilename": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
            "_binary_payload": "w1.gzdio",
            "_buildhost": "localhost",
            "_dbpath": f"{temporary}/rpmdb",
            "use_source_date_epoch_as_buildtime": "1",
            "clamp_mtime_to_source_date_epoch": "1",
        }
        defines = [word for key, value in macros.items() for word in ("--define", f"{key} {value}")]
        run("rpmbuild", "-bb", "--quiet", "--target", "x86_64-linux", *defines, spec)


def _spec(packages: Sequence[Package], root: Path) -> str:
    lines = [
        "%global debug_package %{nil}",
        "%global __os_install_post %{nil}",
        "%global _build_id_links none",
        *["Name: double", "Version: 1", "Release: 1", "Summary: none", "License: none", "AutoReqProv: no"],
        *["%description", "none", "%install", "mkdir -p %{buildroot}", f"cp -a {root}/. %{{buildroot}}"],
    ]
    tags = {"depends": "Requires", "recommends": "Recommends", "conflicts": "Conflicts", "provides": "Provides"}
    for package in packages:
        version, _, release = rpm_version(package.version).rpartition("-")
        lines += [f"%package -n {package.name}", f"Summary: {package.summary}", "AutoReqProv: no"]
        lines += [f"Version: {version}", f"Release: {release}"]
        lines += [f"Epoch: {package.epoch}"] if package.epoch else []
        lines += ["BuildArch: noarch"] if package.architecture == "all" else []
        for kind, tag in tags.items():
            lines += [f"{tag}: {rpm_relation(entry)}" for entry in package.relations[kind]]
        lines += [f"%description -n {package.name}", package.summary]
        for kind, section in {"postinst": "post", "prerm": "preun"}.items():
            if kind in package.scripts:
                # A script of the shell needs /bin/sh of some RPM: not there in an empty root, nor on a Debian that
                # stands for an EL host. RPM brings Lua itself.
                lua = f"if not os.execute([[set -e\n{package.scripts[kind]}]]) then error('{kind} failed') end"
                lines += [f"%{section} -n {package.name} -p <lua>", lua]
        owned = [*package.files, *package.programs, *package.links, *package.libraries, *package.zeros]
        lines += [f"%files -n {package.name}", "%defattr(-,root,root)", *owned]
    return "\n".join(lines) + "\n"
