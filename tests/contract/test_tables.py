"""The tables that ship: against their schemas, and against each other."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.module_utils.tensorflow_stack.check.diagnose import FACTS, diagnose
from ansible.module_utils.tensorflow_stack.check.line_search import needles
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

TABLES = Path(__file__).resolve().parents[2] / "roles/tensorflow_release/files/tables"
FILES = {path.stem: path for pattern in ("*.yml", "*.json") for path in TABLES.glob(pattern)}
NAMES = sorted(FILES)


def _requirement(row: dict[str, Any]) -> tuple[Any, ...]:
    first = next(iter(SpecifierSet(row["releases"].split(",")[0])))
    return (row["requirement"], Version(first.version))


def _first_release(row: dict[str, Any]) -> Version:
    return Version(row["releases"].split(",")[0].lstrip("=>"))


def _distribution(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["os"], Version(row["version_id"]))


# What a table is sorted by; it is also what makes a row unique.
ORDER: dict[str, Callable[[dict[str, Any]], Any]] = {
    "addresses": lambda row: row["name"],
    "base_systems": lambda row: row["codename"],
    "companions": lambda row: (row["project"], row["kind"], _first_release(row)),
    "companion_proofs": lambda row: (Version(row["release"]), Version(row["python"]), row["project"]),
    "components": _distribution,
    "constraints": _requirement,
    "cuda_drivers": lambda row: Version(row["cuda"]),
    "cuda_packages": lambda row: (*_distribution(row), row["origin"]),
    "cuda_wheels": _first_release,
    "cudnn_packages": lambda row: (*_distribution(row), Version(row["cudnn"]), row["cuda"]),
    "diagnoses": lambda row: row["rank"],
    "driver_branches": lambda row: row["branch"],
    "driver_packages": lambda row: (*_distribution(row), row["origin"], row["branch"], row["kernel_modules"]),
    "gpu_chips": lambda row: row["chip"],
    "gpu_devices": lambda row: row["device_id"],
    "gpu_proofs": lambda row: (Version(row["release"]), row["gpu"], Version(row["driver"]), Version(row["cuda"])),
    "glibc": _first_release,
    "kernels": _first_release,
    "node_kinds": lambda row: (row["aspect"], row["kind"]),
    "opened_libraries": lambda row: (_first_release(row), row["component"]),
    "log_lines": lambda row: (row["kind"], row["by"], row["line"]),
    "proofs": lambda row: (Version(row["release"]), Version(row["python"]), row["flavour"]),
    "python_lives": lambda row: Version(row["minor"]),
    "python_packages": lambda row: (row["os"], Version(row["version_id"]), Version(row["minor"])),
    "redist": lambda row: (row["component"], Version(row["version"]), row["cuda"]),
    "releases": lambda row: Version(row["version"]),
    "repositories": _distribution,
    "small_gpus": lambda row: row["chip"],
    "source_distributions": _requirement,
    "torch_releases": lambda row: Version(row["release"]),
    "uv": lambda row: row["architecture"],
    "vulnerabilities": lambda row: row["advisory"],
}


def _content(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(FILES[name].read_text(encoding="utf-8"), yaml.CSafeLoader)
    return content


def _validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((TABLES / "schema" / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def test_there_is_one_schema_for_each_table() -> None:
    assert sorted(path.stem for path in (TABLES / "schema").glob("*.json")) == NAMES == sorted(ORDER)


@pytest.mark.parametrize("name", NAMES)
def test_table_fits_its_schema(name: str) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(_content(name))]
    assert errors == []


# Fields that a row may lack.
OPTIONAL = {"diagnoses": {"warns", "explains", "do_on", "report"}}


@pytest.mark.parametrize("name", NAMES)
def test_schema_refuses_every_missing_and_every_unknown_field(name: str) -> None:
    validator, content = _validator(name), _content(name)
    row = content["rows"][0]
    required = row.keys() - OPTIONAL.get(name, set())
    wrong = [{key: value for key, value in row.items() if key != left_out} for left_out in required]
    wrong += [{**row, "note": "unknown"}, {**row, next(iter(row)): 3.1}]
    accepted = [rows for rows in wrong if validator.is_valid({**content, "rows": [rows]})]
    assert accepted == []
    assert not validator.is_valid({**content, "rows": []})


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_sorted_and_unique(name: str) -> None:
    keys = [ORDER[name](row) for row in _content(name)["rows"]]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("name", NAMES)
def test_there_is_one_row_on_a_line(name: str) -> None:
    lines = FILES[name].read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith(("  - {", "  {")) and line.rstrip(",").endswith("}") for line in lines) == len(
        _content(name)["rows"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_described_and_used(name: str) -> None:
    content = _content(name)
    assert {key for row in content["rows"] for key in row["source"]} == set(content["sources"])


def test_releases_agree_with_themselves(tables: Tables) -> None:
    for release in tables.releases:
        assert release.packages[release.package] == "gpu", release.version
        assert (release.aarch64 == "none") == (release.pythons["aarch64"] == ()), release.version
        assert (release.gpu_code is None) == release.version.startswith("1.15."), release.version
        assert Version(release.cudnn_floor).major == Version(release.cudnn).major, release.version
        for pythons in release.pythons.values():
            assert list(pythons) == sorted(pythons, key=Version), release.version


def test_every_release_has_driver_rows_for_its_cuda(tables: Tables) -> None:
    known = {row.cuda for row in tables.cuda_drivers}
    assert {release.cuda for release in tables.releases} - known == set()
    assert {row.cuda for row in tables.cuda_wheels} - known == set()


def test_every_release_has_its_kernels_and_the_libraries_that_it_opens(tables: Tables) -> None:
    for release in tables.releases:
        # Wheels of 1.15 were not read: half of them are of another project.
        assert bool(tables.kernels_of(release.version)) == (not release.version.startswith("1.15.")), release.version
        for component in ("cuda", "cudnn"):
            names = tables.opened_by(release.version, component)
            assert names, (release.version, component)
            version = release.cudnn if component == "cudnn" else release.cuda
            main = {"cuda": "libcublas.so.", "cudnn": "libcudnn.so."}[component]
            assert any(name.startswith(main + version.split(".")[0]) for name in names), release.version


def test_every_ptx_in_the_wheels_has_a_driver(tables: Tables) -> None:
    for row in tables.kernels:
        for kernel in row.kernels:
            assert tables.driver_for_ptx(kernel["ptx"]["version"]), row.releases


def test_a_newer_cuda_knows_no_older_ptx_and_loads_no_less_lazily(tables: Tables) -> None:
    order = ["none", "possible", "default"]
    rows = [(Version(row.ptx), order.index(row.lazy_loading)) for row in tables.cuda_drivers]
    assert rows == sorted(rows)


def test_driver_that_comes_with_the_toolkit_is_not_older_than_the_compatible_one(tables: Tables) -> None:
    for row in tables.cuda_drivers:
        if row.minor_compatibility_driver:
            assert Version(row.minor_compatibility_driver) <= Version(row.driver), row.cuda


def test_every_specifier_names_releases_and_every_requirement_parses(tables: Tables) -> None:
    for row in (*tables.constraints, *tables.cuda_wheels):
        matched = [r.version for r in tables.releases if SpecifierSet(row.releases).contains(r.version)]
        assert matched, row
    # Of what is added the newest may be wanted, whatever it is on each Python. A constraint without a version is none.
    added = {row.requirement for row in tables.constraints if row.kind == "add"}
    assert all(Requirement(requirement).name for requirement in added)
    for requirement in [c.requirement for c in tables.constraints if c.kind != "add"] + [
        requirement for wheels in tables.cuda_wheels for requirement in wheels.requirements
    ]:
        assert Requirement(requirement).specifier, requirement


def test_every_release_since_2_5_has_exactly_one_set_of_cuda_wheels(tables: Tables) -> None:
    for release in tables.releases:
        rows = [row for row in tables.cuda_wheels if SpecifierSet(row.releases).contains(release.version)]
        assert len(rows) == (1 if Version(release.version) >= Version("2.5") else 0), release.version


def test_cuda_wheels_fit_their_releases(tables: Tables) -> None:
    """CUDA of the same major and not older, cuDNN of the same major and not older than the floor's minor."""
    for release in tables.releases:
        row = tables.cuda_wheels_for(release.version)
        if row is None:
            continue
        cuda, cudnn, floor = Version(row.cuda), Version(row.cudnn), Version(release.cudnn_floor)
        assert cuda.major == Version(release.cuda).major, release.version
        assert cuda >= Version(release.cuda), release.version
        assert cudnn.major == floor.major, release.version
        assert cudnn.minor >= floor.minor, release.version


def test_cudnn_wheels_are_some_of_the_cuda_wheels(tables: Tables) -> None:
    for row in tables.cuda_wheels:
        assert set(row.cudnn_requirements) < set(row.requirements), row.releases
        assert any(requirement.startswith("nvidia-cudnn-") for requirement in row.cudnn_requirements), row.releases


def test_no_release_gets_two_constraints_on_one_project(tables: Tables) -> None:
    for release in tables.releases:
        for minor in release.pythons["x86_64"]:
            names = [Requirement(row.requirement).name for row in tables.constraints_for(release.version, minor)]
            assert len(names) == len(set(names)), (release.version, minor)


def test_every_python_of_a_release_can_be_had_somewhere(tables: Tables) -> None:
    distributed = {row.minor for row in tables.python_packages}
    assert set(tables.uv_pythons) == {"3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"}
    for release in tables.releases:
        pythons = set(release.pythons["x86_64"])
        assert pythons & (set(tables.uv_pythons) | distributed), release.version


def test_every_device_is_of_a_known_chip_and_every_chip_has_a_device(tables: Tables) -> None:
    assert {device.chip for device in tables.gpu_devices.values()} == {chip.chip for chip in tables.gpu_chips}


def test_last_driver_branch_is_in_the_table_of_branches(tables: Tables) -> None:
    last = {chip.last_driver_branch for chip in tables.gpu_chips} - {None}
    assert last
    assert last <= {row.branch for row in tables.driver_branches}


def test_uv_is_the_one_that_the_file_names_say(tables: Tables) -> None:
    assert [row.architecture for row in tables.uvs] == ["aarch64", "x86_64"]
    for row in tables.uvs:
        assert row.filename.startswith(f"uv-{row.version}-py3-none-")
        assert row.architecture in row.filename


def test_every_package_and_archive_of_cuda_has_driver_rows(tables: Tables) -> None:
    known = {row.cuda for row in tables.cuda_drivers}
    assert {cuda for packages in tables.cuda_packages for cuda in packages.cuda} <= known
    assert {row.cuda for row in tables.redist if row.component == "cuda"} <= known


def test_every_driver_package_is_of_a_known_branch_and_asks_for_it(tables: Tables) -> None:
    for row in tables.driver_packages:
        assert tables.driver_branch(row.branch), row
        assert row.version.startswith(f"{row.branch}."), row


def test_every_package_of_nvidia_has_its_repository(tables: Tables) -> None:
    repositories = {(row.os, row.version_id) for row in tables.repositories}
    rows = [row for row in (*tables.driver_packages, *tables.cuda_packages) if row.origin == "nvidia_repo"]
    assert {(row.os, row.version_id) for row in (*rows, *tables.cudnn_packages)} <= repositories


def test_every_package_of_a_distribution_has_its_components(tables: Tables) -> None:
    components = {(row.os, row.version_id) for row in tables.components}
    rows = [row for row in (*tables.driver_packages, *tables.cuda_packages) if row.origin == "distro"]
    assert {(row.os, row.version_id) for row in rows} == components


def test_what_is_asked_for_belongs(tables: Tables) -> None:
    """Nothing that is asked for may be left out of what is pinned and held; headers are the kernel's."""
    for row in tables.driver_packages:
        texts = [*row.user_space, *row.modules, *filter(None, [row.fabric_manager, row.signed_modules])]
        names = [text.partition("=")[0] for text in texts]
        assert [n for n in names if not any(fnmatch.fnmatchcase(n, p) for p in row.belongs)] == [], row
    for packages in (*tables.cuda_packages, *tables.cudnn_packages):
        names = [name.partition("=")[0] for name in packages.packages]
        assert [n for n in names if not any(fnmatch.fnmatchcase(n, p) for p in packages.belongs)] == [], packages


def test_every_cause_is_there_once(tables: Tables) -> None:
    causes = [row.cause for row in tables.diagnoses]
    assert len(causes) == len(set(causes))


def _lines(rows: Any) -> list[str]:
    return [
        evidence[key]
        for row in rows
        for evidence in row.evidence
        for key in ("line", "with", "without")
        if key in evidence
    ]


def test_every_diagnosis_asks_for_facts_that_there_are_and_for_lines_that_compile(tables: Tables) -> None:
    for row in tables.diagnoses:
        known: set[str] = set()
        for alternative in row.evidence:
            facts = set(alternative.get("facts", ()))
            assert facts <= set(FACTS), row.cause
            known |= facts | set(re.compile(alternative.get("line", "")).groupindex)
        texts = (row.says, row.do, *row.do_on.values())
        named = {name for text in texts for name in re.findall(r"\{(\w+)\}", text)}
        assert named <= known, row.cause
        assert all(text.count("[") == text.count("]") for text in texts), row.cause


def test_what_explains_a_cause_exists_and_nothing_explains_itself(tables: Tables) -> None:
    explained = {row.cause: set(row.explains) for row in tables.diagnoses}
    assert {name for names in explained.values() for name in names} <= explained.keys()
    while explained:
        last = [cause for cause, names in explained.items() if not names & explained.keys()]
        assert last, f"in a circle: {sorted(explained)}"
        for cause in last:
            del explained[cause]


def test_lines_of_diagnoses_need_a_text_that_is_looked_for_first(tables: Tables) -> None:
    """Without one, each line of a log is tried."""
    without = [line for line in _lines(tables.diagnoses) if not needles(line)]
    assert without == [r"^i(?:F|U|HR|FR|UR) +\S"]


def test_every_symptom_of_a_constraint_is_recognised(tables: Tables) -> None:
    rows = [row._asdict() for row in tables.diagnoses]
    assert [row.symptom for row in tables.constraints if not diagnose(rows, text=row.symptom)] == []


def test_every_chip_has_kernel_modules(tables: Tables) -> None:
    assert all(chip.open_modules or chip.proprietary_modules for chip in tables.gpu_chips)


def test_archives_are_of_their_row(tables: Tables) -> None:
    for row in tables.redist:
        paths = [archive["relative_path"] for archive in row.archives]
        assert len(set(paths)) == len(paths), row.version
        assert row.library_directory.startswith(row.prefix + "/"), row.version
        if row.component == "cudnn":
            assert [archive["version"] for archive in row.archives] == [row.version]
            assert row.prefix.endswith(f"cudnn-{row.version}-cuda{row.cuda}")
        else:
            assert row.version.startswith(row.cuda + ".")
            assert row.prefix.endswith(f"cuda-{row.cuda}")
