#!/usr/bin/env python3
"""Check the Galaxy collection with ansible-test sanity, antsibull-docs and Galaxy's importer.

    .venv/bin/python scripts/check_collection.py                 everything, with the newest ansible-core
    .venv/bin/python scripts/check_collection.py --core oldest   ansible-test alone, with the oldest one
    .venv/bin/python scripts/check_collection.py --update        write what ansible-test finds and REASONS accepts

Ends with 1 if a check finds something.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import make_collection  # noqa: E402  # found by the line above

TOOLS = REPOSITORY / ".venv-collection" / "bin"
IGNORED = REPOSITORY / "collection" / "tests" / "sanity"
CORES = {"newest": ".venv", "oldest": ".venv-oldest"}
# Why a finding of ansible-test stays, by test and code; by the end of the path if it is not of any file.
_CONTROLLER = "runs on the controller, whose ansible-core requires PyYAML, packaging and Jinja2"
REASONS: dict[tuple[str, str], str] = {
    ("validate-modules", "missing-gplv3-license"): "the license is Apache-2.0",
    ("validate-modules", "import-error"): _CONTROLLER,
    ("import", "traceback"): _CONTROLLER,
    ("empty-init", ""): "its docstring says what the room is for",
    ("pep8", "E704"): "methods of a protocol, as ruff lays them out",
    ("no-assert", ""): "an invariant, for the reader and the type checker",
}
_TEST = re.compile(r'Running sanity test "(?P<test>[\w-]+)"(?: on Python (?P<python>[\d.]+))?')
_FINDING = re.compile(r"ERROR: (?P<path>[\w./-]+):\d+:\d+: (?:(?P<code>[A-Za-z0-9-]+): )?(?P<text>.*)")
# Tests that are not run at all.
SKIPPED = {"pylint": "ruff and mypy read the same code for make lint, in seconds; this takes minutes"}
# In place of the script that ansible-test downloads from its own server: this needs the package index alone.
_PIP = "import ensurepip\n\nensurepip.bootstrap()\n"


def findings(output: str) -> tuple[list[str], list[str]]:
    """The lines of an ignore file for what has a reason, and what has none."""
    accepted, left, test, python = set(), [], "", None
    for line in output.splitlines():
        if match := _TEST.search(line):
            test, python = match["test"], match["python"]
        elif match := _FINDING.match(line):
            code = match["code"] or ""
            reason = REASONS.get((test, code)) or REASONS.get((test, ""))
            if reason is None:
                left.append(f"{test}: {line}")
                continue
            name = f"{test}-{python}" if python else test
            # Of other tests the code is not part of an entry.
            name += f":{code}" if test in ("validate-modules", "pep8") else ""
            accepted.add(f"{match['path']} {name} # {reason}")
    return sorted(accepted), left


def run(command: Iterable[str], directory: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    print("+", " ".join(words), file=sys.stderr, flush=True)
    return subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **environ},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def run_ansible_test(core: str, root: Path, home: Path, *, ignoring: bool) -> subprocess.CompletedProcess[str]:
    """ansible-test sanity of one ansible-core; without its ignore file if that is to be written."""
    programs = REPOSITORY / CORES[core] / "bin"
    tree = root / "ansible_collections" / make_collection.GALAXY["namespace"] / make_collection.GALAXY["name"]
    if not ignoring:
        shutil.rmtree(tree / "tests", ignore_errors=True)
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in pip_scripts(core):
        (cache / name).write_text(_PIP)
    # What ansible-test writes is none of the collection's files.
    (tree / ".gitignore").write_text("tests/output/\n")
    run(["git", "init", "--quiet", "."], tree, {})
    run(["git", "add", "--all"], tree, {})
    python = subprocess.run(
        [programs / "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    command = [str(programs / "ansible-test"), "sanity", "--venv", "--python", python, "--color", "no"]
    command += [word for name in SKIPPED for word in ("--skip-test", name)]
    return run(command, tree, {"HOME": str(home)})


def pip_scripts(core: str) -> list[str]:
    """The names under which ansible-test keeps the scripts that install its pip."""
    (path,) = (REPOSITORY / CORES[core]).glob(
        "lib/python3*/site-packages/ansible_test/_internal/python_requirements.py"
    )
    versions = re.findall(r"pip='([\d.]+)'", path.read_text(encoding="utf-8"))
    return [f"get_pip_{version.replace('.', '_')}.py" for version in versions]


def check_with_galaxy(root: Path, home: Path) -> list[tuple[str, subprocess.CompletedProcess[str]]]:
    """What readers of the documentation and Galaxy itself would say."""
    environ = {"HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(root), "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    tree = root / "ansible_collections" / make_collection.GALAXY["namespace"] / make_collection.GALAXY["name"]
    settings = home / "galaxy-importer.cfg"
    # The importer gives ansible-lint two minutes, too few for this tree. make lint runs it on what is translated.
    settings.write_text("[galaxy-importer]\nREQUIRE_V1_OR_GREATER = True\nRUN_ANSIBLE_LINT = False\n")
    archive = make_collection.build(home)
    commands: dict[str, list[str]] = {
        "antsibull-docs": [str(TOOLS / "antsibull-docs"), "lint-collection-docs", "--plugin-docs", str(tree)],
        "galaxy-importer": [str(TOOLS / "python"), "-m", "galaxy_importer.main", str(archive)],
    }
    environ["GALAXY_IMPORTER_CONFIG"] = str(settings)
    return [(name, run(command, home, environ)) for name, command in commands.items()]


def said_problems(output: str) -> list[str]:
    """Errors and warnings. That ignore files exist is none: each of their lines has a reason."""
    lines = re.findall(r"^(?:ERROR|WARNING)\b.*", output, re.MULTILINE)
    return [line for line in lines if "Ignore files skip ansible-test sanity tests" not in line]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--core", choices=list(CORES), default="newest", help="ansible-core of ansible-test")
    parser.add_argument("--update", action="store_true", help="write the ignore file of ansible-test")
    options = parser.parse_args(arguments)
    faults = 0
    with tempfile.TemporaryDirectory() as directory:
        root, home = Path(directory, "root"), Path(directory, "home")
        home.mkdir()
        make_collection.stage(root / "ansible_collections" / "/".join(make_collection.COLLECTION.split(".")))
        done = run_ansible_test(options.core, root, home, ignoring=not options.update)
        if options.update:
            accepted, left = findings(done.stdout)
            version = subprocess.run(
                [
                    REPOSITORY / CORES[options.core] / "bin" / "python",
                    "-c",
                    "import ansible; print(ansible.__version__)",
                ],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            path = IGNORED / f"ignore-{'.'.join(version.split('.')[:2])}.txt"
            path.write_text("".join(f"{line}\n" for line in accepted))
            print(*left, f"{path}: {len(accepted)} lines", sep="\n")
            return 1 if left else 0
        if done.returncode:
            print(done.stdout)
            faults += 1
        for name, ran in check_with_galaxy(root, home) if options.core == "newest" else ():
            if ran.returncode or said_problems(ran.stdout):
                print(f"{name}:\n{ran.stdout}")
                faults += 1
    print(f"{make_collection.COLLECTION}: {faults or 'no'} checks found something")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
