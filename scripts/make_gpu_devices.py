#!/usr/bin/env python3
"""Write the table gpu_devices.json from the PCI ID database (Debian package pci.ids).

    scripts/make_gpu_devices.py --pci-ids /usr/share/misc/pci.ids

Only devices of chips in gpu_chips.yml that have a marketing name in brackets: that leaves out the audio and USB
functions of a card, which carry the chip's name too, and ids that are only reserved.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re

import yaml

TABLES = pathlib.Path(__file__).resolve().parents[1] / "roles/tensorflow_release/files/tables"

_NVIDIA = "10de"
_VENDOR = re.compile(r"(?P<vendor>[0-9a-f]{4})  ")
# Subsystem lines have two tabs, device lines one. GK110BGL and AD107M / GN21-X2 are variants of GK110 and AD107.
_DEVICE = re.compile(r"\t(?P<device_id>[0-9a-f]{4})  (?P<chip>[A-Z]{2}[0-9]{2}[0-9A-Z])[^\[]*\[(?P<name>.+)\]$")
_NOT_A_GPU = re.compile(r"NVSwitch|Reserved Dev ID")


def devices(pci_ids: str, chips: set[str]) -> list[tuple[str, str, str]]:
    """(device id, chip, name) of every NVIDIA GPU in the text of a pci.ids file, sorted."""
    found = []
    vendor = None
    for line in pci_ids.splitlines():
        if match := _VENDOR.match(line):
            vendor = match["vendor"]
        if vendor != _NVIDIA or not (match := _DEVICE.match(line)):
            continue
        if match["chip"] in chips and not _NOT_A_GPU.search(match["name"]):
            found.append((match["device_id"], match["chip"], match["name"]))
    return sorted(found)


def render(rows: list[tuple[str, str, str]], *, what: str, date: str) -> str:
    sources = {"pci_ids": {"what": what, "date": date}}
    lines = [
        json.dumps({"device_id": device_id, "chip": chip, "name": name, "source": ["pci_ids"]}, ensure_ascii=False)
        for device_id, chip, name in rows
    ]
    return f'{{"sources": {json.dumps(sources)},\n"rows": [\n  ' + ",\n  ".join(lines) + "\n]}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pci-ids", type=pathlib.Path, default=pathlib.Path("/usr/share/misc/pci.ids"))
    parser.add_argument("--output", type=pathlib.Path, default=TABLES / "gpu_devices.json")
    arguments = parser.parse_args()
    text = arguments.pci_ids.read_text(encoding="utf-8")
    version = re.search(r"^#\s*Version: (\d{4})\.(\d{2})\.(\d{2})$", text, re.MULTILINE)
    if version is None:
        parser.error(
            f"{arguments.pci_ids} has no line `# Version: YYYY.MM.DD`; give the pci.ids of the PCI ID project."
        )
    chips = {row["chip"] for row in yaml.safe_load((TABLES / "gpu_chips.yml").read_text(encoding="utf-8"))["rows"]}
    rows = devices(text, chips)
    if not rows:
        parser.error(f"{arguments.pci_ids} names no NVIDIA GPU.")
    date = "-".join(version.groups())
    arguments.output.write_text(
        render(
            rows,
            what="pci.ids of https://pci-ids.ucw.cz (3-clause BSD), by way of the Debian package pci.ids",
            date=date,
        ),
        encoding="utf-8",
    )
    print(f"{arguments.output}: {len(rows)} devices, pci.ids of {date}")


if __name__ == "__main__":
    main()
