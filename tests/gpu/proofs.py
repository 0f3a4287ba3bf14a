"""Writes what `run.py` found on a GPU as a row of gpu_proofs.yml.

    python3 tests/gpu/proofs.py results.json --date 2026-11-26

It needs nothing but Python, as `run.py` does, which calls it with --record.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = REPOSITORY / "roles/tensorflow_release/files/tables/gpu_proofs.yml"
# What identifies a row, in the order of the table.
KEYS = ("release", "gpu", "driver", "cuda", "cudnn", "python")


class NoProofError(Exception):
    """The result shows no computing GPU, or a fault without its verdict."""


def make_row(result: dict[str, Any], date: str) -> dict[str, Any]:
    """The row of a result of `run.py`; raises NoProofError unless every case had a verdict that was expected."""
    cases = {case["case"].replace(" ", "_"): case for case in result["cases"]}
    wrong = [f"{name} was {case['verdict']}" for name, case in cases.items() if case["verdict"] not in case["wished"]]
    if wrong:
        raise NoProofError(f"This is no proof: {', '.join(wrong)}.")
    report = cases["whole"]["report"]
    gpus = sorted({gpu["name"] for gpu in report["driver"]["nvml"]["gpus"]})
    versions = {library["name"].split(".so")[0]: library["version"] for library in report["libraries"]}
    return {
        "release": report["tensorflow_version"],
        "gpu": " and ".join(gpus),
        "driver": report["driver"]["nvml"]["driver"],
        "cuda": versions["libcudart"],
        "cudnn": versions["libcudnn"],
        "python": ".".join(report["python"].split(".")[:2]),
        "date": date,
        "verdicts": {name: case["verdict"] for name, case in cases.items()},
        "seconds": round(cases["whole"]["seconds"]),
    }


def record(row: dict[str, Any], table: Path = TABLE, sources: tuple[str, ...] = ("run",)) -> None:
    """Put a row into the table, in the place of an earlier one of the same release, GPU, driver, CUDA and Python."""
    head, _, body = table.read_text(encoding="utf-8").partition("rows:\n")
    lines = {_key(line): line for line in body.splitlines()}
    line = _line(row, sources)
    lines[_key(line)] = line
    table.write_text(f"{head}rows:\n" + "".join(f"{lines[key]}\n" for key in sorted(lines)), encoding="utf-8")


def _line(row: dict[str, Any], sources: tuple[str, ...]) -> str:
    verdicts = ", ".join(f"{name}: {verdict}" for name, verdict in row["verdicts"].items())
    texts = [f'{name}: "{row[name]}"' for name in (*KEYS, "date")]
    texts += [f"verdicts: {{{verdicts}}}", f"seconds: {row['seconds']}", f"source: [{', '.join(sources)}]"]
    return f"  - {{{', '.join(texts)}}}"


def _key(line: str) -> tuple[Any, ...]:
    """Versions in the order of their numbers."""
    values = dict(re.findall(r'(\w+): "([^"]*)"', line))
    return tuple((tuple(map(int, re.findall(r"\d+", values[name]))), values[name]) for name in KEYS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="+", help="what run.py --results wrote")
    parser.add_argument("--date", required=True, help="day of the run, such as 2026-11-26")
    parser.add_argument("--source", nargs="+", default=["run"], help="keys of sources in the table")
    options = parser.parse_args()
    for path in options.result:
        try:
            row = make_row(json.loads(path.read_text(encoding="utf-8")), options.date)
        except NoProofError as error:
            parser.error(f"{path}: {error}")
        record(row, sources=tuple(options.source))


if __name__ == "__main__":
    main()
