"""Breaks the system side one task or line at a time, in a copy, and shows that some scenario notices: `--help`.

Each scenario's hosts are made and prepared once a run and kept as images until its end; what is broken is applied to
fresh hosts of these. A scenario has to pass before it is asked about what is broken. Where it is the making or
preparing of hosts that fails, nothing was noticed: the run ends there. All 76 took 100 minutes on two cores that others
used as well; a test notices in seconds, a scenario in one to four minutes. `turn` runs eight of them, and the next
eight on the next day.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.hosts import stand_ins
from tests.hosts.engine import Engine, known_images
from tests.hosts.run import CACHE, REPOSITORY, tail

HERE = Path(__file__).resolve().parent
PARTS = (
    *(
        "action_plugins",
        "ansible.cfg",
        "callback_plugins",
        "inventories",
        "library",
        "module_utils",
        "playbooks",
        "pyproject.toml",
    ),
    *("roles", "tests"),
)
# Tools and doubles: what has been made is used, and nothing that is broken here is in it.
SHARED = (".cache", ".tools")
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
IN_TURN = 8


@dataclass(frozen=True)
class Mutation:
    """`text` is what the file is broken to; `name` says how."""

    name: str
    file: str
    text: str
    scenarios: tuple[str, ...]


# --- What is broken -------------------------------------------------------------------------------------


def find_mutations(plan: dict[str, Any]) -> list[Mutation]:
    of_tasks = [mutation for role, noticing in plan["roles"].items() for mutation in _of_role(role, noticing)]
    return of_tasks + [_of_code(row) for row in plan["code"]]


def _of_role(role: str, noticing: dict[str, list[str]]) -> Iterator[Mutation]:
    """One for every task: it is never run."""
    for path in sorted((REPOSITORY / "roles" / role / "tasks").glob("*.yml")):
        for number in range(len(_flat(yaml.safe_load(path.read_text())))):
            tasks = yaml.safe_load(path.read_text())
            task = _flat(tasks)[number]
            task["when"] = False
            name = f"{role}/{path.stem}: {task['name']}"
            yield Mutation(
                name,
                str(path.relative_to(REPOSITORY)),
                yaml.safe_dump(tasks, sort_keys=False),
                tuple(noticing[path.stem]),
            )


def _flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With those in blocks."""
    found = []
    for task in tasks:
        found.append(task)
        for part in ("block", "rescue", "always"):
            found += _flat(task.get(part, []))
    return found


def _of_code(row: dict[str, Any]) -> Mutation:
    text = (REPOSITORY / row["file"]).read_text()
    if text.count(row["from"]) != 1:
        raise SystemExit(f"{row['what']}: {row['file']} has {row['from']!r} {text.count(row['from'])} times, not once")
    broken = text.replace(row["from"], row["to"])
    if row["file"].endswith(".py"):
        compile(broken, row["what"], "exec")  # What Python cannot read, everybody notices.
    return Mutation(row["what"], row["file"], broken, tuple(row["scenarios"]))


def choose(mutations: Sequence[Mutation], words: Sequence[str], day: datetime.date) -> list[Mutation]:
    """All, those with one of the words in their name, or the next few each day: neighbours, which share hosts."""
    if list(words) == ["turn"]:
        start = day.toordinal() * IN_TURN % len(mutations)
        return [*mutations, *mutations][start : start + min(IN_TURN, len(mutations))]
    return [mutation for mutation in mutations if not words or any(word in mutation.name for word in words)]


# --- Who notices ----------------------------------------------------------------------------------------


@dataclass
class Site:
    """A copy of the repository, and of each scenario the images of its prepared hosts."""

    copy: Path
    engine: Engine
    tags: dict[str, str]
    hosts: dict[str, list[str]]
    prepared_again: list[str]
    images: dict[str, dict[str, str]] = field(default_factory=dict)
    sound: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def broken(self, mutation: Mutation) -> Iterator[None]:
        path = self.copy / mutation.file
        before = path.read_text()
        path.write_text(mutation.text)
        try:
            yield
        finally:
            path.write_text(before)

    def notices(self, scenario: str, mutation: Mutation) -> str | None:
        """Where the scenario ends when this is broken; None where it ends well."""
        if scenario not in self.sound:
            started = time.monotonic()
            where = self._first_failure(scenario)
            if where:
                raise SystemExit(f"{scenario} fails where nothing is broken, {where}:\n{tail(self._log(scenario))}")
            self.sound.add(scenario)
            print(f"{scenario:<90} passes unbroken  {time.monotonic() - started:.0f} s", flush=True)
        return self._first_failure(scenario, mutation)

    def _first_failure(self, scenario: str, mutation: Mutation | None = None) -> str | None:
        """What is broken is whole while hosts are made."""
        broken = self.broken(mutation) if mutation else contextlib.nullcontext()
        if ".py" in scenario:
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", scenario]
            with broken:
                return _failed_test(self._log(scenario)) if self._run(command, scenario, {}) else None
        if scenario not in self.images:
            self._keep_prepared(scenario)
        try:
            self._create(scenario, self.images[scenario])
            if scenario in self.prepared_again:
                self._prepare(scenario)
            with broken:
                for step in ("converge", "verify"):
                    if self._play(scenario, step):
                        return f"{step}: {_failed_task(self._log(scenario))}"
            return None
        finally:
            self.engine.remove(f"testhost={self._prefix(scenario)}")

    def _keep_prepared(self, scenario: str) -> None:
        directory = self._directory(scenario)
        inventory = yaml.safe_load((directory / "hosts.yml").read_text())
        group = inventory["testhosts"]
        kept = self.hosts.get(scenario, list(group["hosts"]))
        group["hosts"] = {name: group["hosts"][name] or {} for name in kept}
        base = {}
        for name, variables in group["hosts"].items():
            stand_ins.write(self._work(scenario) / "stand-ins" / name, {**(group.get("vars") or {}), **variables})
            base[name] = self.tags[(group.get("vars") or {}).get("testhost_image") or variables["testhost_image"]]
            variables["testhost_image"] = name
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory, sort_keys=False))
        try:
            self._create(scenario, base)
            self._prepare(scenario)
            images = self.images.setdefault(scenario, {})
            for name in kept:
                image = f"localhost/testhost-{self._prefix(scenario)}:{name}"
                self._podman("commit", "--quiet", f"{self._prefix(scenario)}-{name}", image)
                images[name] = image
        finally:
            self.engine.remove(f"testhost={self._prefix(scenario)}")

    def remove(self) -> None:
        listed = [image for images in self.images.values() for image in images.values()]
        if listed:
            self._podman("rmi", "--force", *listed)

    # --- Commands -------------------------------------------------------------------------------------

    def _create(self, scenario: str, images: dict[str, str]) -> None:
        self.engine.remove(f"testhost={self._prefix(scenario)}")
        if self._play(scenario, "create", images=images):
            raise SystemExit(f"{scenario}: its hosts cannot be made:\n{tail(self._log(scenario))}")

    def _prepare(self, scenario: str) -> None:
        if self._play(scenario, "prepare"):
            raise SystemExit(f"{scenario} cannot be prepared:\n{tail(self._log(scenario))}")

    def _play(self, scenario: str, step: str, images: dict[str, str] | None = None) -> int:
        directory, hosts = self._directory(scenario), self.copy / "tests" / "hosts"
        playbook = hosts / "create.yml" if step == "create" else directory / f"{step}.yml"
        if not playbook.exists():
            return 0
        settings = {
            "ANSIBLE_CONFIG": str(self.copy / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self._work(scenario) / "molecule"),
            "MOLECULE_SCENARIO_DIRECTORY": str(directory),
            "TESTHOSTS_DIRECTORY": str(hosts),
            "TESTHOSTS_IMAGES": json.dumps(images or {}),
            "TESTHOSTS_PREFIX": self._prefix(scenario),
            "TESTHOSTS_STAND_INS": str(self._work(scenario) / "stand-ins"),
        }
        options = [f"--inventory={hosts / 'inventory.yml'}", f"--inventory={directory / 'hosts.yml'}"]
        # Molecule's own variable, which create.yml reads.
        options.append(f"--extra-vars=molecule_ephemeral_directory={settings['MOLECULE_EPHEMERAL_DIRECTORY']}")
        return self._run([str(ANSIBLE_PLAYBOOK), *options, str(playbook)], scenario, settings)

    def _run(self, command: list[str], scenario: str, settings: dict[str, str]) -> int:
        environment = {**self.engine.environment, **settings}
        with open(self._log(scenario), "wb") as log:
            return subprocess.run(
                command, cwd=self.copy, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            ).returncode

    def _podman(self, *arguments: str) -> None:
        subprocess.run(["podman", *arguments], env=self.engine.environment, check=True, stdout=subprocess.DEVNULL)

    def _directory(self, scenario: str) -> Path:
        role, _, name = scenario.rpartition("/")
        return self.copy / "roles" / role / "molecule" / name if role else self.copy / "tests" / "molecule" / name

    def _work(self, scenario: str) -> Path:
        work = self.copy / "work" / scenario
        (work / "molecule").mkdir(parents=True, exist_ok=True)
        return work

    def _log(self, scenario: str) -> Path:
        return self.copy / "work" / f"{scenario.replace('/', '-')}.log"

    def _prefix(self, scenario: str) -> str:
        return f"mutation-{os.getpid()}-{scenario.replace('/', '-').replace('_', '-')}"


def _failed_task(log: Path) -> str:
    """The tasks at which hosts failed and were not rescued."""
    text = log.read_text(errors="replace")
    failed = re.findall(r"^(\S+) +: ok=.* (?:unreachable|failed)=[1-9]", text, re.MULTILINE)
    task, places = "", {}
    for line in text.splitlines():
        if line.startswith("TASK ["):
            task = line[len("TASK [") :].rpartition("]")[0]
        elif line.startswith("fatal: ["):
            places[line[len("fatal: [") :].partition("]")[0].partition(" ->")[0]] = task
    return ", ".join(f"{places[host]} ({host})" for host in failed if host in places) or task


def _failed_test(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return next((line.split()[1].rpartition("::")[2] for line in lines if line.startswith(("FAILED ", "ERROR "))), "?")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutations with one of these in their name, or turn")
    parser.add_argument("--list", action="store_true", help="name the mutations, and run nothing")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = yaml.safe_load((HERE / "mutations.yml").read_text())
    mutations = choose(find_mutations(plan), arguments.words, datetime.datetime.now(datetime.timezone.utc).date())
    if arguments.list:
        print("\n".join(mutation.name for mutation in mutations))
        return 0
    engine = Engine(CACHE)
    tags, missing = engine.prepare(known_images())
    if missing:
        raise SystemExit("; ".join(f"{name}: {reason}" for name, reason in missing.items()))
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as directory:
        site = Site(Path(directory), engine, tags, plan["hosts"], plan["prepared_again"])
        for part in PARTS:
            copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
            copy(REPOSITORY / part, site.copy / part)
        for part in SHARED:
            (site.copy / part).symlink_to(REPOSITORY / part)
        (site.copy / "work").mkdir()
        site.copy.chmod(0o755)
        try:
            for mutation in mutations:
                survivors += not _is_noticed(site, mutation)
        finally:
            site.remove()
    print(f"{len(mutations) - survivors} of {len(mutations)} noticed")
    return 1 if survivors else 0


def _is_noticed(site: Site, mutation: Mutation) -> bool:
    started = time.monotonic()
    failures = ((scenario, site.notices(scenario, mutation)) for scenario in mutation.scenarios)
    noticed = next((f"{scenario}: {where}" for scenario, where in failures if where), None)
    print(f"{mutation.name:<90} {noticed or 'SURVIVED'}  {time.monotonic() - started:.0f} s", flush=True)
    return noticed is not None


if __name__ == "__main__":
    sys.exit(main())
