"""A double of NVIDIA's archive server: manifests, archives, and archives that nobody should unpack."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.repositories.contents import Contents, Package, fill
from tests.repositories.packages import EPOCH, Libraries, file_bodies

PLATFORM = "linux-x86_64"
HOSTILE_VERSION = "1.0.0"

Member = tuple[tarfile.TarInfo, bytes]


def make_redist(contents: Contents, libraries: Libraries, directory: Path) -> None:
    sets = [name for rows in contents.data["redist"].values() for name in rows["sets"]]
    packages = [package for name in sets for package in contents.packages(name, "deb")]
    libraries.make(soname for package in packages for soname in package.libraries.values())
    for product, rows in contents.data["redist"].items():
        _make_product(contents, rows, libraries, directory / product)
    for row in contents.data["old_cudnn"]:
        packages = [package for package in contents.packages("cudnn8", "deb") if package.version == row["version"]]
        paths = fill(row["paths"], packages[0].values)
        path = directory / "cudnn" / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(_tar(_members(packages, paths, libraries)), mtime=0))
    make_hostile(directory / "hostile")


def _make_product(contents: Contents, rows: Mapping[str, Any], libraries: Libraries, directory: Path) -> None:
    releases: dict[tuple[str, ...], list[Package]] = {}
    for name in rows["sets"]:
        for package in contents.packages(name, "deb"):
            if not package.newer:
                releases.setdefault(tuple(package.values.values()), []).append(package)
    manifests: dict[str, dict[str, Any]] = {}
    for packages in releases.values():
        filled = fill(rows, packages[0].values)
        if filled["manifest"] in filled.get("without", []):
            continue
        manifest = manifests.setdefault(filled["manifest"], {"release_date": filled["date"]})
        for row in filled["components"]:
            chosen = [package for package in packages if package.name in row["packages"]]
            if chosen:
                _add_component(manifest, row, filled, chosen, libraries, directory)
    for version, manifest in manifests.items():
        _write_json(directory / f"redistrib_{version}.json", manifest)


def _add_component(
    manifest: dict[str, Any],
    row: Mapping[str, Any],
    product: Mapping[str, Any],
    packages: Sequence[Package],
    libraries: Libraries,
    directory: Path,
) -> None:
    name, version, variant = row["component"], row["version"], product.get("variant")
    stem = f"{name}-{PLATFORM}-{version}{'_' + variant if variant else ''}-archive"
    paths = {beginning: f"{stem}/{instead}" for beginning, instead in product["paths"].items()}
    body = lzma.compress(_tar(_members(packages, paths, libraries)), preset=0)
    entry = _publish(directory, f"{name}/{PLATFORM}/{stem}.tar.xz", body)
    component = manifest.setdefault(name, _component(name, version))
    if variant:
        component.setdefault(PLATFORM, {})[variant] = entry
    else:
        component[PLATFORM] = entry


def _component(name: str, version: str) -> dict[str, Any]:
    return {"name": f"double of {name}", "license": "none", "license_path": f"{name}/LICENSE.txt", "version": version}


def _publish(directory: Path, relative_path: str, body: bytes) -> dict[str, str]:
    path = directory / relative_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return {
        "relative_path": relative_path,
        "sha256": hashlib.sha256(body).hexdigest(),
        "md5": hashlib.md5(body).hexdigest(),
        "size": str(len(body)),
    }


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4) + "\n")


def _members(packages: Iterable[Package], paths: Mapping[str, str], libraries: Libraries) -> list[Member]:
    """The files of the packages that have a place in the archive, in order of their paths."""
    made: list[Member] = []
    for package in packages:
        made += [
            (_file(place, 0o755 if path in package.programs else 0o644), body)
            for path, body in file_bodies(package, libraries).items()
            if (place := _place(path, paths))
        ]
        made += [
            (_link(place, leads_to), b"")
            for path, leads_to in package.links.items()
            if "/" not in leads_to and (place := _place(path, paths))
        ]
    return sorted(made, key=lambda member: member[0].name)


def _place(path: str, paths: Mapping[str, str]) -> str | None:
    return next((new + path[len(old) :] for old, new in paths.items() if path.startswith(old)), None)


def _file(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = mode, EPOCH
    return info


def _link(name: str, leads_to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = _file(name, 0o777)
    info.type, info.linkname = kind, leads_to
    return info


def _special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = _file(name)
    info.type, info.devmajor, info.devminor = kind, 1, 3
    return info


def _tar(members: Sequence[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for info, body in members:
            if info.isreg():
                info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def make_hostile(directory: Path) -> None:
    """For each trick a manifest, redistrib_<trick>.json; each archive begins with a file that is as it should be."""
    for trick, members in hostile_members().items():
        name = f"{trick}-archive"
        good = [(_file(f"{name}/lib/libcudart.so.11.0"), b"good\n")]
        tricks = [(_renamed(info, name), body) for info, body in members]
        body = lzma.compress(_tar(good + tricks), preset=0)
        if trick == "truncated":
            # Random bytes, so that what is left is the beginning of the files and not all of them.
            body = body[: len(body) // 2]
        entry = _publish(directory, f"cuda_cudart/{PLATFORM}/{name}.tar.xz", body)
        if trick == "wrong_hash":
            entry["sha256"] = "0" * 64
        if trick == "wrong_size":
            entry["size"] = str(len(body) + 1)
        component = {**_component("cuda_cudart", HOSTILE_VERSION), PLATFORM: entry}
        _write_json(directory / f"redistrib_{trick}.json", {"release_date": "2026-01-01", "cuda_cudart": component})


def _renamed(info: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    info.name = info.name.replace("ROOT", name)
    info.linkname = info.linkname.replace("ROOT", name)
    return info


def hostile_members() -> dict[str, list[Member]]:
    """By trick: what the archive holds beside the good file; ROOT stands for its one folder."""
    evil = b"evil\n"
    incompressible = hashlib.shake_256(b"truncated").digest(1 << 16)
    return {
        "escape": [(_file("ROOT/../../escaped"), evil)],
        "absolute": [(_file("/tmp/repository-double-absolute"), evil)],
        "symlink_out": [(_link("ROOT/out", "../.."), b""), (_file("ROOT/out/escaped"), evil)],
        "symlink_absolute": [(_link("ROOT/out", "/tmp"), b""), (_file("ROOT/out/repository-double-symlink"), evil)],
        "symlink_dangling": [(_link("ROOT/lib/libcudart.so", "../../../etc/passwd"), b"")],
        "hardlink_out": [(_link("ROOT/passwd", "/etc/passwd", tarfile.LNKTYPE), b"")],
        "hardlink_through_symlink": [
            (_link("ROOT/out", "/etc"), b""),
            (_link("ROOT/passwd", "ROOT/out/passwd", tarfile.LNKTYPE), b""),
        ],
        "device": [(_special("ROOT/null", tarfile.CHRTYPE), b"")],
        "fifo": [(_special("ROOT/fifo", tarfile.FIFOTYPE), b"")],
        "setuid": [(_file("ROOT/bin/setuid", 0o4755), evil)],
        "duplicate": [(_file("ROOT/lib/libcudart.so.11.0"), evil)],
        "two_roots": [(_file("other/lib/libcudart.so.11.0"), evil)],
        "truncated": [(_file("ROOT/lib/libcudart.so.11.2.152"), incompressible)],
        "wrong_hash": [],
        "wrong_size": [],
    }
