"""What an unchanged fleet costs the controller: a second run on 1, 10, 40 and more nodes.

Some nodes are this machine under as many names, and run their module. What they do themselves is measured apart, by
the interpreter that runs the module, and taken off: on real nodes it is not the controller's. The rest only answer, by
a connection plugin, with what the module returned on a real node in a first run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.runs import run

# Writes down what it used, and then what its module did: minutes and seconds, user and system.
PYTHON = """#!/bin/bash
{python} "$@"
ended=$?
times >> {spent}
exit $ended
"""
PLUGINS = Path(__file__).parent / "connection_plugins"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="2.21.0", help="release to build first, if it is not there")
    parser.add_argument("--root", help="directory of environments (default: a new one, removed at the end)")
    parser.add_argument("--playbook", choices=["workstation", "fleet"], default="workstation")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 40])
    parser.add_argument("--real", type=int, default=10, help="how many of the nodes run their module (default: 10)")
    parser.add_argument("--forks", type=int, nargs="+", default=[20])
    parser.add_argument("--strategies", nargs="+", default=["linear"], help="linear, free, host_pinned")
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    os.environ["ANSIBLE_CONNECTION_PLUGINS"] = str(PLUGINS)
    with tempfile.TemporaryDirectory(prefix="tensorflow-bench-") as scratch:
        spent, python = Path(scratch, "spent"), Path(scratch, "python")
        python.write_text(PYTHON.format(python=sys.executable, spent=spent))
        python.chmod(0o755)
        variables = {
            "ansible_connection": "captured",
            "ansible_python_interpreter": str(python),
            "captured_file": f"{scratch}/answer",
            "captured_mode": "keep",
            "tensorflow_version": options.release,
            "tensorflow_root": options.root or f"{scratch}/root",
            "stack_report_directory": f"{scratch}/reports",
        }
        # Of a node that is unchanged: the run before may have built it.
        for _ in range(2):
            Path(scratch, "answer").unlink(missing_ok=True)
            run(inventory(scratch, variables, count=1, real=1), f"playbooks/{options.playbook}.yml")
        for strategy, forks, count in (
            (strategy, forks, count)
            for strategy in options.strategies
            for forks in options.forks
            for count in options.nodes
            for _ in range(options.runs)
        ):
            hosts = inventory(scratch, variables, count=count, real=options.real)
            spent.write_text("")
            os.environ["ANSIBLE_STRATEGY"] = strategy
            cost = run(hosts, f"playbooks/{options.playbook}.yml", "--forks", str(forks))
            nodes = sum(map(seconds, spent.read_text().split()))
            controller = cost.cpu - nodes
            print(
                f"{options.playbook} {strategy:11} forks {forks:2}, {count:4} nodes ({min(count, options.real)} real): "
                f"{cost.wall:6.1f} s, {cost.cpu:6.1f} CPU s, {cost.peak / 1e6:.0f} MB. "
                f"A node: {controller / count:.3f} CPU s of the controller",
                flush=True,
            )


def inventory(scratch: str, variables: dict[str, Any], *, count: int, real: int) -> str:
    """Path of an inventory with as many nodes, of which the first run their module."""
    hosts = {f"node{number}": {"captured_mode": "answer"} if number >= real else {} for number in range(count)}
    path = Path(scratch, "hosts.yml")
    # As JSON, which is YAML, too.
    path.write_text(json.dumps({"all": {"vars": variables, "hosts": hosts}}))
    return str(path)


def seconds(minutes_and_seconds: str) -> float:
    """Of bash's `times`: 0m1.25s."""
    minutes, _, rest = minutes_and_seconds.partition("m")
    return int(minutes) * 60 + float(rest.rstrip("s"))


if __name__ == "__main__":
    main()
