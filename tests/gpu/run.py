"""The whole check on a machine with a GPU, good and spoiled on purpose; says what came out as JSON.

It needs no network and nothing but Python. With --record the result becomes a row of gpu_proofs.yml.
Exit status: 0 as wished, 1 not, 77 where there is no GPU to check on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.check.probe import observe  # noqa: E402
from tensorflow_stack.check.report import make_report  # noqa: E402
from tensorflow_stack.check.verdicts import judge  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))

import proofs  # noqa: E402

SKIPPED = 77
OLD_CUDNN = 1000  # 1.0.0: older than every build


def main() -> None:
    options = parse_arguments()
    if not (os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/sys/module/nvidia/version")):
        print("skipped: no kernel module of an NVIDIA driver is loaded here", file=sys.stderr)
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as scratch:
        python = options.python if options.wheels is None else build(options, Path(scratch) / "environment")
        rows = [run(python, options, name, wished, level, variables)
                for name, wished, level, variables in cases(Path(scratch), options)]  # fmt: skip
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    result = {"machine": platform.platform(), "date": date, "cases": rows}
    text = json.dumps(result, indent=2) + "\n"
    if options.results:
        options.results.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    for row in rows:
        mark = "as wished" if row["verdict"] in row["wished"] else f"WISHED {' or '.join(row['wished'])}"
        print(f"{row['case']:26} {row['verdict']:18} {row['seconds']:7.1f} s  {mark}", file=sys.stderr)
    if options.record:
        try:
            proofs.record(proofs.make_row(result, date))
        except proofs.NoProofError as error:
            print(f"not recorded: {error}", file=sys.stderr)
    sys.exit(any(row["verdict"] not in row["wished"] for row in rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", help="the release that has to be there, such as 2.18.1")
    parser.add_argument("--python", default=sys.executable, help="Python of the environment, or to build one with")
    parser.add_argument("--wheels", type=Path, help="directory of wheels to build an environment from")
    parser.add_argument("--requirement", help="what to install from them; default: tensorflow==RELEASE")
    parser.add_argument("--cudnn-floor", help="cuDNN that the release is built with, such as 9.3.0")
    parser.add_argument("--gpus", type=int, default=1, help="number of GPUs to expect")
    parser.add_argument("--old-libcuda", type=Path, help="libcuda of an older driver, to be found first")
    parser.add_argument("--time-limit", type=float, default=300)
    parser.add_argument("--results", type=Path, help="file for the JSON; default: standard output")
    parser.add_argument("--record", action="store_true", help="write a row of gpu_proofs.yml if all is as wished")
    return parser.parse_args()


def build(options: argparse.Namespace, path: Path) -> str:
    subprocess.run([options.python, "-m", "venv", path], check=True)
    python = str(path / "bin" / "python")
    requirement = options.requirement or f"tensorflow=={options.release}"
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", options.wheels, requirement]
    subprocess.run(install, check=True)
    return python


def cases(scratch: Path, options: argparse.Namespace) -> Iterator[tuple[str, list[str], str, dict[str, str]]]:
    """Each as name, the verdicts that are right, level, and environment variables."""
    yield "whole", ["ok"], "full", {}
    yield "libraries", ["libraries_ok"], "libraries", {}
    yield "gpus hidden", ["gpu_missing"], "full", {"CUDA_VISIBLE_DEVICES": ""}
    empty = scratch / "cudnn-not-a-library"
    empty.mkdir()
    for major in (7, 8, 9):
        (empty / f"libcudnn.so.{major}").write_text("hidden by tests/gpu")
    yield "cudnn hidden", ["library_missing"], "full", {"LD_LIBRARY_PATH": str(empty)}
    if shutil.which("gcc"):
        old = scratch / "cudnn-old"
        old.mkdir()
        for major in (7, 8, 9):
            source = f"unsigned long cudnnGetVersion(void) {{ return {OLD_CUDNN}; }}"
            compile_library(source, old / f"libcudnn.so.{major}")
        # TensorFlow lists the GPU with it, unless it looks for more in it than this has.
        wished = ["cudnn_too_old"] if options.cudnn_floor else ["op_failed", "killed", "gpu_not_used"]
        yield "old cudnn first", wished, "full", {"LD_LIBRARY_PATH": str(old)}
        double = scratch / "double"
        double.mkdir()
        source = (REPOSITORY / "tests" / "doubles" / "libcuda.c").read_text(encoding="utf-8")
        compile_library(source, double / "libcuda.so.1")
        variables = {"LD_LIBRARY_PATH": str(double)}
        yield "double of libcuda first", ["driver_failed", "driver_mismatch"], "full", variables
    if options.old_libcuda:
        older = scratch / "libcuda-old"
        older.mkdir()
        (older / "libcuda.so.1").symlink_to(options.old_libcuda.resolve())
        yield "old libcuda first", ["driver_mismatch", "driver_failed"], "full", {"LD_LIBRARY_PATH": str(older)}


def compile_library(source: str, path: Path) -> None:
    command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)


def run(
    python: str, options: argparse.Namespace, name: str, wished: list[str], level: str, variables: dict[str, str]
) -> dict[str, Any]:
    with environment(variables):
        seen = observe(python, time_limit=options.time_limit, has_gpu=True, level=level)
    verdict = judge(
        seen.records,
        seen.exit_status,
        release=options.release,
        expect_gpu=True,
        gpu_count=options.gpus,
        cudnn_floor=options.cudnn_floor,
        level=level,
        stderr=seen.stderr,
    )
    report = make_report(seen.records, variables)
    return {
        "case": name,
        "wished": wished,
        "verdict": verdict.name,
        "reason": verdict.reason,
        "seconds": round(sum(stage["seconds"] or 0 for stage in report["stages"]), 3),
        "report": report,
        "log": seen.stderr.splitlines()[-40:],
    }


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    main()
