#!/usr/bin/env python3
"""Run one playbook with the variables that make was given, as NAME=VALUE or as the NAME of one that make exported.

They travel as JSON and are not templated, so that any character is safe. A variable that is not known is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The directory of this file is not there with PYTHONSAFEPATH.
sys.path[:0] = [os.path.join(REPOSITORY, "module_utils"), os.path.join(REPOSITORY, "scripts")]

import shell_environment  # noqa: E402  # found by the line above
from tensorflow_stack import screen, variables  # noqa: E402
from tensorflow_stack.errors import StackError  # noqa: E402


class Front(NamedTuple):
    """A variable of make, the inventory variable that it sets, if it does, and what it is."""

    name: str
    sets: str | None
    meaning: str


VARIABLES = (
    Front("TENSORFLOW", "tensorflow_version", "release, such as 2.8.0; also read from the environment"),
    Front("REQUIREMENTS", "tensorflow_requirements", "requirements file, locked together with it"),
    Front("ROOT", "tensorflow_root", "directory of all environments"),
    Front("ENVIRONMENT", "tensorflow_environment", "name of the environment"),
    Front("PACKAGES", "tensorflow_packages", 'for add, packages such as "pandas<3 ipykernel"'),
    Front("REMOVE", "tensorflow_packages_removed", "for add, added packages to take out again"),
    Front("PYTHON_PATH", "doctor_python", "for doctor, a Python with any TensorFlow"),
    Front("LOG", "doctor_log", "for doctor, a log of anything that failed"),
    Front("REPORT", "doctor_report", "for doctor, 1: write one file for the report of a fault, without secrets"),
    Front("STATE", "kernel_state", "for kernel, absent: remove it again"),
    Front("PRUNE", "cache_prune", "for cache, 1: remove what no build contains"),
    Front("FRESH", "report_fresh", "for report, 1: read the nodes again"),
    Front("BUNDLE", "stack_bundle_url", "URL or directory of a bundle to install from; for bundle, where to make it"),
    Front("IMAGE", "tensorflow_image", "an image to mount instead of building; for image, the directory to pack into"),
    Front("CHECK", None, "1: show exactly what would change, and change nothing"),
    Front("INVENTORY", None, "another inventory than inventories/workstation"),
)
BUNDLE_VARIABLE = "stack_bundle_url"
FRONT = {variable.name: variable for variable in VARIABLES}
# What others call it, or another target takes; a name that is merely like one is found by itself.
MEANT = {
    "VERSION": "TENSORFLOW",
    "RELEASE": "TENSORFLOW",
    "TF": "TENSORFLOW",
    "ENV": "ENVIRONMENT",
    "PYTHON": "tensorflow_python",
}
# The same of targets.
MEANT_TARGETS = {
    "install": "workstation",
    "update": "workstation",
    "upgrade": "workstation",
    "uninstall": "remove",
    "list": "history",
    "undo": "rollback",
    "check": "verify",
    "jupyter": "kernel",
}
# Read by make itself, and named by it as well.
OF_MAKE = ("PYTHON", "SHELL")
# Of a plan; 2 is what ansible-playbook ends with when a node failed, and this program for a variable that is not known.
REFUSED = 3
# All others replace this process.
WAITED_FOR = ("plan", "rollback")
# What ansible-playbook ends with after Ctrl-C, and a shell's codes of SIGINT, SIGTERM and SIGHUP.
STOPPED = (99, 130, 143, 129)
ENDS = {
    REFUSED: "a node is refused or could not be planned: see above",
    4: "a node could not be reached, or the playbook could not be loaded: see above",
}


def unknown(playbook: str, name: str, known: Iterable[str]) -> StackError:
    meant = MEANT.get(name.upper()) or variables.nearest(name, [*FRONT, *known])
    return StackError(
        f"make {playbook} has no variable {name}." + (f" Did you mean {meant}?" if meant else "") + " Nothing was "
        f"done.\nIt takes {', '.join(FRONT)} and the variables of an inventory: docs/variables.md has them."
    )


def no_target(name: str, targets: Iterable[str]) -> StackError:
    meant = MEANT_TARGETS.get(name) or variables.nearest(name, targets)
    return StackError(
        f"make has no target {name}." + (f" Did you mean make {meant}?" if meant else "") + " Nothing was done. "
        "make help lists all."
    )


def empty(playbook: str, name: str) -> StackError:
    """Of an empty value, which a script gives that lost it: the default would be somebody else's choice."""
    return StackError(f"{name}= is empty, so nothing was done. Give it a value, or leave it out of make {playbook}.")


# What says what to remove, or of which nodes.
_NAMED = {
    "tensorflow_version",
    "tensorflow_environment",
    "remove_system",
    "remove_applied",
    "INVENTORY",
    "TENSORFLOW",
    "ENVIRONMENT",
}


def known_variables() -> dict[str, dict[str, Any]]:
    return variables.read_variables(os.path.join(REPOSITORY, "playbooks", "variables.json"))


def _sets(playbook: str, name: str) -> str:
    if name == "BUNDLE" and playbook == "bundle":
        return "bundle_directory"
    if name == "IMAGE" and playbook == "image":
        return "image_directory"
    return (FRONT[name].sets if name in FRONT else None) or name


def settings(playbook: str, given: Mapping[str, str], exported: Mapping[str, str]) -> dict[str, Any]:
    """What an inventory variable is set to, by name, and CHECK and INVENTORY.

    What is given wins over what the shell exports, and of that only names count that are nobody else's.
    """
    known = known_variables()
    found: dict[str, Any] = {}
    for source in (_counting(playbook, exported, known), given):
        named: dict[str, str] = {}
        for name, text in source.items():
            sets = _sets(playbook, name)
            if name not in FRONT and name not in known:
                raise unknown(playbook, name, known)
            if sets in named:
                raise StackError(f"{named[sets]} and {name} set the same variable. Give only one of them.")
            if not text:
                raise empty(playbook, name)
            named[sets] = name
            found[sets] = _value(playbook, name, text, known.get(sets, {"type": "bool" if name == "CHECK" else "str"}))
    if playbook == "remove" and not found.keys() & _NAMED and not any(exported.get(name) for name in _NAMED):
        # On this machine, what was applied last. A name in the environment may be meant for it, and does not count.
        found["remove_applied"] = True
    return found


def _counting(playbook: str, exported: Mapping[str, str], known: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What counts of the environment. What is removed has to be named by who removes it."""
    if playbook == "remove":
        return {}
    names = ["TENSORFLOW", *(name for name, row in known.items() if row.get("playbook", playbook) == playbook)]
    return {name: exported[name] for name in names if exported.get(name)}


def _value(playbook: str, name: str, text: str, variable: Mapping[str, Any]) -> Any:
    if variable.get("playbook", playbook) != playbook:
        raise StackError(f"{name} is for make {variable['playbook']}, and has no effect on make {playbook}.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise StackError(f"{name} is {text!r}, which is not UTF-8.") from None
    if _sets(playbook, name) in variables.PLACES:
        return variables.parse_place(name, text if "://" in text else os.path.abspath(os.path.expanduser(text)))
    return variables.parse(name, text, variable)


def notes(playbook: str, given: Mapping[str, str], exported: Mapping[str, str]) -> list[str]:
    """A line for each variable that counts from the environment, and one for those that do not."""
    known = known_variables()
    counting = _counting(playbook, exported, known)
    set_by_given = {_sets(playbook, name) for name in given}
    lines = [
        f"{name}={text} from the environment"
        for name, text in counting.items()
        if _sets(playbook, name) not in set_by_given
    ]
    left = [name for name in FRONT if exported.get(name) and name not in given and name not in counting]
    if left:
        lines.append(f"ignored in the environment, because only make's command line may set it: {', '.join(left)}")
    return lines


def command_line(playbook: str, found: Mapping[str, Any]) -> list[str]:
    """The ansible-playbook command for the settings."""
    extra = {name: value for name, value in found.items() if name not in FRONT}
    if playbook == "remove" and "tensorflow_version" in extra:
        extra.setdefault("tensorflow_environment", f"tensorflow-{extra.pop('tensorflow_version')}")
    inventory = found.get("INVENTORY", "inventories/workstation")
    command = [os.path.join(".venv", "bin", "ansible-playbook"), "-i", inventory, f"playbooks/{playbook}.yml"]
    if extra:
        command += ["-e", json.dumps({name: unsafe(value) for name, value in extra.items()})]
    if found.get("CHECK"):
        command.append("--check")
    # What an addition changes of everything else is shown in any case.
    if found.get("CHECK") or playbook == "add":
        command.append("--diff")
    return command


def tools_options(playbook: str, found: Mapping[str, Any]) -> list[str]:
    """How bootstrap.py has to install the tools of a playbook."""
    place = found.get(BUNDLE_VARIABLE)
    return [*(["--group", "bundle"] if playbook == "bundle" else []), *(["--bundle", place] if place else [])]


def unsafe(value: Any) -> Any:
    """A value that Ansible does not template. Only a text with a brace could be one, so that others stay readable."""
    if isinstance(value, list):
        return [unsafe(item) for item in value]
    return {"__ansible_unsafe": value} if isinstance(value, str) and "{" in value else value


def make_targets() -> list[tuple[str, str]]:
    """Each with what it does."""
    with open(os.path.join(REPOSITORY, "Makefile"), encoding="utf-8") as stream:
        return re.findall("^([a-z-]+):.*?## (.+)$", stream.read(), re.MULTILINE)


def help_lines(width: int | None) -> list[str]:
    """The targets of make, as their lines in the Makefile say what they do, and its variables."""
    targets = make_targets()
    names = [
        (f"{variable.name}=", variable.meaning + (f" ({variable.sets})" if variable.sets else ""))
        for variable in VARIABLES
    ]
    indent = 2 + max(len(name) for name, _ in targets)
    lines = []
    for name, text in [*targets, ("", ""), *names]:
        lines += screen.fold(f"  {name:<{indent}}{text}".rstrip(), width, indent=" " * indent)
    return [*lines, "  and each variable of an inventory by its own name: docs/variables.md"]


def say(text: str) -> None:
    for line in screen.fold(text, screen.columns(os.environ, sys.stderr), indent="  "):
        print(line, file=sys.stderr)


def wait_for(command: list[str]) -> int:
    """The exit code of a command that gets the signals meant for this process."""
    process = subprocess.Popen(command)
    # A terminal sends SIGINT to both.
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: process.send_signal(received))
    code = process.wait()
    return code if code >= 0 else 128 - code


def run(playbook: str, command: list[str]) -> int:
    """Its exit code, if it is one of a playbook that is waited for; this process becomes that of another one."""
    try:
        if playbook not in WAITED_FOR:
            os.execv(command[0], command)
        code = wait_for(command)
    except OSError as error:
        say(
            f"run_playbook: {os.path.abspath(command[0])} cannot be started: {error.strerror}. If the checkout is on a "
            "file system that is mounted noexec, use one on another; otherwise remove its .venv and run again."
        )
        return 1
    if playbook == "rollback":
        if code in STOPPED:
            say(
                "rollback: it was stopped, and may have switched already. make history shows what is in use, and make "
                "verify proves it. Another make rollback would go further back."
            )
        return code
    code = REFUSED if code == 2 else code
    if code in ENDS:
        print(f"plan: {ENDS[code]} (exit code {code})", file=sys.stderr)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("playbook", nargs="?")
    parser.add_argument("given", nargs="*", metavar="NAME[=VALUE]")
    choice.add_argument("--help-make", action="store_true", help="list the targets and variables of make")
    arguments = parser.parse_args()
    if arguments.help_make:
        print("\n".join(help_lines(screen.columns(os.environ, sys.stdout))))
        return 0
    playbooks = sorted(name[:-4] for name in os.listdir(os.path.join(REPOSITORY, "playbooks")) if name.endswith(".yml"))
    if arguments.playbook not in playbooks:
        say(f"run_playbook: {no_target(arguments.playbook, [name for name, _ in make_targets()]).message}")
        return 2
    words = [word.partition("=") for word in arguments.given]
    given = {
        name: value if equals else os.environ.get(name, "")
        for name, equals, value in words
        if equals or name not in OF_MAKE
    }
    try:
        found = settings(arguments.playbook, given, os.environ)
        command = command_line(arguments.playbook, found)
        locale_name = shell_environment.utf8_locale()
        shell_environment.check_temporary_files(os.environ)
    except StackError as error:
        say(f"run_playbook: {error.message}")
        return 2
    for line in [
        *notes(arguments.playbook, given, os.environ),
        *shell_environment.forget_other_python(os.environ),
        *shell_environment.forget_tags(os.environ),
        *shell_environment.callback_notes(os.environ),
    ]:
        say(line)
    # What is needed to run it; here, so that nothing is set up for what cannot be run.
    import bootstrap

    if bootstrap.main(tools_options(arguments.playbook, found)):
        return 1
    try:
        shell_environment.check_ansible_settings(os.environ)
    except StackError as error:
        say(f"run_playbook: {error.message}")
        return 2
    print("+", shlex.join(command), file=sys.stderr, flush=True)
    os.chdir(REPOSITORY)
    if locale_name:
        os.environ["LC_ALL"] = locale_name
    return run(arguments.playbook, command)


if __name__ == "__main__":
    sys.exit(main())
