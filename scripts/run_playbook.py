#!/usr/bin/env python3
"""Run one playbook with the variables that make was given; they travel as JSON, so any character is safe."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from typing import NamedTuple

OFF = ("", "0", "no", "off", "false")
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Variable(NamedTuple):
    """A variable of make, the inventory variable that it sets, and what it is."""

    name: str
    sets: str
    is_path: bool
    meaning: str


VARIABLES = (
    Variable("TENSORFLOW", "tensorflow_version", False, "release, such as 2.8.0"),
    Variable("REQUIREMENTS", "tensorflow_requirements", True, "requirements file that is locked with it"),
    Variable("ROOT", "tensorflow_root", True, "directory of all environments"),
    Variable("ENVIRONMENT", "tensorflow_environment", False, "name of the environment"),
    Variable("PYTHON_PATH", "doctor_python", True, "for doctor, a Python with any TensorFlow"),
    Variable("LOG", "doctor_log", True, "for doctor, a log of anything that failed"),
)


def command_line(playbook: str, given: Mapping[str, str]) -> list[str]:
    """The ansible-playbook command for the variables that make was given; an empty one is not passed."""
    extra = {}
    for variable in VARIABLES:
        value = given.get(variable.name)
        if value:
            extra[variable.sets] = os.path.abspath(os.path.expanduser(value)) if variable.is_path else value
    inventory = given.get("INVENTORY") or "inventories/workstation"
    command = [os.path.join(".venv", "bin", "ansible-playbook"), "-i", inventory, f"playbooks/{playbook}.yml"]
    if extra:
        command += ["-e", json.dumps(extra)]
    if given.get("CHECK", "").lower() not in OFF:
        command += ["--check", "--diff"]
    return command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("playbook", nargs="?")
    parser.add_argument("given", nargs="*", help="names of the environment variables that make was given")
    choice.add_argument("--help-variables", action="store_true", help="list the variables of make")
    arguments = parser.parse_args()
    if arguments.help_variables:
        for variable in VARIABLES:
            print(f"  {variable.name + '=':<13} {variable.meaning} ({variable.sets})")
        print(f"  {'CHECK=1':<13} say exactly what would change, and change nothing")
        print(f"  {'INVENTORY=':<13} another inventory than inventories/workstation")
        return
    command = command_line(arguments.playbook, {name: os.environ.get(name, "") for name in arguments.given})
    print("+", shlex.join(command), file=sys.stderr, flush=True)
    os.chdir(REPOSITORY)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
