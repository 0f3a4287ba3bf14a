"""What an unchanged fleet costs the controller: a second run on 1, 10 and 40 nodes.

The nodes are this machine under as many names. What they do themselves is measured apart, by the interpreter that
their modules run in, and taken off: on real nodes it is not the controller's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.bench.runs import run

# Writes down what it used, and then what its module did: minutes and seconds, user and system.
PYTHON = """#!/bin/bash
{python} "$@"
ended=$?
times >> {spent}
exit $ended
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="newest", help="release to build first, if it is not there")
    parser.add_argument("--root", help="directory of environments (default: a new one, removed at the end)")
    parser.add_argument("--playbook", choices=["workstation", "fleet"], default="workstation")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 40])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tensorflow-bench-") as scratch:
        spent, python = Path(scratch, "spent"), Path(scratch, "python")
        python.write_text(PYTHON.format(python=sys.executable, spent=spent))
        python.chmod(0o755)
        extra = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(python),
            "tensorflow_version": options.release,
            "tensorflow_root": options.root or f"{scratch}/root",
            "stack_report_directory": scratch,
        }
        arguments = [f"playbooks/{options.playbook}.yml", "-e", json.dumps(extra)]
        run("first,", *arguments)
        for count in options.nodes:
            inventory = "".join(f"node{number}," for number in range(count))
            spent.write_text("")
            cost = run(inventory, *arguments)
            nodes = sum(map(seconds, spent.read_text().split()))
            controller = cost.cpu - nodes
            print(
                f"{count:3} nodes: {cost.wall:6.1f} s, {cost.cpu:6.1f} CPU s. A node: "
                f"{controller / count:.2f} CPU s of the controller, {nodes / count:.2f} of its own"
            )


def seconds(minutes_and_seconds: str) -> float:
    """Of bash's `times`: 0m1.25s."""
    minutes, _, rest = minutes_and_seconds.partition("m")
    return int(minutes) * 60 + float(rest.rstrip("s"))


if __name__ == "__main__":
    main()
