"""Runs molecule's scenarios on hosts of its own: `python -m tests.hosts.run --help`."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.hosts import stand_ins
from tests.hosts.engine import Engine, known_images

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CACHE = REPOSITORY / ".cache" / "molecule"
LANES = ("ci", "default", "slow")
TAIL_LINES = 60


@dataclass(frozen=True)
class Scenario:
    """A folder with a molecule.yml, and its hosts.yml read; `problem` says why it cannot be run."""

    name: str
    directory: Path
    lane: str
    hosts: Mapping[str, Mapping[str, Any]]
    problem: str = ""

    @property
    def images(self) -> set[str]:
        return {variables["testhost_image"] for variables in self.hosts.values()}


@dataclass(frozen=True)
class Outcome:
    name: str
    state: str
    seconds: float
    reason: str = ""

    def __str__(self) -> str:
        line = f"{self.name:<40} {self.state:<8} {self.seconds:5.0f} s"
        return f"{line}  {self.reason}" if self.reason else line


# --- Which ----------------------------------------------------------------------------------------------


def find_scenarios(repository: Path) -> list[Scenario]:
    """Of the roles (`cudnn/default`) and of whole playbooks (`classic_case`, in tests/molecule)."""
    paths = [*repository.glob("roles/*/molecule/*/molecule.yml"), *repository.glob("tests/molecule/*/molecule.yml")]
    return sorted((read_scenario(path.parent) for path in paths), key=lambda scenario: scenario.name)


def read_scenario(directory: Path) -> Scenario:
    owner = directory.parents[1]
    name = directory.name if owner.name == "tests" else f"{owner.name}/{directory.name}"
    file = directory / "hosts.yml"
    try:
        group = yaml.safe_load(file.read_text())["testhosts"]
        of_all = group.get("vars") or {}
        hosts = {host: {**of_all, **(variables or {})} for host, variables in group["hosts"].items()}
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        said = f"{file} does not name the hosts ({type(error).__name__}: {error}); {HERE / 'README.md'} says how"
        return Scenario(name=name, directory=directory, lane="", hosts={}, problem=said)
    problems = [
        f"{host}: testhost_image is {variables.get('testhost_image')}, not one of {', '.join(known_images())}"
        for host, variables in hosts.items()
        if variables.get("testhost_image") not in known_images()
    ]
    lane = of_all.get("testhost_lane", "default")
    if lane not in LANES:
        problems.append(f"testhost_lane is {lane}, not one of {', '.join(LANES)}")
    if problems:
        return Scenario(name=name, directory=directory, lane="", hosts={}, problem=f"{file}: " + "; ".join(problems))
    return Scenario(name=name, directory=directory, lane=lane, hosts=hosts)


def choose(scenarios: Iterable[Scenario], *, names: Sequence[str], lane: str) -> list[Scenario]:
    """Those named, else all of the lane, with those that cannot be read; the default lane has those of ci too."""
    known = {scenario.name: scenario for scenario in scenarios}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"No scenario {', '.join(unknown)}. There are: {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    lanes = ("ci", "default") if lane == "default" else (lane,)
    return [scenario for scenario in known.values() if scenario.problem or scenario.lane in lanes]


# --- Running --------------------------------------------------------------------------------------------


class Runner:
    def __init__(self, engine: Engine, tags: Mapping[str, str], *, step: str, keep: bool) -> None:
        self._engine = engine
        self._tags = tags
        self._step = step
        self._keep = keep
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = False

    def run(self, scenario: Scenario) -> Outcome:
        """Molecule over one scenario, in a folder and with hosts of its own."""
        started = time.monotonic()
        work = CACHE / scenario.name
        work.mkdir(parents=True, exist_ok=True)
        with open(work / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Outcome(scenario.name, "FAILED", 0, "it is already running in this checkout")
            label = f"testhost={prefix_of(scenario)}"
            if self._step in ("test", "create") or not self._engine.has(label):
                self._engine.remove(label)
                # Of hosts that a killed run left, molecule remembers that they are there.
                shutil.rmtree(work / "molecule", ignore_errors=True)
                for host, variables in scenario.hosts.items():
                    stand_ins.write(work / "stand-ins" / host, variables)
            ended = self._molecule(scenario, work)
            if self._step == "test" and not self._keep:
                self._engine.remove(label)
        return Outcome(scenario.name, "FAILED" if ended else "ok", time.monotonic() - started)

    def stop(self) -> None:
        """Ends what runs, with everything that it started; its hosts are removed as after any run."""
        self._is_stopped = True
        for process in list(self._running):
            os.killpg(process.pid, signal.SIGKILL)

    def _molecule(self, scenario: Scenario, work: Path) -> int:
        command = ["molecule", f"--base-config={HERE / 'molecule.yml'}", self._step, "--no-command-borders"]
        command.append(f"--scenario-name={scenario.directory.name}")
        if self._step == "test":
            command.append(f"--destroy={'never' if self._keep else 'always'}")
        environment = {
            **self._engine.environment,
            "NO_COLOR": "1",
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(work / "molecule"),
            "TESTHOSTS_DIRECTORY": str(HERE),
            "TESTHOSTS_PREFIX": prefix_of(scenario),
            "TESTHOSTS_IMAGES": json.dumps(dict(self._tags)),
            "TESTHOSTS_STAND_INS": str(work / "stand-ins"),
        }
        if self._is_stopped:
            return 1
        with open(log_of(scenario.name), "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=scenario.directory.parents[1],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
            ended = process.wait()
            self._running.discard(process)
        return ended


def prefix_of(scenario: Scenario) -> str:
    """Of the names of its containers: no other scenario's, and no other checkout's."""
    checkout = hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:4]
    return f"testhost-{checkout}-{scenario.name.replace('/', '-').replace('_', '-')}"


def log_of(name: str) -> Path:
    return CACHE / f"{name.replace('/', '-')}.log"


def tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="such as cudnn/default; all of the lane where none is named")
    parser.add_argument("--lane", choices=LANES, default="default", help="default: all but the slow ones")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--step", default="test", help="of molecule: create, converge, verify, destroy; test is all")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running afterwards")
    parser.add_argument("--images", action="store_true", help="make the images of all hosts, and run nothing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    scenarios = choose(find_scenarios(REPOSITORY), names=arguments.scenario, lane=arguments.lane)
    engine = Engine(CACHE)
    names = set(known_images()) if arguments.images else {name for each in scenarios for name in each.images}
    tags, missing = engine.prepare(names)
    if arguments.images:
        for name in sorted(names):
            print(f"{name:<40} {tags.get(name) or 'MISSING  ' + missing[name]}")
        return 1 if missing else 0

    runner = Runner(engine, tags, step=arguments.step, keep=arguments.keep)

    def outcome_of(scenario: Scenario) -> Outcome:
        lacking = sorted(scenario.images & set(missing))
        if scenario.problem:
            outcome = Outcome(scenario.name, "FAILED", 0, scenario.problem)
        elif lacking:
            outcome = Outcome(scenario.name, "SKIPPED", 0, "; ".join(f"{name}: {missing[name]}" for name in lacking))
        else:
            outcome = runner.run(scenario)
        print(outcome, flush=True)
        return outcome

    with ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        try:
            outcomes = list(pool.map(outcome_of, scenarios))
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            raise SystemExit("interrupted; the hosts are removed") from None
    return report(outcomes, in_ci=os.environ.get("CI", "").lower() == "true")


def report(outcomes: Sequence[Outcome], *, in_ci: bool) -> int:
    """The logs of what failed, a line for all, and the exit status: in CI a host that cannot be had is a failure."""
    failed = [outcome for outcome in outcomes if outcome.state == "FAILED"]
    skipped = [outcome for outcome in outcomes if outcome.state == "SKIPPED"]
    for outcome in failed:
        if not outcome.reason:  # Else it did not run, and the log is another run's.
            print(f"\n--- {log_of(outcome.name)}, its end:\n{tail(log_of(outcome.name))}")
    passed = len(outcomes) - len(failed) - len(skipped)
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    if skipped and in_ci:
        print("With CI=true nothing may be skipped.")
    return 1 if failed or (skipped and in_ci) else 0


if __name__ == "__main__":
    sys.exit(main())
