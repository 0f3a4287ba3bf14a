"""What a second run costs beside a module that does nothing and an empty playbook: all three in turn."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.bench.runs import EMPTY, EMPTY_ENDS_WITH, PING, Cost, run

INVENTORY = "inventories/workstation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="newest", help="release to build first, if it is not there")
    parser.add_argument("--root", help="directory of environments (default: a new one, removed at the end)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tensorflow-bench-") as scratch:
        empty, ping = Path(scratch, "empty.yml"), Path(scratch, "ping.yml")
        empty.write_text(EMPTY)
        ping.write_text(PING)
        extra = {
            "tensorflow_version": options.release,
            "tensorflow_root": options.root or f"{scratch}/root",
            "stack_report_directory": scratch,
        }
        workstation = ["playbooks/workstation.yml", "-e", json.dumps(extra)]
        run(INVENTORY, *workstation)  # the first run, and what warms the caches
        rounds = [
            (
                run(INVENTORY, *workstation),
                run(INVENTORY, str(ping)),
                run(INVENTORY, str(empty), expected=EMPTY_ENDS_WITH),
            )
            for _ in range(options.rounds)
        ]
    for second, module, nothing in rounds:
        print(f"second run {shown(second)}   ping {shown(module)}   empty playbook {shown(nothing)}")
    for name in ("wall", "cpu"):
        medians = [statistics.median(getattr(cost, name) for cost in costs) for costs in zip(*rounds)]
        ratio = statistics.median(getattr(second, name) / getattr(module, name) for second, module, _ in rounds)
        print(f"{name}: medians {medians[0]:.2f}, {medians[1]:.2f}, {medians[2]:.2f} s; {ratio:.2f} times ping")


def shown(cost: Cost) -> str:
    return f"{cost.wall:5.2f} s, {cost.cpu:5.2f} CPU s"


if __name__ == "__main__":
    main()
