#!/usr/bin/env python3
"""Add a TensorFlow release: rows from its wheels, its locks and a proof. Says what a person has to judge.

    make release VERSION=2.22.0
    .venv/bin/python scripts/add_release.py 2.22.0 --rows    rows alone
    .venv/bin/python scripts/add_release.py --new            which releases the index has and the table lacks

Run again, it continues: what exists is left as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "module_utils"), str(REPOSITORY / "scripts")]

import check_releases  # noqa: E402  # found by the line above
import read_kernels  # noqa: E402
from check_releases import OLDEST_PYTHON, OPENED_BY_TENSORFLOW, PROJECTS, Index, Wheel  # noqa: E402
from tensorflow_stack.tables.load import Tables, load_tables  # noqa: E402
from tensorflow_stack.tables.rows import Release  # noqa: E402

TABLES = REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"
PROGRAMS = Path(sys.executable).parent
# The projects of CUDA's wheels that libraries of the node's own CUDA do not replace for cuDNN.
_FOR_CUDNN = ("nvidia-cublas", "nvidia-cuda-nvrtc", "nvidia-cudnn")


def add_row(table: str, row: str, key: str) -> bool:
    """Write a row into a table, in its order by version; false if one with this key exists."""
    path = TABLES / f"{table}.yml"
    head, rows_line, body = path.read_text(encoding="utf-8").partition("rows:\n")
    lines = body.splitlines()
    if any(line.startswith(f"  - {{{key}") for line in lines):
        return False
    place = next((at for at, line in enumerate(lines) if _order(line) > _order(row)), len(lines))
    lines.insert(place, row)
    path.write_text(head + rows_line + "\n".join(lines) + "\n", encoding="utf-8")
    return True


def _order(line: str) -> Version:
    """By the version that a row is for, or that its specifier begins with."""
    found = re.search(r'(?:version|releases|release): "[<>=~]*([\d.]+\d(?:\.post\d+)?)', line)
    return Version(found[1] if found else "0")


def read_row(version: str, before: Release, index: Index) -> tuple[Release, dict[str, Any], zipfile.ZipFile]:
    """The release as its wheels say it is. The floor of cuDNN is in no wheel: it is that of the release before."""
    by_project = {
        project: [wheel for wheel in index.wheels(project) if wheel.version == Version(version)] for project in PROJECTS
    }
    with_x86_64 = {
        project: wheels
        for project, wheels in (
            (p, [w for w in found if w.architecture == "x86_64"]) for p, found in by_project.items()
        )
        if wheels
    }
    if "tensorflow" not in with_x86_64:
        raise SystemExit(
            f"add_release: the index has no wheel of tensorflow {version} for x86_64. Nothing was changed."
        )
    archive = with_x86_64["tensorflow"][-1].open()
    info = check_releases.build_info(archive)
    packages = {}
    for project, wheels in sorted(with_x86_64.items()):
        with wheels[-1].open() as other:
            packages[project] = check_releases._kind(check_releases.build_info(other))
    cuda, cudnn = (_minor(info[f"{name}_version"]) for name in ("cuda", "cudnn"))
    wheels = by_project["tensorflow"]
    release = Release(
        version=version,
        package="tensorflow",
        packages=packages,
        pythons={architecture: _pythons(wheels, architecture) for architecture in ("x86_64", "aarch64")},
        aarch64=check_releases._aarch64(wheels),
        cuda=cuda,
        # build_info has the major version alone.
        cudnn=cudnn if "." in cudnn else before.cudnn,
        cudnn_floor=before.cudnn_floor,
        gpu_code=tuple(info.get("cuda_compute_capabilities") or ()) or None,
        source=before.source,
    )
    return release, info, archive


def _minor(version: str) -> str:
    return ".".join(str(version).split(".")[:2])


def _pythons(wheels: list[Wheel], architecture: str) -> tuple[str, ...]:
    found = (str(w.python) for w in wheels if w.architecture == architecture and w.python >= OLDEST_PYTHON)
    return tuple(dict.fromkeys(found))


def release_row(row: Release) -> str:
    packages = ", ".join(f"{name}: {kind}" for name, kind in row.packages.items())
    pythons = ", ".join(f"{name}: {json.dumps(list(minors))}" for name, minors in row.pythons.items())
    code = "null" if row.gpu_code is None else f"[{', '.join(row.gpu_code)}]"
    return (
        f'  - {{version: "{row.version}", package: {row.package}, packages: {{{packages}}}, pythons: {{{pythons}}}, '
        f'aarch64: {row.aarch64}, cuda: "{row.cuda}", cudnn: "{row.cudnn}", cudnn_floor: "{row.cudnn_floor}", '
        f"gpu_code: {code}, source: [{', '.join(row.source)}]}}"
    )


def cuda_wheels_row(version: str, archive: zipfile.ZipFile, index: Index, tables: Tables) -> str | None:
    """From the extra and-cuda. The newest versions that it allows say which CUDA and cuDNN these are.

    Of ranges, cuDNN's upper bound is that of the newest row. It is stricter than the wheel's, for GPUs that newer
    versions left out.
    """
    asked = check_releases.extra(check_releases.requirements(archive), "and-cuda")
    wanted = {name: row.specifier for name, row in sorted(asked.items()) if not name.startswith("tensorrt")}
    if not wanted:
        return None
    has_ranges = any(bound.operator != "==" for specifier in wanted.values() for bound in specifier)
    before = [row for row in tables.cuda_wheels if ("ranges" in row.source) == has_ranges][-1]
    bounds = {row.name: row.specifier for row in map(Requirement, before.requirements)}
    for name in wanted:
        if has_ranges and name.startswith("nvidia-cudnn-") and name in bounds:
            lower = [bound for bound in wanted[name] if not bound.operator.startswith("<")]
            upper = [bound for bound in bounds[name] if bound.operator.startswith("<")]
            wanted[name] = SpecifierSet(",".join(map(str, [*lower, *upper])))
    brings = {}
    for what, prefix in (("cuda", "nvidia-cuda-runtime-"), ("cudnn", "nvidia-cudnn-")):
        (name,) = [name for name in wanted if name.startswith(prefix)]
        brings[what] = _minor(str([found for found in index.versions(name) if found in wanted[name]][-1]))
    lines = [f"{name}{specifier}" for name, specifier in wanted.items()]
    link = bool(OPENED_BY_TENSORFLOW - check_releases.nvidia_directories(archive))
    of_cudnn = [line for line in lines if line.startswith(_FOR_CUDNN)]
    return (
        f'  - {{releases: "=={version}", cuda: "{brings["cuda"]}", cudnn: "{brings["cudnn"]}", architecture: x86_64, '
        f"requirements: {json.dumps(lines)}, cudnn_requirements: {json.dumps(of_cudnn)}, "
        f"link: {str(link).lower()}, source: [{', '.join(before.source)}]}}"
    )


def add_rows(version: str, index: Index) -> Iterator[str]:
    """Write the rows that the release lacks; what was done."""
    tables = load_tables(str(TABLES))
    earlier = [row for row in tables.releases if Version(row.version) < Version(version)]
    before = max(earlier, key=lambda row: Version(row.version))
    release, _, archive = read_row(version, before, index)
    with archive:
        if add_row("releases", release_row(release), f'version: "{version}"'):
            yield f"releases.yml: a row, with what no wheel says from {before.version}"
        if tables.cuda_wheels_for(version) is None:
            row = cuda_wheels_row(version, archive, index, tables)
            if row and add_row("cuda_wheels", row, f'releases: "=={version}"'):
                yield "cuda_wheels.yml: a row from the extra and-cuda"
    if not any(Version(version) in SpecifierSet(row.releases) for row in tables.kernels):
        (row,) = read_kernels.table(iter([(version, read_kernels.read_release(index, release))]))
        if add_row("kernels", row, row[5:].partition(",")[0]):
            yield "kernels.yml: a row from the code in the wheel"


def to_judge(version: str, tables: Tables) -> list[str]:
    """What is in no wheel."""
    row = tables.release(version)
    assert row is not None
    return [
        f"cudnn_floor {row.cudnn_floor}: run a convolution with an older cuDNN; TensorFlow names that of its build.",
        "cuda_wheels.yml: the upper bound of cuDNN is that of the row before; does the new release need another?",
        f"cuda {row.cuda} and cudnn {row.cudnn}: compare with the tested configurations in TensorFlow's documentation.",
        "constraints.yml: did the proof import, train, save, load and start TensorBoard without a new limit?",
        "vulnerabilities.yml: does the release fix an advisory, and which patches of its minor does it end?",
        "diagnoses.yml: does a message name a release that was the newest?",
        "tests/data/plans: read the difference (UPDATE_PLANS=1) wherever the newest release is planned.",
        f"A GPU: tests/gpu/run.py --record for {version}; until then it is planned and was not seen.",
    ]


def run(*command: str) -> None:
    print("+", *command, file=sys.stderr, flush=True)
    started = time.monotonic()
    done = subprocess.run(command, cwd=REPOSITORY, check=False)
    if done.returncode:
        raise SystemExit(
            f"add_release: this ended with {done.returncode}. What was made before stays; mend the cause and run again."
        )
    print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", help="the release, such as 2.22.0")
    parser.add_argument("--new", action="store_true", help="print the releases that the table lacks")
    parser.add_argument("--rows", action="store_true", help="make rows alone, no lock and no proof")
    parser.add_argument("--index-url", default="https://pypi.org/simple", help="default: %(default)s")
    options = parser.parse_args(arguments)
    index = Index(options.index_url)
    if options.new:
        print(*check_releases.unknown_releases(load_tables(str(TABLES)), index), sep="\n")
        return 0
    if not options.version or not re.fullmatch(r"\d+\.\d+\.\d+(?:\.post\d+)?", options.version):
        parser.error(
            f"{options.version or 'nothing'} is no final release. Set VERSION, as in make release VERSION=2.22.0"
        )
    version = options.version
    for line in add_rows(version, index):
        print(line, flush=True)
    tables = load_tables(str(TABLES))
    release = tables.release(version)
    assert release is not None
    differences = list(check_releases.check_release(tables, release, index))
    print(*(f"differs from the wheels: {line}" for line in differences), sep="\n")
    if not options.rows:
        playbook = ["-i", "inventories/workstation", "playbooks/lock.yml", "-e", f"tensorflow_version={version}"]
        run(str(PROGRAMS / "ansible-playbook"), *playbook)
        with tempfile.TemporaryFile("w+") as file:
            fit = [sys.executable, "scripts/fit_torch.py", version]
            if subprocess.run(fit, cwd=REPOSITORY, stdout=file, check=False).returncode == 0:
                file.seek(0)
                for row in file.read().splitlines():
                    if add_row("torch_releases", row, f'release: "{version}"'):
                        print("torch_releases.yml: a row")
        run(sys.executable, "scripts/prove.py", version)
        run(sys.executable, "scripts/make_docs.py")
    print("To judge before a commit (git diff shows the rows):")
    print(*(f"  {line}" for line in to_judge(version, tables)), sep="\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
