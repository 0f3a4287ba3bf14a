from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import TableError
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

TABLES = Path(__file__).resolve().parents[4] / "roles/tensorflow_release/files/tables"


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TABLES, tmp_path / "tables"))


def _change(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text(encoding="utf-8")
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    path.write_text(changed, encoding="utf-8")


# ------------------------------------------------------------------------------------------------ lookups


def test_releases_are_in_order_of_version_not_of_text(tables: Tables) -> None:
    versions = [release.version for release in tables.releases]
    assert versions.index("2.9.3") + 1 == versions.index("2.10.0")
    assert versions.index("2.15.0") + 1 == versions.index("2.15.0.post1")


def test_release_as_the_user_writes_it(tables: Tables) -> None:
    release = tables.release("2.8.0")
    assert release is not None
    assert release.pythons == {"x86_64": ("3.7", "3.8", "3.9", "3.10"), "aarch64": ()}
    assert (release.package, release.cuda, release.cudnn, release.cudnn_floor) == ("tensorflow", "11.2", "8.1", "8.1.0")
    assert release.packages == {"tensorflow": "gpu", "tensorflow-cpu": "cpu", "tensorflow-gpu": "gpu"}
    assert tables.release("2.8") == release


@pytest.mark.parametrize("version", ["2.8.9", "1.14.0", "", "newest", "2.8.*"])
def test_unknown_release(tables: Tables, version: str) -> None:
    assert tables.release(version) is None


def test_gpu_build_of_late_1_15_is_another_project(tables: Tables) -> None:
    releases = {version: tables.release(version) for version in ("1.15.0", "1.15.5")}
    assert {version: release and release.package for version, release in releases.items()} == {
        "1.15.0": "tensorflow",
        "1.15.5": "tensorflow-gpu",
    }


@pytest.mark.parametrize(
    ("version", "minor", "expected"),
    [
        ("2.8.0", "3.10", ["numpy<2", "pip", "protobuf<3.21", "setuptools<82"]),
        ("2.8.0", "3.8", ["pip", "protobuf<3.21"]),
        ("2.8.4", "3.10", ["numpy<2", "pip", "setuptools<82"]),
        ("2.6.1", "3.9", ["keras<2.7", "pip", "protobuf<3.21", "setuptools<82"]),
        ("2.6.2", "3.9", ["pip", "protobuf<3.21", "setuptools<82"]),
        ("2.6.5", "3.9", ["pip", "setuptools<82"]),
        ("2.9.0", "3.10", ["numpy<2", "pip", "protobuf<3.21", "setuptools<82"]),
        ("2.14.0", "3.11", ["numpy<2", "pip", "setuptools<82"]),
        ("2.14.1", "3.11", ["pip", "setuptools<82"]),
        ("2.15.0.post1", "3.11", ["pip", "setuptools<82"]),
        ("2.21.0", "3.13", ["pip", "tensorboard>=2.21"]),
        ("1.15.5", "3.7", ["pip", "protobuf<3.21"]),
        ("1.15.4", "3.7", ["h5py<3", "pip", "protobuf<3.21"]),
        ("1.15.3", "3.7", ["h5py<3", "numpy<1.20", "pip", "protobuf<3.21"]),
        ("1.15.3", "3.6", ["h5py<3", "pip", "protobuf<3.21"]),
    ],
)
def test_constraints_by_release_and_python(tables: Tables, version: str, minor: str, expected: list[str]) -> None:
    assert [row.requirement for row in tables.constraints_for(version, minor)] == expected


@pytest.mark.parametrize(
    ("version", "cuda", "cudnn", "link"),
    [
        ("2.8.0", "11.8", "8.6", True),
        ("2.14.1", "11.8", "8.7", False),
        ("2.15.0.post1", "12.2", "8.9", False),
        ("2.16.1", "12.3", "8.9", True),
        ("2.16.2", "12.3", "8.9", False),
        ("2.21.0", "12.9", "9.10", True),
    ],
)
def test_cuda_wheels_by_release(tables: Tables, version: str, cuda: str, cudnn: str, link: bool) -> None:
    row = tables.cuda_wheels_for(version)
    assert row is not None
    assert (row.cuda, row.cudnn, row.link, row.architecture) == (cuda, cudnn, link, "x86_64")
    assert not any("tensorrt" in requirement for requirement in row.requirements)


@pytest.mark.parametrize("version", ["1.15.5", "2.4.4"])
def test_no_cuda_wheels(tables: Tables, version: str) -> None:
    assert tables.cuda_wheels_for(version) is None


def test_cuda_driver(tables: Tables) -> None:
    row = tables.cuda_driver("11.2")
    assert (row.driver, row.minor_compatibility_driver) == ("460.27.03", "450.80.02")
    assert tables.cuda_driver("10.0").minor_compatibility_driver is None
    with pytest.raises(TableError, match=r"cuda_drivers\.yml has no row for CUDA 12\.7; it knows 10\.0, .*Add the row"):
        tables.cuda_driver("12.7")


@pytest.mark.parametrize(
    ("device_id", "chip", "compute_capability", "name"),
    [
        ("102d", "GK210", "3.7", "Tesla K80"),
        ("1db1", "GV100", "7.0", "Tesla V100 SXM2 16GB"),
        ("20b0", "GA100", "8.0", "A100 SXM4 40GB"),
        ("2330", "GH100", "9.0", "H100 SXM5 80GB"),
        ("2b85", "GB202", "12.0", "GeForce RTX 5090"),
    ],
)
def test_chip_of_a_device(tables: Tables, device_id: str, chip: str, compute_capability: str, name: str) -> None:
    known = tables.chip(device_id)
    assert known is not None
    assert (known[0].chip, known[0].compute_capability, known[1]) == (chip, compute_capability, name)


def test_device_that_is_newer_than_the_table(tables: Tables) -> None:
    assert tables.chip("ffff") is None


def test_uv_by_architecture(tables: Tables) -> None:
    row = tables.uv("x86_64")
    assert row is not None
    assert "manylinux" in row.filename
    assert tables.uv("riscv64") is None


@pytest.mark.parametrize(
    ("os_id", "version_id", "minor", "package"),
    [
        ("debian", "12", "3.11", "python3.11"),
        ("debian", "12", "3.10", None),
        ("ubuntu", "22.04", "3.10", "python3.10"),
        ("rocky", "9.4", "3.9", "python3"),
        ("rocky", "90", "3.9", None),
        ("arch", "", "3.11", None),
    ],
)
def test_python_package(tables: Tables, os_id: str, version_id: str, minor: str, package: str | None) -> None:
    row = tables.python_package({"id": os_id, "version_id": version_id}, minor)
    assert (row and row.package) == package


# ------------------------------------------------------------------------------------------------ damage


def test_a_missing_field_is_named_with_its_table_and_row(copied: Path) -> None:
    _change(copied / "releases.yml", r'(version: "2\.8\.0".*?), cuda: "11\.2"', r"\1")
    with pytest.raises(TableError, match=r"releases\.yml, row \d+ \(version: 2\.8\.0, .*the field `cuda` is missing"):
        load_tables(str(copied))


def test_an_unknown_field_is_named(copied: Path) -> None:
    _change(copied / "constraints.yml", "symptom:", "symptoms: [], symptom:")
    with pytest.raises(TableError, match=r"constraints\.yml, row 1 .*`symptoms` is unknown; fields are releases, "):
        load_tables(str(copied))


def test_a_version_without_quotes_is_named(copied: Path) -> None:
    _change(copied / "uv.yml", r'"3\.10"', "3.10")
    with pytest.raises(TableError, match=r"uv\.yml, row 1 .*`pythons` is a number, .*Put the version in quotes"):
        load_tables(str(copied))


def test_a_version_without_quotes_inside_a_mapping_is_named(copied: Path) -> None:
    _change(copied / "releases.yml", r'x86_64: \["3\.6"', "x86_64: [3.6")
    with pytest.raises(TableError, match=r"releases\.yml, row 1 .*`pythons` is a number"):
        load_tables(str(copied))


@pytest.mark.parametrize("content", ["", "rows: []\n", "rows: 3\n", "- 1\n"])
def test_a_table_without_rows_is_refused(copied: Path, content: str) -> None:
    (copied / "cuda_drivers.yml").write_text(content, encoding="utf-8")
    with pytest.raises(TableError, match=r"cuda_drivers\.yml has no list `rows`"):
        load_tables(str(copied))


def test_a_row_that_is_no_mapping_is_refused(copied: Path) -> None:
    (copied / "cuda_drivers.yml").write_text("rows: [11.2]\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"cuda_drivers\.yml, row 1: expected a mapping, found 11\.2"):
        load_tables(str(copied))


@pytest.mark.parametrize("cut", [b"rows: [{", b"\xff\xfe"])
def test_what_is_not_yaml_is_refused(copied: Path, cut: bytes) -> None:
    (copied / "gpu_chips.yml").write_bytes(cut)
    with pytest.raises(TableError, match=r"gpu_chips\.yml is not YAML: "):
        load_tables(str(copied))


def test_a_missing_table_is_named(copied: Path) -> None:
    (copied / "driver_branches.yml").unlink()
    with pytest.raises(TableError, match=r"driver_branches\.yml cannot be read: No such file or directory"):
        load_tables(str(copied))


def test_devices_are_read_on_demand_and_checked_as_well(copied: Path) -> None:
    _change(copied / "gpu_devices.json", ', "chip": "GM107"', "")
    tables = load_tables(str(copied))
    with pytest.raises(TableError, match=r"gpu_devices\.json, row [0-9]+ .*the field `chip` is missing"):
        tables.chip("20b0")
