"""Builds, checks and disk of one release next to what else builds one, in turn: medians, ratios, and JSON.

Peers in the same run: `uv venv` with `uv pip sync` (with and without bytecode), `cp -al` of the build, and a playbook
with ansible.builtin.pip. CPU seconds are of the process and its children; goals are compared by them, since the time on
the clock is that of whatever else runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from tensorflow_stack.environment import venv
from tensorflow_stack.environment.builds import Build, live_build
from tensorflow_stack.environment.damage import find_damage
from tensorflow_stack.environment.installing import Installer, import_tensorflow
from tensorflow_stack.environment.interpreter import runs_as
from tensorflow_stack.environment.venv import apply_absent, apply_present
from tensorflow_stack.io.uv import ensure_uv, uv_environment
from tensorflow_stack.node.pythons import find_pythons
from tensorflow_stack.records.distributions import distributions_in, read_rows
from tensorflow_stack.records.environment import EnvironmentSpec
from tensorflow_stack.records.lockfile import Lock, lock_path, read_lock
from tensorflow_stack.tables.load import load_tables

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = REPOSITORY / "roles/tensorflow_release/files"
# What is wanted, by the name of a measurement: another one, how many times, and so many seconds more.
GOALS: dict[str, tuple[str, float, float]] = {
    "warm build": ("cp -al", 1.5, 0.3),
    "cold build": ("cold uv venv and sync", 1.1, 0.0),
}
LIMITS = {"unchanged, by sizes": 0.05, "change of release, live and imported": 8.0}
FASTER = {"warm build": ("ansible.builtin.pip, warm", 15.0), "whole command, warm": ("ansible.builtin.pip, warm", 5.0)}
MOST_NEW_BLOCKS = 0.3


class Bench:
    """A root, a cache and a wheel cache of its own; what was measured, by name."""

    def __init__(self, directory: Path, python: str, release: str) -> None:
        self.directory, self.python, self.release = directory, python, release
        program = "import sys; print('%d.%d' % sys.version_info[:2])"
        self.minor = subprocess.check_output([python, "-c", program], text=True).strip()
        record = load_tables(str(FILES / "tables")).uv(platform.machine())
        assert record is not None
        self.root = directory / "root"
        self.uv = ensure_uv(directory=str(self.root / ".tools"), record=record._asdict(), index_url=None)
        self.seen: dict[str, list[tuple[float, float]]] = {}
        self.imported = (0.0, 0.0)
        venv.import_tensorflow = self.import_tensorflow

    def lock(self, release: str) -> tuple[str, Lock]:
        asked = {"release": release, "python": self.minor, "platform": f"linux_{platform.machine()}", "flavour": "cpu"}
        path = lock_path(str(FILES / "locks"), **asked)
        return path, read_lock(path)

    @contextlib.contextmanager
    def measured(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), _cpu()
        yield
        self.see(name, (time.perf_counter() - wall, _cpu() - cpu))

    def build(self, name: str, release: str, *, root: Path | None = None) -> None:
        root = root or self.root
        spec = EnvironmentSpec(name, str(root), release, "cpu", self.python, self.lock(release)[1])
        installer = Installer(uv=self.uv, cache=str(root / ".cache" / "uv"))
        apply_present(spec, installer=lambda: installer, keep=1, lock_timeout=0)

    def measured_build(self, name: str, *arguments: str, root: Path | None = None) -> None:
        """A build and its first import, and both apart."""
        wall, cpu = time.perf_counter(), _cpu()
        self.imported = (0.0, 0.0)
        self.build(*arguments, root=root)
        found = (time.perf_counter() - wall, _cpu() - cpu)
        self.see(f"{name} and its import", found)
        self.see(name, (found[0] - self.imported[0], found[1] - self.imported[1]))

    def see(self, name: str, found: tuple[float, float]) -> None:
        self.seen.setdefault(name, []).append(found)
        print(f"{name:45} {found[0]:8.3f} s {found[1]:8.3f} CPU s", flush=True)

    def import_tensorflow(self, *arguments: Any, **options: Any) -> None:
        wall, cpu = time.perf_counter(), _cpu()
        import_tensorflow(*arguments, **options)
        self.imported = (time.perf_counter() - wall, _cpu() - cpu)

    def sync(self, cache: Path, *options: str) -> None:
        path = self.directory / "peer"
        environment = uv_environment(cache=str(cache))
        _run([self.uv, "venv", "-q", "--clear", "-p", self.python, str(path)], env=environment)
        command = [self.uv, "pip", "sync", "-q", "-p", str(path), "--require-hashes", *options]
        _run([*command, self.lock(self.release)[0]], env=environment)
        shutil.rmtree(path)

    def pip(self) -> None:
        """As a playbook without this toolkit would do it."""
        path = self.directory / "peer"
        play = self.directory / "pip.yml"
        task = {"requirements": self.lock(self.release)[0], "virtualenv": str(path)}
        task["virtualenv_command"] = f"{self.python} -m venv"
        tasks = [{"ansible.builtin.pip": task}]
        play.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        playbook = str(Path(sys.executable).parent / "ansible-playbook")
        interpreter = f"ansible_python_interpreter={self.python}"
        _run([playbook, "-i", "localhost,", "-c", "local", "-e", interpreter, str(play)], cwd=self.directory)
        shutil.rmtree(path)

    def command(self, name: str) -> None:
        """The whole of `make workstation`, apart from make."""
        playbook = str(Path(sys.executable).parent / "ansible-playbook")
        given = {"tensorflow_version": self.release, "tensorflow_root": str(self.root), "environment_name": name}
        given |= {"tensorflow_environment": name, "tensorflow_python": self.python}
        command = [playbook, "-i", "inventories/workstation", "playbooks/workstation.yml", "-e", json.dumps(given)]
        _run(command, cwd=REPOSITORY)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _run(command: list[str], **how: Any) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def measure(bench: Bench, *, other: str, neighbour: str, pairs: int, is_short: bool) -> dict[str, float]:
    release, root = bench.release, bench.root
    for _ in range(1 if is_short else 2):
        # In turn, and each with an empty cache. What the index sends is the same bytes twice.
        with bench.measured("cold uv venv and sync"):
            bench.sync(bench.directory / "cold", "--compile-bytecode")
        shutil.rmtree(bench.directory / "cold")
        bench.measured_build("cold build", "cold", release, root=bench.directory / "other")
        shutil.rmtree(bench.directory / "other")
    bench.build("first", release)
    # A copy whose files are of no build: links to them are no reason to compare those of the store (decision 0048).
    first = str(bench.directory / "copied")
    _run(["cp", "-a", os.path.realpath(root / "first"), first])
    cache = root / ".cache" / "uv"
    for _ in range(pairs):
        with bench.measured("cp -al"):
            _run(["cp", "-al", first, str(root / "copy")])
        shutil.rmtree(root / "copy")
        bench.measured_build("warm build", "warm", release)
        apply_absent(str(root), "warm", lock_timeout=0)
        with bench.measured("uv venv and sync"):
            bench.sync(cache, "--offline")
        with bench.measured("uv venv and sync, with bytecode"):
            bench.sync(cache, "--offline", "--compile-bytecode")
        _unchanged(bench)
    _change(bench, other, pairs=min(pairs, 3))
    shares = {"new blocks of shared distributions": _neighbour(bench, neighbour)}
    if not is_short:
        bench.pip()  # which fills pip's cache
        for _ in range(2):
            with bench.measured("ansible.builtin.pip, warm"):
                bench.pip()
            with bench.measured("whole command, warm"):
                bench.command("whole")
            apply_absent(str(root), "whole", lock_timeout=0)
    return shares


def _unchanged(bench: Bench) -> None:
    build = live_build(str(bench.root), "first")
    assert build is not None
    for name, hashed in (("unchanged, by sizes", ()), ("unchanged, by hashes", build.packages)):
        with bench.measured(name):
            damage = find_damage(build, hashed=hashed)
        if damage:
            sys.exit(f"It is damaged: {damage[0].text}")


def _change(bench: Bench, other: str, *, pairs: int) -> None:
    """An environment from one release to the other and back; only one of the two ways is measured."""
    bench.build("changing", other)
    bench.build("changing", bench.release)
    for _ in range(pairs):
        bench.build("changing", other)
        with bench.measured("change of release, live and imported"):
            bench.build("changing", bench.release)
    apply_absent(str(bench.root), "changing", lock_timeout=0)


def _neighbour(bench: Bench, release: str) -> float:
    """Of the distributions that both environments have at one version: new blocks of those that they take in all."""
    bench.build("neighbour", release)
    builds = [live_build(str(bench.root), name) for name in ("first", "neighbour")]
    first, second = (build for build in builds if build is not None and build.record is not None)
    shared = dict(first.packages.items() & second.packages.items())
    seen = {status.st_ino for status in _statuses(first, shared)}
    found = _statuses(second, shared)
    added = sum(status.st_blocks for status in found if status.st_ino not in seen)
    return added / sum(status.st_blocks for status in found)


def _statuses(build: Build, packages: Mapping[str, str]) -> list[os.stat_result]:
    """Of the files of these distributions, with the bytecode of their modules."""
    assert build.record is not None
    site_packages = Path(build.path, build.record["site_packages"])
    found = []
    for name, installed in distributions_in(os.listdir(site_packages)).items():
        rows = read_rows(str(site_packages / installed[0][1] / "RECORD")) if name in packages else None
        for path in (site_packages / row[0] for row in rows or ()):
            compiled = (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc") if path.suffix == ".py" else ()
            found += [os.lstat(one) for one in (path, *compiled) if one.exists()]
    return found


def verdicts(medians: dict[str, float], shares: dict[str, float]) -> list[str]:
    """Each goal with what was measured."""
    said = []

    def judge(name: str, value: str, is_reached: bool) -> None:
        said.append(f"{'reached' if is_reached else 'MISSED ':8} {name}: {value}")

    for name, (peer, times, more) in GOALS.items():
        if name in medians and peer in medians:
            most = times * medians[peer] + more
            times = medians[name] / medians[peer]
            text = f"{medians[name]:.2f} CPU s, {times:.2f} times {peer}; at most {most:.2f}"
            judge(name, text, medians[name] <= most)
    for name, most in LIMITS.items():
        if name in medians:
            judge(name, f"{medians[name]:.3f} CPU s; at most {most:g}", medians[name] <= most)
    for name, (peer, times) in FASTER.items():
        if name in medians and peer in medians:
            found = medians[peer] / medians[name]
            judge(f"{name} against {peer}", f"{found:.1f} times less CPU; at least {times:g}", found >= times)
    for name, share in shares.items():
        judge(name, f"{share:.0%}; at most {MOST_NEW_BLOCKS:.0%}", share <= MOST_NEW_BLOCKS)
    return said


def _find_python(release: str) -> str:
    locks = {path.name[2:].partition("-")[0] for path in (FILES / "locks" / f"tensorflow-{release}").iterdir()}
    rows = [row for row in find_pythons()[0] if row["minor"].replace(".", "") in locks]
    for row in reversed(rows):
        if runs_as(row["path"], row["minor"]):
            return str(row["path"])
    sys.exit(f"No Python of this machine has a lock of {release}. Set --python.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="2.8.0")
    parser.add_argument("--other", default="2.10.1", help="what is changed from")
    parser.add_argument("--neighbour", default="2.8.4", help="the second environment in the root")
    parser.add_argument("--python", help="an interpreter; without it the newest of this machine that has a lock")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="without pip, whole commands and a second cold pair")
    parser.add_argument("--json", type=Path, default=REPOSITORY / ".cache" / "bench.json")
    options = parser.parse_args()
    options.python = options.python or _find_python(options.release)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        os.chmod(directory, 0o755)
        bench = Bench(Path(directory), options.python, options.release)
        chosen = {"other": options.other, "neighbour": options.neighbour, "pairs": options.pairs}
        shares = measure(bench, **chosen, is_short=options.short)
    rows = {
        name: {"seconds": statistics.median(wall for wall, _ in seen), "cpu": statistics.median(cpu for _, cpu in seen)}
        for name, seen in bench.seen.items()
    }
    print(f"\n{'median':45} {'seconds':>8}   {'CPU s':>8}   {'of cp -al':>9}")
    for name, row in rows.items():
        print(f"{name:45} {row['seconds']:8.3f} s {row['cpu']:8.3f}   {row['cpu'] / rows['cp -al']['cpu']:9.2f}")
    said = verdicts({name: row["cpu"] for name, row in rows.items()}, shares)
    print("\n" + "\n".join(said))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    content = {
        "release": options.release,
        "load": load,
        "medians": rows,
        "all": bench.seen,
        "shares": shares,
        "goals": said,
    }
    options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\n{options.json} has all of it. The load is {load:.1f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
