"""The parts of docs/support.md: what is supported, and what of it is tested where."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import bootstrap
import yaml
from markdown_tables import table

REPOSITORY = Path(__file__).resolve().parents[1]
TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"
# By ansible-core: the oldest and newest Python of its nodes. tests/contract/test_support.py asks the installed ones.
# fact: ansible_test/_util/target/common/constants.py in ansible-core 2.17.14, 2.19.14 and 2.21.5, 2026-11-27
NODE_PYTHONS = {"2.17": ("3.7", "3.12"), "2.19": ("3.8", "3.13"), "2.21": ("3.9", "3.14")}
# Private roots (tests/package_nodes.py) and images of hosts, by the distribution whose packages are installed in them.
ROOTS = {
    ("debian", "11"): "debian11",
    ("debian", "12"): "debian12",
    ("debian", "13"): "debian13",
    ("rhel", "8"): "rhel8",
}
IMAGES = {
    ("debian", "11"): "debian-11",
    ("debian", "12"): "debian-12",
    ("debian", "13"): "debian-13",
    ("rhel", "8"): "el8-lookalike",
}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def locked_cores() -> list[tuple[str, str]]:
    """Each ansible-core of the controller's lock, with the Pythons that get it."""
    lock = _read(REPOSITORY / "requirements" / "controller.txt")
    found = []
    for version, marker in re.findall(r"^ansible-core==(\S+?)(?: ; (.+?))? \\$", lock, re.MULTILINE):
        pythons = [
            minor for minor in bootstrap.CONTROLLER.minors if not marker or _fits(minor, marker.replace(".*", ""))
        ]
        found.append((version, f"{pythons[0]} to {pythons[-1]}" if len(pythons) > 1 else pythons[0]))
    return found


def _fits(minor: str, marker: str) -> bool:
    bound = re.fullmatch(r"\w+ (<|>=|==) '([\d.]+)'", marker)
    if bound is None:
        raise ValueError(f"not a marker of one bound: {marker}")
    have, than = (tuple(map(int, text.split("."))) for text in (minor, bound[2]))
    return {"<": have < than, ">=": have >= than, "==": have == than}[bound[1]]


def cores() -> str:
    (oldest,) = re.findall(r"^ansible-core==(\S+)\.\*$", _read(REPOSITORY / "requirements" / "oldest.in"), re.MULTILINE)
    newest = max((version for version, _ in locked_cores()), key=lambda text: tuple(map(int, text.split("."))))
    rows = []
    for version, pythons in locked_cores():
        minor = ".".join(version.split(".")[:2])
        nodes = " to ".join(NODE_PYTHONS[minor])
        if version == newest:
            tested = "everything, in CI"
        elif minor == oldest:
            tested = "what depends on ansible-core, in CI; everything, nightly"
        else:
            tested = "not by itself"
        rows.append((version, pythons, nodes, tested))
    return table(("ansible-core", "Python of the controller", "Python of nodes", "tested"), rows)


def distributions() -> str:
    """Each distribution for which a table has packages."""
    origins: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for component in ("driver", "cuda", "cudnn"):
        for row in _rows(f"{component}_packages"):
            origins[row["os"], str(row["version_id"])][component].add(str(row.get("origin") or "nvidia_repo"))
    scenarios = _scenarios()
    rows = []
    for (name, version), found in sorted(origins.items(), key=lambda item: (item[0][0], float(item[0][1]))):
        place = (name, version)
        hosts = scenarios.get(IMAGES.get(place, ""), 0)
        shown = "RHEL and its rebuilds" if name == "rhel" else name.capitalize()
        seen = [f"{hosts} scenarios on hosts" + (" that look like it" if name == "rhel" else "")] * bool(hosts)
        seen += ["packages in a private root"] * (place in ROOTS)
        rows.append(
            (
                f"{shown} {version}",
                *(", ".join(sorted(found[component])) or "none" for component in ("driver", "cuda", "cudnn")),
                "; ".join(seen) or "planned from tables",
            )
        )
    return table(("distribution", "driver", "CUDA", "cuDNN", "tested on it"), rows)


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = yaml.safe_load(_read(TABLES / f"{name}.yml"))["rows"]
    return rows


def _scenarios() -> dict[str, int]:
    """By image, how many scenarios have a host of it."""
    found: dict[str, set[Path]] = defaultdict(set)
    paths = [*REPOSITORY.glob("roles/*/molecule/*/hosts.yml"), *REPOSITORY.glob("tests/molecule/*/hosts.yml")]
    for path in paths:
        for image in re.findall(r"testhost_image: *([\w-]+)", _read(path)):
            found[image].add(path.parent)
    return {image: len(directories) for image, directories in found.items()}
