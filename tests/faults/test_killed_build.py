"""Builds killed by SIGKILL: the live environment works each time, and the next run completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, changes, installing, venv
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.wheels import make_lock, make_tensorflow

NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]

# Where the run dies: a function, and whether before its first or second call, during it or after it.
POINTS = {
    "before_anything_is_installed": ("install", "before"),
    "in_the_middle_of_the_installation": ("BuildLog.run", "during"),
    "installed_and_not_checked": ("import_tensorflow", "before"),
    "checked_and_not_complete": ("sync_file_system", "before"),
    "record_written_and_not_in_place": ("os.replace", "before"),
    "complete_and_not_switched": ("_switch", "before"),
    "in_the_middle_of_the_switch": ("os.replace", "second"),
    "switched_and_old_builds_not_removed": ("_switch", "after"),
}

CHILD = """
import os, pickle, signal, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from ansible.module_utils.tensorflow_stack.environment import builds, changes, installing, venv

spec, uv, wheels, function, moment = pickle.load(sys.stdin.buffer)
*owners, name = function.split(".")
owner = {"os": os, "BuildLog": installing.BuildLog}[owners[0]] if owners else venv
original = getattr(owner, name)
calls = 0

def killed(*arguments, **options):
    global calls
    calls += 1
    if moment == "before" or (moment, calls) == ("second", 2):
        os.kill(os.getpid(), signal.SIGKILL)
    if calls == 2 and moment == "during":  # the first command makes the empty venv, the second one fills it
        if os.fork() == 0:
            parent = os.getppid()
            import time; time.sleep(0.03)
            os.kill(parent, signal.SIGKILL)
            os._exit(0)
    result = original(*arguments, **options)
    if moment == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, killed)
installer = installing.Installer(uv=uv, index_url=wheels, cache=os.path.join(spec.root, ".cache", "uv"))
venv.apply_present(spec, installer=lambda: installer, keep=2, lock_timeout=0)
"""


def _spec(root: str, *distributions) -> EnvironmentSpec:
    return EnvironmentSpec(
        name=NAME,
        root=root,
        release="2.8.0",
        flavour="cpu",
        python=os.path.realpath(sys.executable),
        lock=make_lock(*distributions, release="2.8.0", python=MINOR),
    )


def _version(root: str) -> str:
    program = "import tensorflow; print(tensorflow.__version__)"
    return subprocess.check_output([os.path.join(root, NAME, "bin", "python"), "-c", program], text=True).strip()


@pytest.mark.parametrize(("function", "moment"), POINTS.values(), ids=POINTS)
def test_killed(function: str, moment: str, tmp_path: Path, uv: str) -> None:
    import pickle

    wheels = tmp_path / "wheels"
    wheels.mkdir()
    root = str(tmp_path / "root")
    old = _spec(root, make_tensorflow(wheels, "2.8.0"))
    new = _spec(root, make_tensorflow(wheels, "2.8.0.post1", "data = '" + "x" * 4_000_000 + "'"))
    installer = installing.Installer(uv=uv, index_url=wheels.as_uri(), cache=os.path.join(root, ".cache", "uv"))
    venv.apply_present(old, installer=lambda: installer, keep=2, lock_timeout=0)

    module_utils = Path(venv.__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(module_utils)],
        input=pickle.dumps((new, uv, wheels.as_uri(), function, moment)),
        capture_output=True,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()

    is_switched = (function, moment) == ("_switch", "after")
    expected = "2.8.0.post1" if is_switched else "2.8.0"
    assert _version(root) == expected, "the live environment works"
    again = venv.apply_present(new, installer=lambda: installer, keep=2, lock_timeout=30)
    is_complete = function == "_switch" or moment == "second"
    assert again.action == ("keep" if is_switched else "switch" if is_complete else "build")
    assert _version(root) == "2.8.0.post1"
    assert all(build.record for build in builds.builds_of(root, NAME)), "no leftovers"
    assert changes.plan_present(new).action == "keep"
