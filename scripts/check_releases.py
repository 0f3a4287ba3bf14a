#!/usr/bin/env python3
"""Check releases.yml and cuda_wheels.yml against the wheels on a package index.

    scripts/check_releases.py                       every release
    scripts/check_releases.py --release 2.21.0      one of them

File lists come from the index's JSON, METADATA, build_info.py and the RUNPATH out of the wheels by HTTP range
requests: some MB of each wheel, never all of it. One line a difference; ends with 1 if there is any.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import json
import re
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402  # found by the line above
from tensorflow_stack.tables.rows import Release  # noqa: E402  # found by the line above

TABLES = REPOSITORY / "roles/tensorflow_release/files/tables"
PROJECTS = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu")
OLDEST_PYTHON = Version("3.6")  # the oldest that an environment is built for
# What TensorFlow opens to list a GPU and to compute on it, by directory below nvidia/.
OPENED_BY_TENSORFLOW = {"cublas", "cuda_runtime", "cudnn", "cufft", "cusolver", "cusparse"}

_Result = TypeVar("_Result")


# ---------------------------------------------------------------------------------------------- the index


def _retried(request: Callable[[], _Result]) -> _Result:
    for pause in (1, 4, 16):
        try:
            return request()
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise
        except OSError:
            pass
        time.sleep(pause)
    return request()


class HttpFile(io.RawIOBase):
    """A file behind HTTP that is read by ranges."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if end <= self._position:
            return 0
        data = _retried(functools.partial(self._range, self._position, end))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _range(self, start: int, end: int) -> bytes:
        request = urllib.request.Request(self._url, headers={"Range": f"bytes={start}-{end - 1}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            if response.status != 206:
                raise SystemExit(f"{self._url}: the server does not answer range requests (status {response.status})")
            data: bytes = response.read()
        return data


@dataclass(frozen=True)
class Wheel:
    """One Linux wheel of the index."""

    filename: str
    version: Version
    python: Version
    architecture: str
    url: str
    size: int
    yanked: bool

    def open(self) -> zipfile.ZipFile:
        # 128 KiB: the end of a wheel, where the directory is, comes with one or two requests.
        return zipfile.ZipFile(io.BufferedReader(HttpFile(self.url, self.size), 1 << 17))


class Index:
    """A package index with the JSON form of the simple API."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/"
        self._files: dict[str, list[dict[str, Any]]] = {}

    def files(self, project: str) -> list[dict[str, Any]]:
        if project not in self._files:
            url = urljoin(self._url, f"{project}/")
            request = urllib.request.Request(url, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
            with _retried(lambda: urllib.request.urlopen(request, timeout=60)) as response:
                files = json.load(response)["files"]
            self._files[project] = [{**file, "url": urljoin(url, file["url"])} for file in files]
        return self._files[project]

    def wheels(self, project: str) -> list[Wheel]:
        """The Linux wheels for CPython 3, oldest release and Python first."""
        found = []
        for file in self.files(project):
            try:
                _, version, _, tags = parse_wheel_filename(file["filename"])
            except InvalidWheelFilename:
                continue
            tag = next(iter(tags))
            platform = re.match(r"(?:many)?linux.*_(x86_64|aarch64)$", tag.platform)
            python = re.match(r"cp3(\d+)$", tag.interpreter)
            if platform and python:
                minor = Version(f"3.{python[1]}")
                yanked = bool(file.get("yanked"))
                found.append(Wheel(file["filename"], version, minor, platform[1], file["url"], file["size"], yanked))
        return sorted(found, key=lambda wheel: (wheel.version, wheel.python))

    def versions(self, project: str) -> list[Version]:
        """Versions with a wheel for this platform or any, oldest first."""
        found = set()
        for file in self.files(project):
            try:
                _, version, _, tags = parse_wheel_filename(file["filename"])
            except InvalidWheelFilename:
                continue
            if any("x86_64" in tag.platform and "linux" in tag.platform for tag in tags):
                found.add(version)
        return sorted(found)


# ---------------------------------------------------------------------------------------------- one wheel


def requirements(archive: zipfile.ZipFile) -> list[Requirement]:
    """Requires-Dist of a wheel."""
    name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
    headers = BytesHeaderParser().parsebytes(archive.read(name))
    return [Requirement(line) for line in headers.get_all("Requires-Dist", [])]


def extra(all_requirements: list[Requirement], name: str) -> dict[str, Requirement]:
    """What an extra adds, by project."""
    return {
        requirement.name: requirement
        for requirement in all_requirements
        if requirement.marker
        and requirement.marker.evaluate({"extra": name})
        and not requirement.marker.evaluate({"extra": ""})
    }


def build_info(archive: zipfile.ZipFile) -> dict[str, Any]:
    """The literals of TensorFlow's build_info.py: pairs in a dictionary since 2.3, assignments before.

    1.15 says `cuda_version_number` for what is called `cuda_version` later.
    """
    name = next(n for n in archive.namelist() if re.fullmatch(r"tensorflow(_core)?/python/platform/build_info.py", n))
    values: dict[str, Any] = {}
    for node in ast.walk(ast.parse(archive.read(name))):
        pairs: list[tuple[Any, Any]] = []
        if isinstance(node, ast.Assign):
            pairs = [(ast.Constant(target.id), node.value) for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2:
            pairs = [(node.elts[0], node.elts[1])]
        for key, value in pairs:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                try:
                    values.setdefault(key.value.removesuffix("_number"), ast.literal_eval(value))
                except ValueError:
                    continue
    return values


def nvidia_directories(archive: zipfile.ZipFile) -> set[str]:
    """The nvidia/*/lib directories in the RUNPATH of libtensorflow_framework, which opens CUDA's libraries."""
    name = next(n for n in archive.namelist() if re.fullmatch(r"tensorflow/libtensorflow_framework\.so\.\d+", n))
    window = b""
    with archive.open(name) as stream:
        while chunk := stream.read(1 << 20):
            # The longest RUNPATH seen has 2 KB; the window keeps one that two chunks share.
            window = window[-(1 << 14) :] + chunk
            if runpath := re.search(rb"\$ORIGIN[^\0]*\0", window):
                return {match.decode() for match in re.findall(rb"nvidia/(\w+)/lib", runpath[0])}
    return set()


# ------------------------------------------------------------------------------------------- comparisons


def check_release(tables: Tables, release: Release, index: Index) -> Iterator[str]:
    """What the table says of one release and the index does not."""
    by_project = {
        project: [wheel for wheel in index.wheels(project) if wheel.version == Version(release.version)]
        for project in PROJECTS
    }
    gpu_wheels = by_project[release.package]
    with_x86_64 = {p: [w for w in wheels if w.architecture == "x86_64"] for p, wheels in by_project.items()}
    present = {project for project, wheels in with_x86_64.items() if wheels}
    yield from _difference("packages", set(release.packages), present)
    for architecture, pythons in release.pythons.items():
        found = [str(w.python) for w in gpu_wheels if w.architecture == architecture and w.python >= OLDEST_PYTHON]
        yield from _difference(f"pythons of {architecture}", list(pythons), found)
    for wheel in (wheel for wheels in by_project.values() for wheel in wheels if wheel.yanked):
        yield f"{wheel.filename} is yanked"
    for project in sorted(present & set(release.packages)):
        with with_x86_64[project][-1].open() as archive:
            info = build_info(archive)
            yield from _difference(f"packages, {project}", release.packages[project], _kind(info))
            if project == release.package:
                yield from _check_build(release, info)
                yield from _check_cuda_wheels(tables, release, archive, index)
    yield from _difference("aarch64", release.aarch64, _aarch64(gpu_wheels))


def _kind(info: dict[str, Any]) -> str:
    return "gpu" if info["is_cuda_build"] else "cpu"


def _aarch64(wheels: list[Wheel]) -> str:
    wheels = [wheel for wheel in wheels if wheel.architecture == "aarch64"]
    if not wheels:
        return "none"
    with wheels[-1].open() as archive:
        if any(requirement.name == "tensorflow-cpu-aws" for requirement in requirements(archive)):
            return "cpu_stub"
        return _kind(build_info(archive))


def _check_build(release: Release, info: dict[str, Any]) -> Iterator[str]:
    code = info.get("cuda_compute_capabilities")
    yield from _difference("gpu_code", release.gpu_code, None if code is None else tuple(code))
    # The wheels give what the build was told: "10", "11.2" or "12.5.1"; the table CUDA's major and minor.
    for field, built in (("cuda", info["cuda_version"]), ("cudnn", info["cudnn_version"])):
        said = str(getattr(release, field)).split(".")
        common = min(len(said), len(str(built).split(".")))
        yield from _difference(field, ".".join(said[:common]), ".".join(str(built).split(".")[:common]))


def _check_cuda_wheels(tables: Tables, release: Release, archive: zipfile.ZipFile, index: Index) -> Iterator[str]:
    asked = extra(requirements(archive), "and-cuda")
    row = tables.cuda_wheels_for(release.version)
    if row is None:
        if asked:
            yield "has the extra and-cuda, and no row in cuda_wheels.yml"
        return
    rows = {requirement.name: requirement for requirement in map(Requirement, row.requirements)}
    if asked:
        yield from _difference("cuda_wheels", set(rows), {name for name in asked if not name.startswith("tensorrt")})
    for name, requirement in rows.items():
        versions = [version for version in index.versions(name) if version in requirement.specifier]
        if not versions:
            yield f"cuda_wheels: nothing on the index is {requirement}"
        outside = [version for version in versions if name in asked and version not in asked[name].specifier]
        if outside:
            yield f"cuda_wheels: {requirement} allows {outside[-1]}, the wheel wants {asked[name].specifier}"
        for field, prefix in (("cuda", "nvidia-cuda-runtime-"), ("cudnn", "nvidia-cudnn-")):
            if name.startswith(prefix) and versions:
                brings = f"{versions[-1].major}.{versions[-1].minor}"
                yield from _difference(f"cuda_wheels, {field}", getattr(row, field), brings)
    unreached = OPENED_BY_TENSORFLOW - nvidia_directories(archive)
    yield from _difference("cuda_wheels, link", row.link, bool(unreached))


def _difference(what: str, said: Any, found: Any) -> Iterator[str]:
    if said != found:
        yield f"{what}: the table says {_shown(said)}, found {_shown(found)}"


def _shown(value: Any) -> str:
    if isinstance(value, (set, list, tuple)):
        return ", ".join(sorted(value) if isinstance(value, set) else value) or "nothing"
    return str(value)


def unknown_releases(tables: Tables, index: Index) -> list[str]:
    """Final releases on the index between the table's oldest line and newer than it that the table lacks."""
    found = {wheel.version for wheel in index.wheels("tensorflow") if wheel.architecture == "x86_64"}
    covered = [v for v in found if v.release[:2] == (1, 15) or v >= Version("2.4")]
    return [str(v) for v in sorted(covered) if not v.is_prerelease and tables.release(str(v)) is None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", action="append", default=[], help="check this one alone; may be repeated")
    parser.add_argument("--index-url", default="https://pypi.org/simple", help="default: %(default)s")
    parser.add_argument("--tables", default=str(TABLES), help="directory of the tables")
    arguments = parser.parse_args()
    tables = load_tables(arguments.tables)
    unknown = [version for version in arguments.release if tables.release(version) is None]
    if unknown:
        parser.error(f"not in releases.yml: {', '.join(unknown)}")
    index = Index(arguments.index_url)
    differences = 0
    for version in [] if arguments.release else unknown_releases(tables, index):
        print(f"{version}: is on the index, and not in releases.yml")
        differences += 1
    for release in tables.releases:
        if arguments.release and release.version not in arguments.release:
            continue
        print(f"checking {release.version}", file=sys.stderr)
        for difference in check_release(tables, release, index):
            print(f"{release.version}: {difference}", flush=True)
            differences += 1
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
