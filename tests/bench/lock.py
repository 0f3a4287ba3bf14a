"""Locking a requirements file with conflicts, and one without: one Python after the other, and those at once.

The first lock of each file fills the caches, and is reported by itself. Seconds are of the whole, with every
explanation; nothing is written beside the file.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "module_utils"))

from tensorflow_stack.errors import StackError
from tensorflow_stack.locking import door, resolver

REPOSITORY = Path(__file__).resolve().parents[2]
# Both are for the four Pythons of their release.
FILES = {
    "conflicts": "tensorflow==2.12.0\nscikit-learn==0.24.1\npandas==1.2.4\nwandb==0.15.11\n",
    "none": "tensorflow==2.12.1\npandas\ntensorflow-hub\n",
}
DEFAULTS = {name: option.get("default") for name, option in door.OPTIONS.items()}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def lock(path: Path) -> tuple[float, float, str]:
    """Wall and CPU seconds, and what came of it."""
    options: dict[str, Any] = {
        **DEFAULTS,
        "requirements": str(path),
        "flavours": ["cpu"],
        "directory": str(path.with_suffix(".locks")),
        "tables": str(REPOSITORY / "roles/tensorflow_release/files/tables"),
        "tools_directory": str(REPOSITORY / ".tools"),
        "cutoff": "2026-11-26T00:00:00Z",
    }
    wall, cpu = time.perf_counter(), _cpu()
    try:
        made = f"{len(door.answer(options, check_mode=True)['locks'])} locks"
    except StackError as error:
        made = f"refused: {len(error.details.get('conflicts', ()))} lines at fault"
    return time.perf_counter() - wall, _cpu() - cpu, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    threads = {"one at a time": 1, f"at once, on {os.cpu_count()} cores": resolver.MOST_THREADS}
    with tempfile.TemporaryDirectory(prefix="tensorflow-bench-") as directory:
        for name, text in FILES.items():
            path = Path(directory, f"{name}.txt")
            path.write_text(text, encoding="utf-8")
            wall, cpu, made = lock(path)
            print(f"{name:10} {'first':24} {wall:6.1f} s {cpu:6.1f} CPU s  {made}", flush=True)
            seen: dict[str, list[tuple[float, float]]] = {way: [] for way in threads}
            for _ in range(pairs):
                for way, resolver.MOST_THREADS in threads.items():
                    seen[way].append(lock(path)[:2])
            for way, found in seen.items():
                wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
                print(f"{name:10} {way:24} {wall:6.1f} s {cpu:6.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
