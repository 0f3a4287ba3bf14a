"""Files that stand in for the kernel's view of GPUs and their driver, mounted over a host's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
NVIDIA_VENDOR = "10de"
SECURE_BOOT = "efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
NVRM = {
    "proprietary": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Sun May 12 19:39:15 UTC 2024\n",
    "open": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (builder@host)\n",
}
VARIABLES = ("testhost_pci", "testhost_driver", "testhost_modules", "testhost_secure_boot")


def write(directory: Path, variables: Mapping[str, Any]) -> None:
    """A host's stand-ins, of its inventory variables: one folder for each place that they are mounted over.

    A host has no GPU and no module loaded that is not named there, whatever the machine that tests has.
    """
    if directory.exists():
        shutil.rmtree(directory)
    driver = variables.get("testhost_driver")
    modules = list(variables.get("testhost_modules") or [])
    if driver:
        modules.append("nvidia")
    for folder in ("pci", "module", "driver"):
        (directory / folder).mkdir(parents=True)
    for device in _devices(variables.get("testhost_pci")):
        bound_to = next((module for module in modules if module in ("nvidia", "nouveau")), None)
        _write_device(directory / "pci" / device["address"], device, bound_to)
    for module in modules:
        (directory / "module" / module).mkdir()
    if driver:
        version, kind = driver["version"], driver.get("kind", "proprietary")
        (directory / "module" / "nvidia" / "version").write_text(f"{version}\n")
        (directory / "driver" / "nvidia").mkdir()
        (directory / "driver" / "nvidia" / "version").write_text(NVRM[kind].format(version=version))
    secure_boot = variables.get("testhost_secure_boot")
    if secure_boot is not None:
        variable = directory / "firmware" / SECURE_BOOT
        variable.parent.mkdir(parents=True)
        variable.write_bytes(bytes([6, 0, 0, 0, int(secure_boot)]))


def _devices(name: str | None) -> list[dict[str, str]]:
    if name is None:
        return []
    known: dict[str, list[dict[str, str]]] = yaml.safe_load((HERE / "pci.yml").read_text())
    if name not in known:
        raise ValueError(f"testhost_pci: {name} is not in tests/hosts/pci.yml, which has {', '.join(known)}")
    return known[name]


def _write_device(directory: Path, device: Mapping[str, str], bound_to: str | None) -> None:
    directory.mkdir()
    for name, number in (("vendor", NVIDIA_VENDOR), ("device", device["device"]), ("class", device["class"])):
        (directory / name).write_text(f"0x{number}\n")
    if bound_to and not device["class"].startswith("04"):
        (directory / "driver").symlink_to(f"../../../bus/pci/drivers/{bound_to}")
