"""Images of environments without systemd: a stand-in for systemctl that proves and mounts as the units say."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import images, mount_units, packing
from ansible.module_utils.tensorflow_stack.io.clock import timestamp
from ansible.module_utils.tensorflow_stack.planning.images import Image
from ansible.module_utils.tensorflow_stack.records import manifest

from tests.needs import require

_SYSTEMCTL = """\
    #!/usr/bin/env python3
    import os, subprocess, sys

    DIRECTORY = {directory!r}

    def read(unit):
        with open(os.path.join(DIRECTORY, unit)) as stream:
            return dict(line.rstrip("\\n").split("=", 1) for line in stream if "=" in line)

    def main(verb, *names):
        if "--now" in names:
            verb = "stop"
        for name in (name for name in names if name.endswith(".mount")):
            if verb == "start":
                unit = read(name)
                proof = read(unit["Requires"])
                text = proof.get("StandardInputText", "") + "\\n"
                done = subprocess.run(proof["ExecStart"].split(" "), input=text, text=True)
                command = ["mount", "-t", unit["Type"], "-o", unit["Options"], unit["What"], unit["Where"]]
                if done.returncode or subprocess.run(command).returncode:
                    sys.exit("A dependency job for " + name + " failed.")
            elif verb == "stop" and os.path.exists(os.path.join(DIRECTORY, name)):
                subprocess.run(["umount", read(name)["Where"]], stderr=subprocess.DEVNULL)

    main(*[word for word in sys.argv[1:] if word != "--no-pager"])
"""


def need() -> None:
    """Skips where no image can be packed and mounted."""
    require("squashfs-tools", "cryptsetup-bin", "systemd")
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("needs root and loop devices")


class Units:
    """A directory of units and a systemctl that acts on it."""

    def __init__(self, path: Path) -> None:
        self.directory = path / "units"
        self.programs = path / "programs"
        for made in (self.directory, self.programs):
            made.mkdir()
        script = self.programs / "systemctl"
        script.write_text(textwrap.dedent(_SYSTEMCTL.format(directory=str(self.directory))), encoding="utf-8")
        script.chmod(0o755)
        self.path = f"{self.programs}:{os.environ['PATH']}"

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", self.path)
        monkeypatch.setattr(mount_units, "DIRECTORY", str(self.directory))
        monkeypatch.setattr(images, "check_can_mount", lambda: None)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


def prove(root: str, name: str) -> None:
    """Record that the check was passed, as tensorflow_gpu_check does."""

    def change(content) -> None:
        content["environments"].setdefault(name, {})["check"] = {
            "verdict": "cpu_only_no_gpu",
            "reason": "",
            "evidence_sha256": "0" * 64,
            "checked_at": timestamp(),
            "report": None,
        }

    manifest.update(root, change)


def pack(root: str, name: str, directory: Path) -> dict:
    """The image of an environment, as a plan has it."""
    prove(root, name)
    outcome = packing.pack(root, name, str(directory), check_mode=False)
    assert outcome.manifest is not None
    return Image(outcome.path, outcome.manifest, {}).as_dict()


def mounts_below(path: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return [line.split(" ")[4] for line in lines if line.split(" ")[4].startswith(f"{path}/")]


def unmount_all(path: Path) -> None:
    for place in mounts_below(path):
        subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(path / "root", ignore_errors=True)
