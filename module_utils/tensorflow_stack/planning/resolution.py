"""Tables + node + policy -> the stack of one release, or every reason why it cannot be.

Pure: touches no disk, starts nothing. `assess` answers for one release; `choose` for "the newest that runs here".
What is under Python (GPUs, CUDA, cuDNN, the driver) is found in system.py.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any, Callable

from packaging.version import Version

from ..locking.inputs import GLIBC_MINOR
from ..tables.load import Tables, rows_for
from ..tables.releases import find_release
from ..tables.rows import Release
from .lives import life_warnings
from .no_gpu import hint_of_gpu, how_to_get_gpu, no_gpu_but, other_gpus, unused_gpu
from .node import Interpreter, NodeFacts
from .node_kind import why_no_packages
from .stack import Assessment, Findings, Policy, Python, Refusal, Stack
from .system import System, resolve_system

# Where an interpreter that is there comes from, best first: what the system's own updates keep in order is
# a better base for an environment than what somebody may clean up.
_ORIGINS = ("system", "opt", "uv", "pyenv", "path")


def choose(
    tables: Tables, node: NodeFacts, policy: Policy, *, accepts: Callable[[Assessment], bool]
) -> tuple[Assessment | None, list[Assessment]]:
    """The newest release that runs on the node and is accepted, or None; and the assessment of all, newest first."""
    assessments = [assess(tables, row, node, policy) for row in reversed(tables.releases)]
    return next((a for a in assessments if not a.refusals and accepts(a)), None), assessments


def assess_wish(tables: Tables, version: str, node: NodeFacts, policy: Policy) -> Assessment:
    """`assess` for a release that was asked for by name: refusals carry the nearest release that would run."""
    assessment = assess(tables, find_release(tables, version), node, policy)
    if not assessment.refusals:
        return assessment
    nearest = _nearest_runnable(tables, assessment.release, node, policy)
    refusals = tuple(Refusal(r.component, r.found, r.wanted, r.set, nearest) for r in assessment.refusals)
    return Assessment(assessment.release, assessment.stack, refusals)


def warn_of_download(tables: Tables, stack: Stack, node: NodeFacts, policy: Policy) -> tuple[str, ...]:
    """What to do if the Python of a stack cannot be downloaded, and which releases need no download."""
    python = stack.python
    if not python.bytes:
        return ()
    own = replace(policy, python="", python_source="found")
    running = [not assess(tables, row, node, own).refusals for row in tables.releases]
    versions = [row.version for row in tables.releases]
    minors = [minor for minor in stack.release.pythons[str(node.architecture)] if minor in tables.uv_pythons]
    ones = " or ".join(filter(None, (", ".join(minors[:-1]), minors[-1])))
    these = "them" if len(python.places) > 1 else "it"
    return (
        f"Python {python.minor} is downloaded from {' or '.join(python.places)} (about {python.bytes / 1e6:.0f} MB). "
        f"If this node cannot reach {these}, set python_mirror to a mirror of python-build-standalone, or install "
        f"Python {ones} yourself. "
        + (
            f"On the Pythons of this node, TensorFlow {_ranges(versions, running)} can run."
            if any(running)
            else "No release runs on the Pythons of this node."
        ),
    )


def _ranges(names: list[str], chosen: list[bool]) -> str:
    """Those that are chosen, as "a to b" if they follow one another."""
    parts = []
    for is_chosen, group in groupby(zip(names, chosen), key=lambda pair: pair[1]):
        if is_chosen:
            members = [name for name, _ in group]
            parts.append(members[0] + (f" to {members[-1]}" if len(members) > 1 else ""))
    return ", ".join(parts)


def _nearest_runnable(tables: Tables, wanted: Release, node: NodeFacts, policy: Policy) -> str | None:
    position = tables.releases.index(wanted)
    by_distance = sorted(range(len(tables.releases)), key=lambda i: (abs(i - position), -i))
    for i in by_distance:
        if not assess(tables, tables.releases[i], node, policy).refusals:
            return tables.releases[i].version
    return None


def assess(tables: Tables, release: Release, node: NodeFacts, policy: Policy) -> Assessment:
    """Can this release run on this node, and with which versions under it?"""
    findings = Findings()
    flavour = _flavour(tables, node, policy, findings)
    has_wheel = _has_wheel(tables, release, node, findings)
    python = _python(tables, release, node, policy, findings) if has_wheel else None
    system = System()
    if flavour == "cuda" and release.pythons.get("x86_64") and node.architecture not in ("x86_64", None):
        findings.refuse(
            "gpu",
            found=f"a GPU on {node.architecture}",
            wanted=f"x86_64, the only architecture for which TensorFlow {release.version} is built with CUDA",
            set="Set tensorflow_gpu to none for a CPU environment.",
        )
    elif flavour == "cuda" and has_wheel:
        system = resolve_system(tables, release, node, policy, findings)
    if python and not python.public and node.is_root:
        findings.warnings.append(
            f"Only root can use this environment: its interpreter {python.path} is in a directory that others may not "
            "enter. "
            "Install one for all, or set python_source to uv."
        )
    stack = None
    if python and (flavour == "cpu" or system.driver):
        parts = (system.driver, *system.libraries.values())
        warnings = tuple(findings.warnings)
        if policy.today:
            warnings += life_warnings(tables, release, python, system.driver, policy.today)
        stack = Stack(
            release,
            flavour,
            python,
            system.driver,
            system.libraries,
            system.gpus,
            system.check_seconds,
            _repositories(tables, node, {part.source for part in parts if part}),
            warnings,
            system.other_gpus,
            system.visible_gpus,
            unused_gpu(tables, node, policy) if flavour == "cpu" else None,
        )
    return Assessment(release, stack, tuple(findings.refusals))


def _repositories(tables: Tables, node: NodeFacts, sources: set[str]) -> tuple[dict[str, Any], ...]:
    repositories: list[dict[str, Any]] = []
    if "distro" in sources:
        repositories += [
            {"kind": "distribution", "components": list(row.components)} for row in rows_for(tables.components, node.os)
        ]
    if "nvidia_repo" in sources:
        repositories += [
            {
                "kind": "nvidia",
                "manager": row.manager,
                "name": row.name,
                "url": row.url,
                "key": row.key,
                "fingerprints": list(row.fingerprints),
                "retired_fingerprints": list(row.retired_fingerprints),
            }
            for row in rows_for(tables.repositories, node.os)
            if row.architecture == node.architecture
        ]
    return tuple(repositories)


def _flavour(tables: Tables, node: NodeFacts, policy: Policy, findings: Findings) -> str:
    if policy.gpu == "none":
        return "cpu"
    if any(gpu.out_of_reach is None for gpu in node.gpus):
        return "cuda"
    hint = hint_of_gpu(tables, node)
    if policy.gpu == "required":
        findings.refuse(
            "gpu",
            found=f"{no_gpu_but(node, hint)}{other_gpus(node)}",
            wanted="a GPU (tensorflow_gpu is required)",
            set=how_to_get_gpu(tables, node) if hint else "Set tensorflow_gpu to auto for a CPU environment.",
        )
    return "cpu"


# ------------------------------------------------------------------------------------------------- Python


def _has_wheel(tables: Tables, release: Release, node: NodeFacts, findings: Findings) -> bool:
    """Is there a wheel of the release for the architecture and the C library of the node?"""
    wanted = f"a wheel of TensorFlow {release.version}"
    built = [name for name, pythons in sorted(release.pythons.items()) if pythons]
    glibc = tables.glibc_for(release.version)
    why_unknown = f" ({node.architecture_unread})" if node.architecture_unread else ""
    name = f" ({node.os['name']})" if node.os["name"] else ""
    if node.architecture is None:
        findings.refuse(
            "package",
            found=f"a node of an unknown architecture{why_unknown}",
            wanted=f"{wanted}, which exists for {', '.join(built)}",
            set="Use a node of that architecture.",
        )
    elif node.architecture not in built:
        findings.refuse(
            "package",
            found=f"a node of {node.architecture}",
            wanted=f"{wanted}, which exists for {', '.join(built) or 'no Linux architecture'}",
            set="Set tensorflow_version to a release with a wheel for this architecture.",
        )
    elif node.c_library == "musl":
        findings.refuse(
            "package",
            found=f"the C library musl{name}",
            wanted=f"{wanted}, which exists for the GNU C library (glibc)",
            set="Use a distribution with glibc, such as a container of Debian or Ubuntu.",
        )
    elif glibc and node.glibc and Version(node.glibc) < Version(glibc):
        findings.refuse(
            "package",
            found=f"glibc {node.glibc}",
            wanted=f"{wanted}, which needs glibc {glibc} or newer",
            set="Set tensorflow_version to an older release, or use a newer distribution.",
        )
    else:
        if node.glibc and Version(node.glibc) < Version(f"2.{GLIBC_MINOR}"):
            findings.warnings.append(
                f"The wheels of the locks are chosen for glibc 2.{GLIBC_MINOR}, and this node has {node.glibc}: if one "
                "of them needs a newer one, the build stops, and nothing is changed."
            )
        return True
    return False


def _python(tables: Tables, release: Release, node: NodeFacts, policy: Policy, findings: Findings) -> Python | None:
    minors = list(release.pythons[str(node.architecture)])
    if policy.python:
        if policy.python not in minors:
            findings.refuse(
                "python",
                found=f"tensorflow_python is {policy.python}",
                wanted=f"one of {', '.join(minors)}, for which TensorFlow {release.version} has wheels",
                set="Set tensorflow_python to one of them, or leave it empty.",
            )
            return None
        minors = [policy.python]
    for row in node.interpreters:
        if row.fault and row.minor in minors:
            findings.warnings.append(f"Python {row.shown} is not used.")
    sources = ("found", "distro", "uv") if policy.python_source == "auto" else (policy.python_source,)
    # The newest has the longest life; but an environment that is there keeps its minor.
    own = {row.python for row in node.environments if row.release == release.version}
    newest_first = sorted(sorted(minors, key=Version, reverse=True), key=lambda minor: minor not in own)
    for source in sources:
        for minor in newest_first:
            python = _python_from(source, tables, release, node, policy, minor)
            if python:
                return python
    findings.refuse(
        "python",
        found=_pythons_found(node),
        wanted=f"Python {' or '.join(minors)} for TensorFlow {release.version} (sources: {', '.join(sources)})",
        set=_how_to_get_python(tables, node, policy, minors),
    )
    return None


def _how_to_get_python(tables: Tables, node: NodeFacts, policy: Policy, minors: list[str]) -> str:
    ways = ["Install one of these (PATH, /usr/bin, pyenv, /opt and uv's directory are searched)"]
    if policy.python_source != "auto":
        ways.append("allow more with python_source: auto")
    if node.c_library is None:
        ways.append("a loader for programs from elsewhere (nix-ld on NixOS), which a downloaded Python needs")
    has_package = any(tables.python_package(node.os, minor) for minor in minors)
    if has_package and not node.is_root:
        ways.append("run as root, who can install the distribution's package")
    return f"{', or '.join(ways)}."


def _python_from(
    source: str, tables: Tables, release: Release, node: NodeFacts, policy: Policy, minor: str
) -> Python | None:
    is_fitting: Callable[[Interpreter], bool] = {
        "found": lambda row: True,
        "distro": lambda row: row.path == f"/usr/bin/python{minor}",
        "uv": lambda row: row.origin == "uv",
    }[source]
    there = [row for row in node.interpreters if row.minor == minor and row.is_usable and is_fitting(row)]
    if there:
        return _found_python(there, release, node)
    if source == "distro":
        package = tables.python_package(node.os, minor)
        if package is None or not node.is_root or why_no_packages(tables, node):
            return None
        # What brings venv requires the interpreter, and the rest of its standard library, too.
        return Python(minor, None, "distro", f"/usr/bin/python{minor}", package.venv_package or package.package)
    if source == "uv" and minor in tables.uv_pythons and node.c_library:
        # The link that uv keeps to the newest patch of a minor.
        directory = f"cpython-{minor}-linux-{node.architecture}-gnu"
        path = f"{node.root}/.pythons/{directory}/bin/python{minor}"
        uv = tables.uv(node.architecture)
        places = (policy.python_mirror,) if policy.python_mirror else uv.python_hosts if uv else ()
        return Python(minor, None, "uv", path, places=places, bytes=uv.python_megabytes * 1000000 if uv else 0)
    return None


def _found_python(rows: list[Interpreter], release: Release, node: NodeFacts) -> Python:
    """The best of some interpreters. An environment keeps its own: a better one is no reason to rebuild it."""
    own = {row.python_real_path: row.python_path for row in node.environments if row.release == release.version}
    best = min(
        rows,
        key=lambda row: (row.path not in own, not row.public, _ORIGINS.index(row.origin), row.path),
    )
    return Python(best.minor, best.version, "found", own.get(best.path, best.path), public=best.public)


def _pythons_found(node: NodeFacts) -> str:
    return ", ".join(row.shown for row in node.interpreters) or "no Python"
