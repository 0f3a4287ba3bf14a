"""NVIDIA's libraries on a node: the driver's libcuda, CUDA runtimes, cuDNN."""

from __future__ import annotations

import os
import re
from typing import Any, Iterable, NamedTuple

from ..records.libraries import COMPILER, OPENED
from .files import NodeFiles
from .loader import Loader
from .texts import (
    natural_order,
    parse_cuda_version_json,
    parse_cuda_version_txt,
    parse_cudart_header,
    parse_cudart_name,
    parse_cudnn_header,
    parse_cudnn_name,
)

# Where Windows lays its driver's libraries for a Linux that runs below it.
WSL_DIRECTORY = "/usr/lib/wsl/lib"

# Debian keeps the driver's libraries here and links the chosen ones into a loader directory.
UNLINKED_DIRECTORIES = ("/usr/lib/*/nvidia/current", "/usr/lib/nvidia/current", WSL_DIRECTORY)
# Given to a process by other means than the loader's configuration: Apptainer, NixOS, device plugins and images.
OTHER_DRIVER_DIRECTORIES = ("/.singularity.d/libs", "/run/opengl-driver/lib", "/usr/local/nvidia/lib64")

# What of a CUDA or cuDNN directory is told by name; which of it a release opens is in the tables.
CUDA_NAMES = r"lib(cudart|cublas|cublasLt|cufft|curand|cusolver|cusparse|nvJitLink)\.so\.\d+(\.\d+)?$"
CUDNN_NAMES = r"libcudnn\w*\.so\.\d+$"

CUDA_PREFIXES = ("/usr/local/cuda-*", "/usr/local/cuda", "/opt/nvidia/cuda-*", "/opt/cuda*")
CUDNN_PREFIXES = ("/usr/local/cudnn*", "/opt/nvidia/cudnn*", "/opt/cudnn*")
LIBRARY_SUBDIRECTORIES = ("lib64", "lib", "targets/*/lib")


def find_libcuda(loader: Loader) -> list[str]:
    """Every libcuda of this architecture, the one that the loader takes first."""
    files = loader.files
    linked: list[str] = []
    unlinked: list[str] = []
    patterns = (*UNLINKED_DIRECTORIES, *OTHER_DRIVER_DIRECTORIES)
    hidden = [path for pattern in patterns for path in files.glob(pattern, "driver.libcuda")]
    for directory in list(dict.fromkeys(loader.directories + hidden)):
        for path in loader.libraries(directory, r"libcuda\.so\.[0-9]", "driver.libcuda"):
            # The loader asks for libcuda.so.1 and looks in its directories only.
            taken = os.path.basename(path) == "libcuda.so.1" and directory in loader.directories
            (linked if taken else unlinked).append(files.resolve(path))
    if unlinked and not linked:
        files.add_unread("driver.libcuda", f"{unlinked[0]}: no libcuda.so.1 points to it")
    return list(dict.fromkeys(linked + unlinked))


def find_cuda(loader: Loader) -> list[dict[str, Any]]:
    files = loader.files
    rows: list[dict[str, Any]] = []
    seen = set()
    for prefix in _prefixes(files, CUDA_PREFIXES, "cuda"):
        directory, path = _find_cudart(loader, prefix)
        if path is None:
            files.add_unread("cuda", f"{prefix}: no libcudart for this architecture under it")
            continue
        library = files.resolve(path)
        version = _read_cuda_version(files, prefix, library)
        if version is None:
            files.add_unread("cuda", f"{prefix}: no version file, header or library name has the version")
            continue
        seen.add(library)
        rows.append({"version": version, "prefix": prefix, "library_directory": directory})
    for directory in loader.directories:
        # By names with a full version: a soname with no toolkit around it says none.
        for path in loader.libraries(directory, r"libcudart\.so\.[0-9]+\.[0-9]+\.[0-9]", "cuda"):
            library, version = files.resolve(path), parse_cudart_name(os.path.basename(path))
            if version is not None and library not in seen:
                seen.add(library)
                rows.append({"version": version, "prefix": _prefix_of(directory), "library_directory": directory})
    for row in rows:
        names = _names(loader, row["library_directory"], CUDA_NAMES, "cuda")
        row["libraries"] = names + _compiler(files, row["prefix"])
    return sorted(rows, key=lambda row: (natural_order(row["version"]), row["prefix"]))


def _names(loader: Loader, directory: str, pattern: str, fact: str) -> list[str]:
    """The names by which the loader would find libraries there."""
    return [os.path.basename(path) for path in loader.libraries(directory, pattern, fact)]


def _compiler(files: NodeFiles, prefix: str) -> list[str]:
    """What XLA needs of a toolkit, as far as it is there."""
    return [
        name for name, places in COMPILER.items() if any(files.is_file(f"{prefix}/{place}", "cuda") for place in places)
    ]


def _find_cudart(loader: Loader, prefix: str) -> tuple[str, str | None]:
    """The first CUDA runtime below a toolkit, and its directory."""
    for directory in _subdirectories(loader.files, prefix, "cuda"):
        for path in loader.libraries(directory, r"libcudart\.so\.[0-9]", "cuda"):
            return directory, path
    return "", None


def _read_cuda_version(files: NodeFiles, prefix: str, cudart: str) -> str | None:
    """By the toolkit's own file, else by the name of its runtime, else by its header."""
    for name, parse in (("version.json", parse_cuda_version_json), ("version.txt", parse_cuda_version_txt)):
        text = files.text(prefix + "/" + name, "cuda")
        if text is not None:
            version = parse(text)
            if version is not None:
                return version
            files.add_unread("cuda", f"{prefix}/{name}: names no version of CUDA")
    named = parse_cudart_name(os.path.basename(cudart))
    # Wheels and NVIDIA's component archives bring no version file, and wheels name the soname only.
    return named or parse_cudart_header(files.text(prefix + "/include/cuda_runtime_api.h", "cuda") or "")


def find_cudnn(loader: Loader, cuda: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where the loader looks, beside the CUDA runtimes that were found, and where cuDNN is laid by itself."""
    files = loader.files
    rows: dict[str, dict[str, Any]] = {}
    directories = loader.directories + [row["library_directory"] for row in cuda]
    for prefix in _prefixes(files, CUDNN_PREFIXES, "cudnn"):
        directories += _subdirectories(files, prefix, "cudnn")
    for directory in directories:
        for path in loader.libraries(directory, r"libcudnn\.so\.[0-9]", "cudnn"):
            library = files.resolve(path)
            if library in rows:
                continue
            version = parse_cudnn_name(os.path.basename(library)) or _read_cudnn_header(files, _prefix_of(directory))
            if version is None:
                files.add_unread("cudnn", f"{library}: neither its name nor a header next to it has the version")
                continue
            rows[library] = {
                "version": version,
                "library": library,
                "library_directory": directory,
                "libraries": _names(loader, directory, CUDNN_NAMES, "cudnn"),
            }
    return sorted(rows.values(), key=lambda row: (natural_order(row["version"]), row["library"]))


def _read_cudnn_header(files: NodeFiles, prefix: str) -> str | None:
    for include in ("include", "include/x86_64-linux-gnu", "include/aarch64-linux-gnu"):
        for name in ("cudnn_version.h", "cudnn.h"):
            version = parse_cudnn_header(files.text(f"{prefix}/{include}/{name}", "cudnn") or "")
            if version is not None:
                return version
    return None


def _prefixes(files: NodeFiles, patterns: Iterable[str], fact: str) -> list[str]:
    found = [path for pattern in patterns for path in files.glob(pattern, fact) if files.is_dir(path, fact)]
    return list(dict.fromkeys(files.resolve(path) for path in found))


def _subdirectories(files: NodeFiles, prefix: str, fact: str) -> list[str]:
    found = [path for sub in LIBRARY_SUBDIRECTORIES for path in files.glob(prefix + "/" + sub, fact)]
    return [path for path in found if files.is_dir(path, fact)]


def _prefix_of(library_directory: str) -> str:
    return re.sub(r"/(targets/[^/]+/)?lib(64)?(/[^/]+-linux-gnu)?$", "", library_directory) or "/usr"


# What TensorFlow opens of each; of cuDNN's parts, those that it opens itself are other ones in each release.


class Check(NamedTuple):
    version: str | None
    libraries: list[str]
    problems: list[str]


def check_libraries(loader: Loader, component: str, wanted: str, directories: list[str]) -> Check:
    """Are the libraries of CUDA or cuDNN at that version in these directories, or where the loader looks by itself?"""
    libraries, problems = set(), []
    by_itself = f"in the loader's directories ({', '.join(loader.directories)})"
    searched = f"neither in {', '.join(directories)} nor {by_itself}" if directories else f"not {by_itself}"
    directories = [*directories, *loader.directories]
    for name in OPENED[component]:
        found = [
            loader.files.resolve(path)
            for directory in directories
            for path in loader.libraries(directory, re.escape(name) + r"\.so\.[0-9]", component)
        ]
        libraries.update(found)
        if not found:
            problems.append(f"{name} is {searched}")
    cuda = find_cuda(loader)
    rows = cuda if component == "cuda" else find_cudnn(loader, cuda)
    places = {loader.files.resolve(directory) for directory in directories}
    versions = sorted(row["version"] for row in rows if loader.files.resolve(row["library_directory"]) in places)
    fitting = [version for version in versions if _fits(version, wanted)]
    if not fitting:
        problems.append(f"{component} is {', '.join(versions) or 'of no known version'} there, not {wanted}")
    version = next(iter(fitting + versions), None)
    unread = [row["reason"] for row in loader.files.unread if row["fact"] == component]
    return Check(version, sorted(libraries), problems + (unread if problems else []))


def _fits(found: str, wanted: str) -> bool:
    """As far as both say: files name fewer numbers than packages (8.1.0 and 8.1.0.77)."""
    pairs = list(zip(found.split("."), wanted.split(".")))
    return all(left == right for left, right in pairs)
