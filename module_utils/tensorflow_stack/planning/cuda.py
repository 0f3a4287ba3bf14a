"""CUDA and cuDNN of one release on one node: which version of each, and where it comes from. Pure.

A source fits with a CUDA that the release can be given (`is_compatible`), that knows the GPUs of the node, and that has
every library which the release opens. The first that fits is taken; what was nearer and did not fit is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.version import Version

from ..records.libraries import LOADER_DIRECTORIES
from ..tables.load import Tables, rows_for
from ..tables.rows import Redist, Release
from .gpus import GpuModel, is_compatible
from .node import NodeFacts, NodeLibrary
from .node_kind import why_not_installed
from .stack import Findings, Library, Package, Policy

_CUDA_SOURCES = ("found", "wheels", "nvidia_repo", "distro", "redist")
_CUDNN_SOURCES = ("found", "wheels", "nvidia_repo", "redist")
# Where the cuDNN comes from that belongs to a CUDA; the distribution has none that can be relied on.
_OWN_CUDNN = {"distro": "wheels"}


@dataclass(frozen=True)
class _Search:
    """What a CUDA is looked for, and what came near."""

    tables: Tables
    release: Release
    node: NodeFacts
    models: tuple[GpuModel, ...]
    needs_own_code: bool = True  # CUDA has to be compiled for these GPUs, not for older ones of their major
    reasons: list[str] = field(default_factory=list)  # why a source has none
    passed_over: list[str] = field(default_factory=list)  # of the right version, and not fit for this node

    def anew(self, **changes: Any) -> _Search:
        """The same search, nothing found yet."""
        return replace(self, **{"reasons": [], "passed_over": [], **changes})

    def why_not_cuda(self, version: str) -> str | None:
        limits = (
            (model.label, model.limit_of_cuda(version, needs_own_code=self.needs_own_code)) for model in self.models
        )
        return next((f"{label} {limit}" for label, limit in limits if limit), None)

    def why_not_cudnn(self, version: str) -> str | None:
        limits = ((model.label, model.limit_of_cudnn(version)) for model in self.models)
        return next((f"{label} {limit}" for label, limit in limits if limit), None)

    def missing(self, component: str, row: NodeLibrary) -> str | None:
        """What of a component the release opens and a directory lacks."""
        missing = [name for name in self.tables.opened_by(self.release.version, component) if name not in row.names]
        return f"it has no {', '.join(missing)}" if missing else None


_Found = tuple[Library | None, str]  # the library, or why there is none
_FindCuda = Callable[[_Search], _Found]
_FindCudnn = Callable[[_Search, Library], _Found]


def resolve_cuda(
    tables: Tables,
    release: Release,
    node: NodeFacts,
    models: tuple[GpuModel, ...],
    policy: Policy,
    findings: Findings,
) -> tuple[Library, Library] | None:
    """CUDA and the cuDNN beside it; None where there is none, and the refusal is among the findings."""
    search = _Search(tables, release, node, models)
    found = _first(search, policy)
    if found is None and _first(search.anew(), _left_to_itself(policy)) is None:
        # None anywhere that is compiled for these GPUs. Code for an older one of the same major runs there as well.
        second = search.anew(needs_own_code=False)
        found = _first(second, policy)
        search = second if found else search
    if found:
        if policy.cuda_source == "auto" and found[0].source == "wheels" and not search.passed_over:
            search.passed_over.extend(_without_cudnn(search.anew()))
        _warn(search, found[0], findings)
    else:
        findings.refuse(
            "cuda",
            found="; ".join(dict.fromkeys(search.reasons)),
            wanted=_what_is_wanted(search),
            set=_what_to_set(search, policy),
        )
    return found


def _warn(search: _Search, cuda: Library, findings: Findings) -> None:
    findings.warnings.extend(f"Passed over: {reason}." for reason in dict.fromkeys(search.passed_over))
    for model in search.models:
        limit = model.limit_of_cuda(cuda.version)
        if limit:
            findings.warnings.append(
                f"{model.label} {limit} for code of its own; with {cuda.version} it runs what was compiled for an "
                "older GPU of its major."
            )
    if cuda.source != "wheels" and cuda.version != search.release.cuda:
        findings.warnings.append(
            f"TensorFlow {search.release.version} was built with CUDA {search.release.cuda} and is given the newer "
            f"{cuda.version} ({cuda.source}) of the same major release, which NVIDIA promises to be compatible."
        )


def _without_cudnn(search: _Search) -> list[str]:
    """Of a CUDA on the node that fits and is of no use, because no cuDNN there fits."""
    cuda, _ = _found_cuda(search)
    cudnn, there = _found_cudnn(search, cuda) if cuda else (None, "")
    return [f"CUDA {cuda.version}: no cuDNN {search.release.cudnn} for it, {there}"] if cuda and not cudnn else []


def _left_to_itself(policy: Policy) -> Policy:
    return replace(policy, cuda_source="auto", cudnn_source="auto")


def _first(search: _Search, policy: Policy) -> tuple[Library, Library] | None:
    for cuda_source, cudnn_source in _pairs(search.node, policy):
        cuda, why_not = _find_cuda(cuda_source, search)
        cudnn = None
        if cuda:
            cudnn, why_not = _find_cudnn(cudnn_source, search, cuda)
        if cuda and cudnn:
            return cuda, replace(cudnn, floor=search.release.cudnn_floor)
        search.reasons.append(why_not)
    return None


def _what_is_wanted(search: _Search) -> str:
    release, cuda = search.release, search.release.cuda
    if search.tables.cuda_driver(cuda).takes_newer:
        oldest = max([cuda, *(model.chip.first_cuda for model in search.models)], key=Version)
        cuda = f"{oldest} or a newer {Version(oldest).major}.x"
    return f"CUDA {cuda} and cuDNN {release.cudnn} for TensorFlow {release.version}"


def _what_to_set(search: _Search, policy: Policy) -> str:
    as_root = "" if search.node.is_root else "run as root, "
    asked = (policy.cuda_source, policy.cudnn_source)
    found = _first(search.anew(), _left_to_itself(policy))
    # The sources that would do, in place of those that were asked for.
    others = [
        f"{name.lower()}_source to {library.source} ({name} {library.version})"
        for name, source, library in zip(("CUDA", "cuDNN"), asked, found or ())
        if source not in ("auto", library.source)
    ]
    if asked == ("auto", "auto"):
        others = ["tensorflow_gpu to none for a CPU environment"]
    instead = " and ".join(others) or "cuda_source and cudnn_source to auto"
    return f"Install them next to the existing ones and run again, {as_root}or set {instead}."


def _pairs(node: NodeFacts, policy: Policy) -> list[tuple[str, str]]:
    """Sources of CUDA and cuDNN, best first. Left to itself, it takes both from one place where that is possible."""
    managed = {component: record.source for component, record in node.managed.items()}

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


def _find_cuda(source: str, search: _Search) -> _Found:
    why_not = why_not_installed(search.tables, search.node, source)
    if why_not:
        return None, why_not
    find: dict[str, _FindCuda] = {
        "found": _found_cuda,
        "wheels": _wheel_cuda,
        "nvidia_repo": lambda search: _packaged_cuda("nvidia_repo", search),
        "distro": _distro_cuda,
        "redist": _redist_cuda,
    }
    return find[source](search)


def _find_cudnn(source: str, search: _Search, cuda: Library) -> _Found:
    if cuda.source == "wheels" and source != "wheels":
        return None, "the lock with CUDA includes cuDNN"
    why_not = why_not_installed(search.tables, search.node, source)
    if why_not:
        return None, why_not
    find: dict[str, _FindCudnn] = {
        "found": _found_cudnn,
        "wheels": _wheel_cudnn,
        "nvidia_repo": _packaged_cudnn,
        "redist": _redist_cudnn,
    }
    return find[source](search, cuda)


def _compatible(versions: Iterable[str], search: _Search) -> list[str]:
    """Nearest to what the release was built with first."""
    built_with = search.release.cuda
    return sorted((v for v in set(versions) if is_compatible(search.tables, v, built_with)), key=Version)


def _best(versions: Iterable[str], where: str, search: _Search) -> tuple[str | None, str]:
    """The nearest that knows the GPUs, else why none does; both empty where none is compatible."""
    reasons = []
    for version in _compatible(versions, search):
        reason = search.why_not_cuda(version)
        if reason is None:
            return version, ""
        reasons.append(f"CUDA {version} ({where}): {reason}")
    search.passed_over.extend(reasons)
    return None, "; ".join(reasons)


def _to_link(directory: str) -> tuple[str, ...]:
    """None of what the loader finds by itself, with much beside it that is not to be linked."""
    return () if directory in LOADER_DIRECTORIES else (directory,)


def _packages(rows: Iterable[str], **words: str) -> tuple[Package, ...]:
    named = (row.format(**words).partition("=") for row in rows)
    return tuple(Package(name, version or None) for name, _, version in named)


# -------------------------------------------------------------------------------------------------- CUDA


def _found_cuda(search: _Search) -> _Found:
    reasons = []
    for version in _compatible((row.version for row in search.node.cuda), search):
        for row in (row for row in search.node.cuda if row.version == version):
            reason = search.missing("cuda", row) or search.why_not_cuda(version)
            if reason is None:
                directories = _to_link(row.directory)
                return Library(version, "found", directories, prefix=row.prefix, is_there=True), ""
            reason = f"CUDA {version} on the node, in {row.directory}: {reason}"
            reasons.append(reason)
            search.passed_over.append(reason)
    return None, "; ".join(reasons) or _what_the_node_has(search.node)


def _what_the_node_has(node: NodeFacts) -> str:
    there = [f"CUDA {row.version}" for row in node.cuda] + [f"cuDNN {row.version}" for row in node.cudnn]
    return f"the node has {', '.join(there) or 'neither'}"


def _wheel_cuda(search: _Search) -> _Found:
    row = search.tables.cuda_wheels_for(search.release.version)
    if row is None:
        return None, f"there are no wheels of CUDA {search.release.cuda}"
    if row.architecture != search.node.architecture:
        return None, f"its CUDA wheels exist only for {row.architecture}"
    version, why_not = _best([row.cuda], "wheels", search)
    return (Library(version, "wheels", ("nvidia/*/lib",) if row.link else ()) if version else None), why_not


def _distro_cuda(search: _Search) -> _Found:
    cuda, why_not = _packaged_cuda("distro", search)
    libcuda = search.node.driver.libcuda
    # The distribution's toolkit requires its own libcuda1; its packages lay the driver's libraries in such a directory.
    is_others = libcuda and "driver" not in search.node.managed and "/nvidia/" not in libcuda
    if cuda and not cuda.is_there and is_others:
        return (
            None,
            f"the distribution's CUDA would install the distribution's libcuda, but {libcuda} has another origin",
        )
    return cuda, why_not


def _packaged_cuda(origin: str, search: _Search) -> _Found:
    node = search.node
    rows = [row for row in rows_for(search.tables.cuda_packages, node.os) if row.origin == origin]
    known = {cuda: row for row in rows for cuda in row.cuda}
    version, why_not = _best(known, origin, search)
    if version is None:
        has = f"CUDA {', '.join(known)}" if known else "no known CUDA"
        return None, why_not or f"{origin} has {has} here"
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
        is_there=node.has_cuda(version, directory),
    ), ""


def _redist_cuda(search: _Search) -> _Found:
    known = {row.cuda: row for row in search.tables.redist if row.component == "cuda"}
    version, why_not = _best(known, "redist", search)
    if version is None:
        return None, why_not or f"redist has CUDA {', '.join(known)}"
    row = known[version]
    return _archives(row, version, search, is_there=search.node.has_cuda(version, row.library_directory)), ""


def _archives(row: Redist, version: str, search: _Search, *, is_there: bool) -> Library:
    return Library(
        version,
        "redist",
        (row.library_directory,),
        prefix=row.prefix,
        archives=row.archives,
        url=search.tables.addresses["redist"],
        is_there=is_there,
    )


# ------------------------------------------------------------------------------------------------- cuDNN


def _fits(version: str, release: Release) -> bool:
    floor = Version(release.cudnn_floor)
    return Version(version).major == floor.major and Version(version) >= floor


def _found_cudnn(search: _Search, cuda: Library) -> _Found:
    reasons = []
    for row in search.node.cudnn:
        if not _fits(row.version, search.release) or _built_for(row) not in (None, Version(cuda.version).major):
            continue
        reason = search.missing("cudnn", row) or search.why_not_cudnn(row.version)
        if reason is None:
            return Library(row.version, "found", _to_link(row.directory), is_there=True), ""
        reasons.append(f"cuDNN {row.version} on the node, in {row.directory}: {reason}")
    search.passed_over.extend(reasons)
    return None, "; ".join(reasons) or _what_the_node_has(search.node)


def _built_for(row: NodeLibrary) -> int | None:
    """The major release of CUDA that a cuDNN is built for, as far as its place tells; the file does not."""
    named = re.search(r"/cuda-?(\d+)|-cuda(\d+)", row.file or "")
    return int(named.group(1) or named.group(2)) if named else None


def _wheel_cudnn(search: _Search, cuda: Library) -> _Found:
    row = search.tables.cuda_wheels_for(search.release.version)
    if row is None or row.architecture != search.node.architecture:
        return None, f"there are no wheels of cuDNN for TensorFlow {search.release.version}"
    why_not = search.why_not_cudnn(row.cudnn)
    if why_not:
        return None, f"cuDNN {row.cudnn} (wheels): {why_not}"
    if cuda.source == "wheels":
        return Library(row.cudnn, "wheels"), ""
    if Version(row.cuda).major != Version(cuda.version).major:
        return None, f"the wheel of cuDNN is for CUDA {row.cuda}, not {cuda.version}"
    return Library(row.cudnn, "wheels", ("nvidia/cudnn/lib",)), ""


def _packaged_cudnn(search: _Search, cuda: Library) -> _Found:
    major = str(Version(cuda.version).major)
    rows = [row for row in rows_for(search.tables.cudnn_packages, search.node.os) if row.cuda == major]
    row = next((row for row in rows if _serves(row.cudnn, search)), None)
    if row is None:
        known = ", ".join(row.cudnn for row in rows)
        return None, f"nvidia_repo has {f'cuDNN {known}' if known else 'no known cuDNN'} for CUDA {major} here"
    return Library(
        row.cudnn,
        "nvidia_repo",
        packages=_packages(row.packages),
        belongs=row.belongs,
        # In the loader's directory, so there can be one only, whatever CUDA it is for.
        is_there=search.node.has_cudnn(row.cudnn, LOADER_DIRECTORIES),
    ), ""


def _redist_cudnn(search: _Search, cuda: Library) -> _Found:
    major = str(Version(cuda.version).major)
    rows = [row for row in search.tables.redist if (row.component, row.cuda) == ("cudnn", major)]
    row = next((row for row in rows if _serves(row.version, search)), None)
    if row is None:
        return None, f"redist has cuDNN {', '.join(row.version for row in rows) or '(none)'} for CUDA {major}"
    is_there = search.node.has_cudnn(row.version, (row.library_directory,))
    return _archives(row, row.version, search, is_there=is_there), ""


def _serves(version: str, search: _Search) -> bool:
    return _fits(version, search.release) and search.why_not_cudnn(version) is None
