"""CUDA and cuDNN of one release on one node: which version of each, and where it comes from. Pure.

A source fits with the CUDA that the release was built with or, from CUDA 11.1 on, with a newer one of the same major:
their libraries keep their sonames (11.0 has libcusolver.so.10, later ones .11), and NVIDIA promises that what was built
with the older one runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from packaging.version import Version

from .stack import Findings, Library, Package, Policy
from .tables import Redist, Release, Tables, rows_for

_COMPATIBLE_FROM = Version("11.1")
_CUDA_SOURCES = ("found", "wheels", "nvidia_repo", "distro", "redist")
_CUDNN_SOURCES = ("found", "wheels", "nvidia_repo", "redist")
_NEED_ROOT = ("nvidia_repo", "distro", "redist")
# Where the cuDNN comes from that belongs to a CUDA; the distribution has none that can be relied on.
_OWN_CUDNN = {"distro": "wheels"}
# Where the loader looks by itself, and where much else lies that is not to be linked.
_LOADER_DIRECTORIES = ("/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib")

_Found = tuple[Library | None, str]  # the library, or why there is none
_FindCuda = Callable[[Tables, Release, dict[str, Any]], _Found]
_FindCudnn = Callable[[Tables, Release, dict[str, Any], Library], _Found]


def resolve_cuda(
    tables: Tables, release: Release, node: dict[str, Any], policy: Policy, findings: Findings
) -> tuple[Library, Library] | None:
    """CUDA and the cuDNN beside it; None where there is none, and the refusal is among the findings."""
    reasons: list[str] = []
    for cuda_source, cudnn_source in _pairs(node, policy):
        cuda, why_not = _find_cuda(cuda_source, tables, release, node)
        cudnn = None
        if cuda:
            cudnn, why_not = _find_cudnn(cudnn_source, tables, release, node, cuda)
        if cuda and cudnn:
            if cuda.source != "wheels" and cuda.version != release.cuda:
                findings.warnings.append(
                    f"TensorFlow {release.version} was built with CUDA {release.cuda} and is given the newer "
                    f"{cuda.version} ({cuda.source}) of the same major release, which NVIDIA promises to be compatible."
                )
            return cuda, cudnn
        reasons.append(why_not)
    findings.refuse(
        "cuda",
        found="; ".join(dict.fromkeys(reasons)),
        wanted=f"CUDA {release.cuda} and cuDNN {release.cudnn} for TensorFlow {release.version}",
        set=_what_to_set(node, policy),
    )
    return None


def _what_to_set(node: dict[str, Any], policy: Policy) -> str:
    is_auto = (policy.cuda_source, policy.cudnn_source) == ("auto", "auto")
    otherwise = "tensorflow_gpu to none for a CPU environment" if is_auto else "cuda_source and cudnn_source to auto"
    as_root = "" if node["user"]["uid"] == 0 else "run as root, "
    return f"Install them beside what is there and run again, {as_root}or set {otherwise}."


def _pairs(node: dict[str, Any], policy: Policy) -> list[tuple[str, str]]:
    """Sources of CUDA and cuDNN, best first. Left to itself, it takes both from one place where that is possible."""
    managed: dict[str, str] = {component: record["source"] for component, record in node["managed"].items()}

    def sources(component: str, asked: str, all_of_them: tuple[str, ...], own: str = "") -> list[str]:
        if asked != "auto":
            return [asked]
        first = [source for source in (managed.get(component, ""), own) if source in all_of_them]
        return list(dict.fromkeys([*first, *all_of_them]))

    pairs = [
        (cuda, cudnn)
        for cuda in sources("cuda", policy.cuda_source, _CUDA_SOURCES)
        for cudnn in sources("cudnn", policy.cudnn_source, _CUDNN_SOURCES, _OWN_CUDNN.get(cuda, cuda))
    ]
    if (policy.cuda_source, policy.cudnn_source) != ("auto", "auto"):
        return pairs

    def is_mixed(pair: tuple[str, str]) -> bool:
        cuda, cudnn = pair
        return managed.get("cuda") != cuda and managed.get("cudnn") != cudnn and _OWN_CUDNN.get(cuda, cuda) != cudnn

    return sorted(pairs, key=is_mixed)


def is_compatible(version: str, built_with: str) -> bool:
    """May a release that was built with one CUDA be given this one?"""
    given, wanted = Version(version), Version(built_with)
    return given == wanted or (given.major == wanted.major and given > wanted >= _COMPATIBLE_FROM)


def _find_cuda(source: str, tables: Tables, release: Release, node: dict[str, Any]) -> _Found:
    if source != "wheels" and release.cpu_package != release.package:
        return None, f"a CUDA of the node cannot be used, there are no locks of {release.package} without CUDA"
    if source in _NEED_ROOT and node["user"]["uid"] != 0:
        return None, f"{node['user']['name']} is not root, who can install it"
    find: dict[str, _FindCuda] = {
        "found": _found_cuda,
        "wheels": _wheel_cuda,
        "nvidia_repo": lambda *known: _packaged_cuda("nvidia_repo", *known),
        "distro": _distro_cuda,
        "redist": _redist_cuda,
    }
    return find[source](tables, release, node)


def _find_cudnn(source: str, tables: Tables, release: Release, node: dict[str, Any], cuda: Library) -> _Found:
    if cuda.source == "wheels" and source != "wheels":
        return None, "the lock that brings CUDA brings its own cuDNN"
    if source in _NEED_ROOT and node["user"]["uid"] != 0:
        return None, f"{node['user']['name']} is not root, who can install it"
    find: dict[str, _FindCudnn] = {
        "found": _found_cudnn,
        "wheels": _wheel_cudnn,
        "nvidia_repo": _packaged_cudnn,
        "redist": _redist_cudnn,
    }
    return find[source](tables, release, node, cuda)


def _best(versions: Iterable[str], release: Release) -> Iterator[str]:
    """The compatible ones, nearest to what the release was built with first."""
    return iter(sorted((v for v in set(versions) if is_compatible(v, release.cuda)), key=Version))


def _to_link(directory: str) -> tuple[str, ...]:
    return () if directory in _LOADER_DIRECTORIES else (directory,)


def _packages(rows: Iterable[str], **words: str) -> tuple[Package, ...]:
    named = (row.format(**words).partition("=") for row in rows)
    return tuple(Package(name, version or None) for name, _, version in named)


# -------------------------------------------------------------------------------------------------- CUDA


def _found_cuda(tables: Tables, release: Release, node: dict[str, Any]) -> _Found:
    version = next(_best((row["version"] for row in node["cuda"]), release), None)
    if version is None:
        return None, _what_the_node_has(node)
    row = next(row for row in node["cuda"] if row["version"] == version)
    return Library(version, "found", _to_link(row["library_directory"]), prefix=row["prefix"], is_there=True), ""


def _what_the_node_has(node: dict[str, Any]) -> str:
    there = [f"CUDA {row['version']}" for row in node["cuda"]] + [f"cuDNN {row['version']}" for row in node["cudnn"]]
    return f"the node has {', '.join(there) or 'neither'}"


def _wheel_cuda(tables: Tables, release: Release, node: dict[str, Any]) -> _Found:
    row = tables.cuda_wheels_for(release.version)
    if row is None:
        return None, f"there are no wheels of CUDA {release.cuda}"
    if row.architecture != node["architecture"]:
        return None, f"the CUDA wheels for it exist for {row.architecture} alone"
    return Library(row.cuda, "wheels", ("nvidia/*/lib",) if row.link else ()), ""


def _distro_cuda(tables: Tables, release: Release, node: dict[str, Any]) -> _Found:
    cuda, why_not = _packaged_cuda("distro", tables, release, node)
    libcuda = node["driver"]["libcuda"]
    # The distribution's toolkit requires its own libcuda1; its packages lay the driver's libraries in such a directory.
    if cuda and not cuda.is_there and libcuda and "driver" not in node["managed"] and "/nvidia/" not in libcuda:
        return None, f"the distribution's CUDA brings the distribution's libcuda, beside {libcuda} of another origin"
    return cuda, why_not


def _packaged_cuda(origin: str, tables: Tables, release: Release, node: dict[str, Any]) -> _Found:
    rows = [row for row in rows_for(tables.cuda_packages, node["os"]) if row.origin == origin]
    known = {cuda: row for row in rows for cuda in row.cuda}
    version = next(_best(known, release), None)
    if version is None:
        has = f"CUDA {', '.join(known)}" if known else "no CUDA that is known"
        return None, f"{origin} has {has} here"
    row = known[version]
    words = {"cuda": version, "dashed": version.replace(".", "-")}
    directory = row.library_directory.format(**words)
    return Library(
        version,
        origin,
        _to_link(directory),
        prefix=row.prefix.format(**words),
        packages=_packages(row.packages, **words),
        belongs=tuple(pattern.format(**words) for pattern in row.belongs),
        is_there=_has_cuda(node, version, directory),
    ), ""


def _redist_cuda(tables: Tables, release: Release, node: dict[str, Any]) -> _Found:
    known = {row.cuda: row for row in tables.redist if row.component == "cuda"}
    version = next(_best(known, release), None)
    if version is None:
        return None, f"redist has CUDA {', '.join(known)}"
    row = known[version]
    return _archives(row, version, is_there=_has_cuda(node, version, row.library_directory)), ""


def _archives(row: Redist, version: str, *, is_there: bool) -> Library:
    return Library(
        version,
        "redist",
        (row.library_directory,),
        prefix=row.prefix,
        archives=row.archives,
        is_there=is_there,
    )


def _has_cuda(node: dict[str, Any], version: str, directory: str) -> bool:
    return any((row["version"], row["library_directory"]) == (version, directory) for row in node["cuda"])


# ------------------------------------------------------------------------------------------------- cuDNN


def _fits(version: str, release: Release) -> bool:
    floor = Version(release.cudnn_floor)
    return Version(version).major == floor.major and Version(version) >= floor


def _found_cudnn(tables: Tables, release: Release, node: dict[str, Any], cuda: Library) -> _Found:
    for row in node["cudnn"]:
        if _fits(row["version"], release) and _built_for(row) in (None, Version(cuda.version).major):
            return Library(row["version"], "found", _to_link(row["library_directory"]), is_there=True), ""
    return None, _what_the_node_has(node)


def _built_for(row: dict[str, Any]) -> int | None:
    """The major release of CUDA that a cuDNN is built for, as far as its place tells; the file does not."""
    named = re.search(r"/cuda-?(\d+)|-cuda(\d+)", row["library"])
    return int(named.group(1) or named.group(2)) if named else None


def _wheel_cudnn(tables: Tables, release: Release, node: dict[str, Any], cuda: Library) -> _Found:
    row = tables.cuda_wheels_for(release.version)
    if row is None or row.architecture != node["architecture"]:
        return None, f"there are no wheels of cuDNN for TensorFlow {release.version}"
    if cuda.source == "wheels":
        return Library(row.cudnn, "wheels"), ""
    if Version(row.cuda).major != Version(cuda.version).major:
        return None, f"the wheel of cuDNN is for CUDA {row.cuda}, not {cuda.version}"
    return Library(row.cudnn, "wheels", ("nvidia/cudnn/lib",)), ""


def _packaged_cudnn(tables: Tables, release: Release, node: dict[str, Any], cuda: Library) -> _Found:
    major = str(Version(cuda.version).major)
    rows = [row for row in rows_for(tables.cudnn_packages, node["os"]) if row.cuda == major]
    row = next((row for row in rows if _fits(row.cudnn, release)), None)
    if row is None:
        known = ", ".join(row.cudnn for row in rows)
        return None, f"nvidia_repo has {f'cuDNN {known}' if known else 'no cuDNN that is known'} for CUDA {major} here"
    return Library(
        row.cudnn,
        "nvidia_repo",
        packages=_packages(row.packages),
        belongs=row.belongs,
        # In the loader's directory, so there can be one only, whatever CUDA it is for.
        is_there=_has_cudnn(node, row.cudnn, _LOADER_DIRECTORIES),
    ), ""


def _redist_cudnn(tables: Tables, release: Release, node: dict[str, Any], cuda: Library) -> _Found:
    major = str(Version(cuda.version).major)
    rows = [row for row in tables.redist if (row.component, row.cuda) == ("cudnn", major)]
    row = next((row for row in rows if _fits(row.version, release)), None)
    if row is None:
        return None, f"redist has cuDNN {', '.join(row.version for row in rows) or '(none)'} for CUDA {major}"
    return _archives(row, row.version, is_there=_has_cudnn(node, row.version, (row.library_directory,))), ""


def _has_cudnn(node: dict[str, Any], version: str, directories: tuple[str, ...]) -> bool:
    return any(
        Version(row["version"]).release[:3] == Version(version).release[:3] and row["library_directory"] in directories
        for row in node["cudnn"]
    )
