"""Images: runs killed by SIGKILL while they mount or remove one; the next run completes, and nothing is left over."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, changes, installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests import images
from tests.wheels import make_lock, make_tensorflow

pytestmark = pytest.mark.slow

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]

# Where the run dies: before which call of which function.
MOUNTING = {
    "before_anything": ("os.mkdir", 1),
    "with_an_empty_directory": ("images.mount", 1),
    "noted_and_not_fetched": ("images._bring", 1),
    "in_the_middle_of_fetching": ("downloads._write", 1),
    "fetched_and_not_in_place": ("images.sync_file_system", 1),
    "in_place_and_without_units": ("mount_units.make_units", 1),
    "with_units_that_systemd_does_not_know": ("mount_units.systemctl", 1),
    "known_and_not_mounted": ("mount_units.systemctl", 2),
    "mounted_and_not_enabled": ("mount_units.systemctl", 3),
    "enabled_and_not_compared": ("venv.compare_build", 1),
    "compared_and_not_imported": ("venv.import_tensorflow", 1),
    "imported_and_not_complete": ("images.complete", 1),
    "complete_and_not_switched": ("venv._switch", 1),
}
REMOVING = {
    "noted_and_mounted": ("mount_units.systemctl", 1),
    "stopped": ("mount_units.systemctl", 2),
    "unmounted_with_units": ("mount_units.systemctl", 3),
    "unmounted_without_units": ("images.remove_unused", 1),
    "without_note": ("os.rmdir", 1),
}

CHILD = """
import os, pickle, signal, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from ansible.module_utils.tensorflow_stack.environment import images, mount_units, venv
from ansible.module_utils.tensorflow_stack.io import downloads

spec, function, number, directory, state = pickle.load(sys.stdin.buffer)
mount_units.DIRECTORY = directory
images.check_can_mount = lambda: None
owner, name = function.split(".")
owner = {"os": os, "images": images, "mount_units": mount_units, "venv": venv, "downloads": downloads}[owner]
original = getattr(owner, name)
calls = 0

def killed(*arguments, **options):
    global calls
    calls += 1
    # Of os.mkdir and os.rmdir, those of a build.
    if owner is os and not str(arguments[0]).endswith("-2"):
        calls -= 1
    elif calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, killed)
if state == "absent":
    venv.apply_absent(spec.root, spec.name, lock_timeout=0)
else:
    venv.apply_present(spec, installer=None, keep=2, lock_timeout=0)
"""


class Site:
    """A root with a plain build in use, and an image of it."""

    def __init__(self, path: Path, uv: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.root = path, str(path / "root")
        self.units = images.Units(path)
        self.units.use(monkeypatch)
        (path / "wheels").mkdir()
        lock = make_lock(make_tensorflow(path / "wheels", "2.8.0"), release="2.8.0", python=MINOR)
        plain = EnvironmentSpec(NAME, self.root, "2.8.0", "cpu", os.path.realpath(sys.executable), lock)
        cache = os.path.join(self.root, ".cache", "uv")
        installer = installing.Installer(uv=uv, index_url=(path / "wheels").as_uri(), cache=cache)
        venv.apply_present(plain, installer=lambda: installer, keep=2, lock_timeout=0)
        record_in_manifest(self.root, NAME, Done("build", None))
        image = images.pack(self.root, NAME, path / "images")
        self.spec = EnvironmentSpec(NAME, self.root, "2.8.0", "cpu", plain.python, lock, image=image)

    def apply(self) -> changes.EnvironmentOutcome:
        return venv.apply_present(self.spec, installer=lambda: pytest.fail("nothing is built"), keep=2, lock_timeout=30)

    def kill(self, function: str, number: int, state: str) -> None:
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(Path(venv.__file__).parents[2])],
            input=pickle.dumps((self.spec, function, number, str(self.units.directory), state)),
            capture_output=True,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()

    def works(self) -> bool:
        program = "import tensorflow; print(tensorflow.__version__)"
        python = os.path.join(self.root, NAME, "bin", "python")
        return subprocess.check_output([python, "-c", program], text=True).strip() == "2.8.0"


@pytest.fixture
def site(tmp_path: Path, uv: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    images.need()
    yield Site(tmp_path, uv, monkeypatch)
    images.unmount_all(tmp_path)


@pytest.mark.parametrize(("function", "number"), MOUNTING.values(), ids=MOUNTING)
def test_killed_while_it_mounts(function: str, number: int, site: Site) -> None:
    plain = os.readlink(os.path.join(site.root, NAME))
    site.kill(function, number, "present")
    assert (os.readlink(os.path.join(site.root, NAME)), site.works()) == (plain, True)

    again = site.apply()
    assert again.action == ("switch" if function == "venv._switch" else "build")
    assert site.works()
    found = builds.builds_of(site.root, NAME)
    assert [bool(build.record) for build in found] == [True, True], "no leftovers"
    assert images.mounts_below(site.path) == [found[1].path]
    assert len(site.units.names()) == 2
    assert sorted(path.suffix for path in Path(site.root, ".images").iterdir()) == [".json", ".squashfs"]
    assert site.apply().action == "keep"


@pytest.mark.parametrize(("function", "number"), REMOVING.values(), ids=REMOVING)
def test_killed_while_it_removes(function: str, number: int, site: Site) -> None:
    site.apply()
    site.kill(function, number, "absent")
    assert not os.path.lexists(os.path.join(site.root, NAME)), "no link to what is half removed"
    venv.apply_absent(site.root, NAME, lock_timeout=0)
    assert (images.mounts_below(site.path), site.units.names(), builds.builds_of(site.root, NAME)) == ([], [], [])
    assert os.listdir(Path(site.root, ".images")) == []
