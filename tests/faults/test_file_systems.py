"""Disks that are full, read-only, noexec or lose their power: the environment works, and what is wrong is said."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests import disks
from tests.conftest import RunModule
from tests.wheels import make_lock, make_tensorflow

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]
BODY = "data = '" + "x" * 1_000_000 + "'"


class Machine:
    """A root on a disk of its own, and two releases of which one is in use."""

    def __init__(self, directory: Path, uv: str, disk: disks.Disk) -> None:
        wheels = directory / "wheels"
        wheels.mkdir()
        self.disk, self.uv, self.wheels = disk, uv, wheels
        self.root = str(disk.path / "root")
        self.old = self.spec(make_tensorflow(wheels, "2.8.0"))
        self.new = self.spec(make_tensorflow(wheels, "2.8.0.post1", BODY))

    def spec(self, *distributions: Any) -> EnvironmentSpec:
        lock = make_lock(*distributions, release="2.8.0", python=MINOR)
        return EnvironmentSpec(NAME, self.root, "2.8.0", "cpu", os.path.realpath(sys.executable), lock)

    def installer(self) -> installing.Installer:
        return installing.Installer(self.uv, self.wheels.as_uri(), cache=os.path.join(self.root, ".cache", "uv"))

    def apply(self, spec: EnvironmentSpec) -> str:
        outcome = venv.apply_present(spec, installer=self.installer, keep=2, lock_timeout=5)
        record_in_manifest(self.root, NAME, Done(outcome.action, outcome.before.name if outcome.before else None))
        return outcome.action

    def says(self) -> str:
        program = "import tensorflow; print(tensorflow.__version__)"
        python = os.path.join(self.root, NAME, "bin", "python")
        return subprocess.run([python, "-B", "-c", program], capture_output=True, text=True).stdout.strip()


@pytest.fixture
def machine(tmp_path: Path, uv: str) -> Iterator[Machine]:
    disks.require()
    with disks.mounted(disks.Disk(tmp_path)) as disk:
        made = Machine(tmp_path, uv, disk)
        assert made.apply(made.old) == "build"
        yield made


def test_an_unchanged_environment_on_a_read_only_root_is_kept(machine: Machine) -> None:
    machine.disk.remount("ro")
    assert machine.apply(machine.old) == "keep"
    assert machine.says() == "2.8.0"
    with pytest.raises(StackError, match=r"(?i)read-only file system|cannot be written") as caught:
        machine.apply(machine.new)
    assert "tensorflow_root" in caught.value.message
    assert machine.says() == "2.8.0"


def test_a_module_run_on_it_is_a_keep_as_well(machine: Machine, run_module: RunModule) -> None:
    machine.disk.remount("ro")
    spec = machine.old
    given = {"name": NAME, "root": machine.root, "python": spec.python, "lock": spec.lock.text, "installer": "pip"}
    result = run_module("tensorflow_venv", **given)
    assert not result.get("failed"), result["msg"]
    assert (result["action"], result["changed"]) == ("keep", False)


def test_noexec_is_said_as_such(machine: Machine) -> None:
    machine.disk.remount("noexec")
    with pytest.raises(StackError, match="is on a file system that is mounted noexec") as caught:
        machine.apply(machine.new)
    assert "Set tensorflow_root to a directory of another one" in caught.value.message
    machine.disk.remount("exec")
    assert machine.says() == "2.8.0"
    assert machine.apply(machine.new) == "build"


@pytest.mark.parametrize("leave", [0, 900_000])
def test_a_full_disk_leaves_the_environment_and_nothing_else(machine: Machine, leave: int) -> None:
    machine.disk.fill(leave)
    before = sorted(os.listdir(Path(machine.root, ".builds")))
    with pytest.raises(StackError) as caught:
        machine.apply(machine.new)
    assert "free" in caught.value.message.lower() or "No space left" in f"{caught.value.message} {caught.value.details}"
    assert machine.says() == "2.8.0"
    after = sorted(os.listdir(Path(machine.root, ".builds")))
    assert set(after) - set(before) <= {f"{NAME}.log"}
    (machine.disk.path / "filler").unlink()
    assert machine.apply(machine.new) == "build"
    assert machine.says() == "2.8.0.post1"


def test_without_inodes_it_is_said_what_is_missing(tmp_path: Path, uv: str) -> None:
    disks.require()
    with disks.mounted(disks.Disk(tmp_path, inodes=600)) as disk:
        machine = Machine(tmp_path, uv, disk)
        machine.apply(machine.old)
        spare = disk.path / "spare"
        spare.mkdir()
        for number in range(os.statvfs(disk.path).f_favail):
            (spare / str(number)).touch()
        with pytest.raises(StackError, match="has no inodes left: remove files"):
            machine.apply(machine.new)
        assert machine.says() == "2.8.0"
        for path in spare.iterdir():
            path.unlink()
        assert machine.apply(machine.new) == "build"


# What is cut off: before and after each of these, in the order in which they happen.
STEPS: dict[str, tuple[Any, str]] = {
    "synced": (venv, "sync_file_system"),
    "recorded": (venv, "write_json"),
    "switched": (venv, "_switch"),
    "removed": (venv, "remove_build"),
}


@pytest.mark.slow  # mounts a disk for each moment; test_killed_build.py has the same moments in CI
def test_a_loss_of_power_leaves_the_old_or_the_new_environment_whole(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot of the image has what had reached the disk. Mounted afresh, it is what a machine finds that starts."""
    os.sync()  # what was there before
    taken: list[tuple[str, Path]] = []

    def watch(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            for moment in ("before", "after"):
                if moment == "after":
                    result = call(*arguments, **named)
                taken.append((f"{moment} {name}", machine.disk.snapshot(tmp_path / f"{len(taken)}.img")))
            return result

        return watched

    for name, (owner, function) in STEPS.items():
        monkeypatch.setattr(owner, function, watch(name, getattr(owner, function)))
    assert machine.apply(machine.new) == "build"
    monkeypatch.undo()
    machine.disk.unmount()
    seen = {}
    for name, image in taken:
        machine.disk.mount(image=image)
        seen[name] = machine.says()
        assert seen[name] in ("2.8.0", "2.8.0.post1"), f"{name}: the environment is broken"
        manifest.read(machine.root)
        assert machine.apply(machine.new) in ("build", "switch", "keep", "repair"), name
        assert machine.says() == "2.8.0.post1", name
        assert all(build.record for build in builds.builds_of(machine.root, NAME)), f"{name}: leftovers"
        machine.disk.unmount()
        image.unlink()
    machine.disk.mount()  # for the fixture
    assert seen["before switched"] == "2.8.0"
    assert seen["after switched"] == "2.8.0.post1", "what was reported as done is done"


def test_where_files_can_be_cloned_an_edit_in_place_changes_one_build_alone(tmp_path: Path, uv: str) -> None:
    disks.require("xfs")
    with disks.mounted(disks.Disk(tmp_path, 320, kind="xfs")) as disk:
        machine = Machine(tmp_path, uv, disk)
        machine.apply(machine.new)
        other = dataclasses.replace(machine.new, name="other")
        free = os.statvfs(disk.path).f_bfree
        venv.apply_present(other, installer=machine.installer, keep=2, lock_timeout=5)
        taken = (free - os.statvfs(disk.path).f_bfree) * os.statvfs(disk.path).f_frsize
        assert taken < len(BODY) // 2, "the blocks of the second environment are those of the first one"
        log = Path(machine.root, ".builds", "other.log").read_text()
        assert "Linked 1 packages" in log and "Compiling" not in log
        file = f"lib/python{MINOR}/site-packages/tensorflow/__init__.py"
        first, second = (Path(machine.root, name, file) for name in (NAME, "other"))
        assert first.stat().st_nlink == second.stat().st_nlink == 1
        assert first.stat().st_mtime_ns == second.stat().st_mtime_ns, "so that the bytecode is valid"
        with open(first, "r+b") as stream:
            stream.write(b"#")
        third = dataclasses.replace(machine.new, name="third")
        venv.apply_present(third, installer=machine.installer, keep=2, lock_timeout=5)
        assert second.read_bytes() == Path(machine.root, "third", file).read_bytes() != first.read_bytes()
        assert "Compiling" not in Path(machine.root, ".builds", "third.log").read_text(), "the store was not edited"
