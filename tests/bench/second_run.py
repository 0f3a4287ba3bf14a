"""What a second run costs over an empty playbook: both in turn, difference pair by pair."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
EMPTY = "- hosts: all\n  gather_facts: false\n  tasks: []\n"


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
        seconds(workstation)  # the first run, and what warms the caches
        # A run without a task does not end well, on purpose (callback_plugins/stack_progress.py).
        pairs = [(seconds(workstation), seconds([str(empty)], expected=1)) for _ in range(options.pairs)]
    for second, nothing in pairs:
        print(f"second run {second:6.2f} s   empty playbook {nothing:6.2f} s   difference {second - nothing:6.2f} s")
    print(f"median difference {statistics.median(a - b for a, b in pairs):.2f} s")


def seconds(playbook: list[str], *, expected: int = 0) -> float:
    command = [str(ANSIBLE_PLAYBOOK), "-i", "inventories/workstation", *playbook]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != expected:
        sys.exit(done.stderr)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
