"""What a second run costs over an empty playbook: both in turn, difference pair by pair."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tests.bench.runs import EMPTY, EMPTY_ENDS_WITH, Cost, run

INVENTORY = "inventories/workstation"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", default="newest", help="release to build first, if it is not there")
    parser.add_argument("--root", help="directory of environments (default: a new one, removed at the end)")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tensorflow-bench-") as scratch:
        empty = Path(scratch, "empty.yml")
        empty.write_text(EMPTY)
        extra = {
            "tensorflow_version": options.release,
            "tensorflow_root": options.root or f"{scratch}/root",
            "stack_report_directory": scratch,
        }
        workstation = ["playbooks/workstation.yml", "-e", json.dumps(extra)]
        run(INVENTORY, *workstation)  # the first run, and what warms the caches
        pairs = [
            (run(INVENTORY, *workstation), run(INVENTORY, str(empty), expected=EMPTY_ENDS_WITH))
            for _ in range(options.pairs)
        ]
    for second, nothing in pairs:
        print(f"second run {shown(second)}   empty playbook {shown(nothing)}")
    for name in ("wall", "cpu"):
        seconds = statistics.median(getattr(second, name) for second, _ in pairs)
        more = statistics.median(getattr(second, name) - getattr(nothing, name) for second, nothing in pairs)
        print(f"{name}: median {seconds:.2f} s, {more:.2f} s more than an empty playbook")


def shown(cost: Cost) -> str:
    return f"{cost.wall:5.2f} s, {cost.cpu:5.2f} CPU s"


if __name__ == "__main__":
    main()
