"""File systems of nodes for tests, built from the short descriptions in tests/data/nodes/."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles
from ansible.module_utils.tensorflow_stack.node.record import read_node
from ansible.module_utils.tensorflow_stack.node.user import User

DATA = Path(__file__).parent / "data" / "nodes"
NAMES = sorted(path.stem for path in DATA.glob("*.yml") if not path.stem.startswith("_"))

GLIBC_LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
ELF_MACHINES = {"i386": 3, "ppc64le": 21, "x86_64": 62, "aarch64": 183}


def materialise(name: str, tmp_path: Path) -> Path:
    """The root of the named node's file system."""
    return build(describe(name), tmp_path / name)


def read(name: str, tmp_path: Path, **arguments: Any) -> dict[str, Any]:
    """The record of the named node, as its user has it. free_bytes and writable are of this machine."""
    description = describe(name)
    chosen: dict[str, Any] = {
        "user": User(**description["user"]),
        "environ": {"PATH": description["search_path"]},
    }
    root = build(description, tmp_path / name)
    record: dict[str, Any] = read_node(filesystem_root=str(root), **{**chosen, **arguments})
    return record


def environment(name: str = "tensorflow-2.8.0", **changes: Any) -> dict[str, Any]:
    """A row of a record's environments."""
    python = {"minor": "3.10", "path": "/usr/bin/python3.10", "real_path": "/usr/bin/python3.10"}
    return {
        "name": name,
        "release": "2.8.0",
        "flavour": "cpu",
        "digest": "0" * 64,
        "build": f"{name}-{'0' * 12}-1",
        "python": python,
        "cuda": None,
        "cudnn": None,
        "lock_sha256": "0" * 64,
        "packages": {},
        "requirements": {"lines": [], "is_recorded": True, "path": None, "inputs_sha256": None},
        "added": [],
        "additions": [],
        "damage": None,
        "unfinished": [],
        "also_in": [],
        "visible_gpus": None,
        **changes,
    }


def build(description: dict[str, Any], root: Path) -> Path:
    """Writes the tree; README.md beside the descriptions says what their keys mean."""
    root.mkdir(parents=True, exist_ok=True)
    for path, target in description.get("links", {}).items():
        _link(root, path, target)
    for path in description.get("directories", []):
        _place(root, path).mkdir(parents=True, exist_ok=True)
    for path, text in description.get("files", {}).items():
        _place(root, path).write_text(text)
    for path, data in description.get("bytes", {}).items():
        _place(root, path).write_bytes(bytes.fromhex(data))
    for path, content in description.get("elf", {}).items():
        machine, _, text = content.partition(" ")
        _write_elf(_place(root, path), machine, text)
    if description.get("c_library", "glibc") == "glibc" and "architecture" in description:
        _write_elf(_place(root, GLIBC_LOADERS[description["architecture"]]), description["architecture"])
    for directory, names in description.get("libraries", {}).items():
        for name in names:
            _write_elf(_place(root, f"{directory}/{name}"), description["architecture"])
    for python in description.get("pythons", []):
        _build_python(root, **python)
    for address, device in description.get("pci", {}).items():
        _build_pci_device(root, address, **device)
    return root


@cache
def describe(name: str) -> dict[str, Any]:
    """A description with what it extends merged in; its own entries win. To be read, not changed."""
    text = (DATA / f"{name}.yml").read_text()
    architecture = yaml.safe_load(text)["architecture"]
    return _merge(name, architecture)


def _merge(name: str, architecture: str) -> dict[str, Any]:
    text = (DATA / f"{name}.yml").read_text().replace("{architecture}", architecture)
    own: dict[str, Any] = yaml.safe_load(text)
    merged: dict[str, Any] = {}
    for part in [*(_merge(f"_{base}", architecture) for base in own.pop("extends", [])), own]:
        for key, value in part.items():
            if isinstance(value, dict):
                merged[key] = {**merged.get(key, {}), **value}
            elif isinstance(value, list):
                merged[key] = merged.get(key, []) + value
            else:
                merged[key] = value
    return merged


def _place(root: Path, path: str) -> Path:
    """Where the path lies below the root, links of the tree followed inside it; its directory exists."""
    directory, name = os.path.split(path)
    place: Path = root / NodeFiles(str(root)).resolve(directory).lstrip("/") / name
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _link(root: Path, path: str, target: str) -> None:
    _place(root, path).symlink_to(target)


def _write_elf(place: Path, machine: str, text: str = "") -> None:
    """A file with a real ELF header (64-bit, little endian, shared object) and no code."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little")
    header += ELF_MACHINES[machine].to_bytes(2, "little") + bytes(44)
    place.write_bytes(header + text.encode() + b"\n\x00")
    place.chmod(0o755)


def _build_python(
    root: Path,
    prefix: str,
    minor: str,
    machine: str,
    patchlevel: str | None = None,
    ensurepip: bool = True,
    distutils: bool = True,
    lib: str = "lib",
) -> None:
    _write_elf(_place(root, f"{prefix}/bin/python{minor}"), machine)
    if not _place(root, f"{prefix}/bin/python3").is_symlink():
        _link(root, f"{prefix}/bin/python3", f"python{minor}")
    library = f"{prefix}/{lib}/python{minor}"
    _place(root, f"{library}/os.py").touch()
    if ensurepip:
        _place(root, f"{library}/ensurepip/__init__.py").touch()
    if distutils:
        _place(root, f"{library}/distutils/command/install.py").touch()
    if patchlevel is not None:
        text = f'/* Version as a string */\n#define PY_VERSION      \t"{patchlevel}"\n/*--end constants--*/\n'
        _place(root, f"{prefix}/include/python{minor}/patchlevel.h").write_text(text)


def _build_pci_device(
    root: Path, address: str, vendor: str, device: str, pci_class: str, driver: str | None = None
) -> None:
    directory = f"/sys/devices/pci0000:00/{address}"
    for name, number in (("vendor", vendor), ("device", device), ("class", pci_class)):
        _place(root, f"{directory}/{name}").write_text(f"0x{number}\n")
    _link(root, f"/sys/bus/pci/devices/{address}", f"../../../devices/pci0000:00/{address}")
    if driver is not None:
        _link(root, f"{directory}/driver", f"../../../bus/pci/drivers/{driver}")
