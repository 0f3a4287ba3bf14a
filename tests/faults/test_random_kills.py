"""Builds killed by SIGKILL at random moments: `make faults KILLS=500`; SEED= repeats the moments of a run."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.environment import builds, changes, installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
from ansible.module_utils.tensorflow_stack.records import manifest
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec

from tests.wheels import make_lock, make_tensorflow

pytestmark = pytest.mark.slow  # a second or two for each moment; test_killed_build.py has the boundaries in CI

KILLS = int(os.environ.get("KILLS") or 20)
SEED = int(os.environ.get("SEED") or time.time())
NAME = "tensorflow-2.8.0"
MINOR = "%d.%d" % sys.version_info[:2]
CHILD = """
import os, pickle, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from ansible.module_utils.tensorflow_stack.environment import installing, venv
from ansible.module_utils.tensorflow_stack.environment.bookkeeping import Done, record_in_manifest
spec, uv, wheels = pickle.load(sys.stdin.buffer)
installer = installing.Installer(uv=uv, index_url=wheels, cache=os.path.join(spec.root, ".cache", "uv"))
print("begun", flush=True)
outcome = venv.apply_present(spec, installer=lambda: installer, keep=1, lock_timeout=0)
record_in_manifest(spec.root, spec.name, Done(outcome.action, outcome.before.name if outcome.before else None))
"""


def says(root: str) -> str:
    python, program = os.path.join(root, NAME, "bin", "python"), "import tensorflow; print(tensorflow.__version__)"
    return subprocess.run([python, "-B", "-c", program], capture_output=True, text=True).stdout.strip()


def processes_about(root: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if root.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_whatever_the_moment_the_environment_works_and_the_next_run_completes(tmp_path: Path, uv: str) -> None:
    wheels, root = tmp_path / "wheels", str(tmp_path / "root")
    wheels.mkdir()

    def spec(*distributions: Any) -> EnvironmentSpec:
        lock = make_lock(*distributions, release="2.8.0", python=MINOR)
        return EnvironmentSpec(NAME, root, "2.8.0", "cpu", os.path.realpath(sys.executable), lock)

    versions = ["2.8.0", "2.8.0.post1"]
    specs = [spec(make_tensorflow(wheels, one, f"data = '{one * 200_000}'")) for one in versions]
    installer = installing.Installer(uv=uv, index_url=wheels.as_uri(), cache=os.path.join(root, ".cache", "uv"))

    def apply(wanted: EnvironmentSpec) -> None:
        outcome = venv.apply_present(wanted, installer=lambda: installer, keep=1, lock_timeout=30)
        record_in_manifest(root, NAME, Done(outcome.action, outcome.before.name if outcome.before else None))

    def killed_after(wait: float | None, wanted: EnvironmentSpec) -> tuple[bool, float]:
        """A child that applies it, killed if it still runs after `wait` seconds: was it killed, and after how long."""
        command = [sys.executable, "-c", CHILD, str(Path(venv.__file__).parents[2])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
            assert child.stdin and child.stdout
            child.stdin.write(pickle.dumps((wanted, uv, wheels.as_uri())))
            child.stdin.close()
            child.stdout.readline()
            started = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(wait)
            child.send_signal(signal.SIGKILL)
            return child.wait() == -signal.SIGKILL, time.monotonic() - started

    apply(specs[0])
    apply(specs[1])
    # Bytecode is there from now on, so that each change takes as long as these.
    longest = max(killed_after(None, specs[number % 2])[1] for number in range(4))
    moments, killed, tried, current = random.Random(SEED), 0, 0, 1
    print(f"SEED={SEED}, {KILLS} moments in {longest:.2f} s")
    while killed < KILLS:
        tried += 1
        about = f"SEED={SEED}, moment {tried}"
        killed += killed_after(moments.uniform(0, longest), specs[1 - current])[0]
        assert says(root) in versions, about
        manifest.read(root)
        deadline = time.monotonic() + 3
        while processes_about(root) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_about(root) == [], f"{about}: what it had started goes on"
        apply(specs[1 - current])
        current = 1 - current
        assert says(root) == versions[current], about
        assert all(build.record for build in builds.builds_of(root, NAME)), f"{about}: leftovers"
        assert changes.plan_present(specs[current]).action == "keep", about
        assert [path.name for path in Path(root).glob(".*.new")] == [], about
        assert tried < 4 * KILLS, f"SEED={SEED}: {killed} of {tried} were killed, the others had ended"
    print(f"{killed} of {tried} were killed, the others had ended")
