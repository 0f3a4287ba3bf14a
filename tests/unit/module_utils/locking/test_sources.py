from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import LockError
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.locking.sources import SourceRecord, read_source

REQUIRES = """six

[:python_version < "3"]
typing>=3.6.4

[test]
pytest

[test:python_version < "3.8"]
mock
"""


def made(directory: Path, files: dict[str, str], *, zipped: bool = False) -> Path:
    path = directory / ("promise-2.3.zip" if zipped else "promise-2.3.tar.gz")
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(f"promise-2.3/{name}", text)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            row = tarfile.TarInfo(f"promise-2.3/{name}")
            row.size = len(text)
            tar.addfile(row, io.BytesIO(text.encode()))
    return path


def read(path: Path, sha256: str | None = None) -> SourceRecord:
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    archive = {"url": path.as_uri(), "hashes": {"sha256": digest}, "size": path.stat().st_size}
    return read_source("promise", "2.3", archive, Source(path.parent.as_uri(), name="index", settings="x"))


@pytest.mark.parametrize("zipped", [False, True])
def test_requirements_of_an_egg(tmp_path: Path, zipped: bool) -> None:
    files = {"setup.py": "raise SystemExit", "PKG-INFO": "Name: promise\n", "promise.egg-info/requires.txt": REQUIRES}
    record = read(made(tmp_path, files, zipped=zipped))
    assert record.requires == (
        "six",
        'typing>=3.6.4; python_version < "3"',
        'pytest; extra == "test"',
        'mock; extra == "test" and python_version < "3.8"',
    )
    assert record.built_with == ("setuptools<82", "wheel")


def test_what_the_metadata_and_pyproject_say(tmp_path: Path) -> None:
    files = {
        "PKG-INFO": "Metadata-Version: 2.2\nName: promise\nRequires-Dist: numpy (>=1.20)\n\ntext",
        "pyproject.toml": '[build-system]\nrequires = ["cython==0.29", "setuptools>=60"]\n',
        "src/promise.egg-info/requires.txt": "other",
    }
    record = read(made(tmp_path, files))
    assert record.requires == ("numpy>=1.20",)
    assert record.built_with == ("cython==0.29", "setuptools>=60", "setuptools<82", "wheel")
    assert record.metadata_row == '{name = "promise", version = "2.3", requires-dist = ["numpy>=1.20"]}'


def test_another_file_than_the_index_says(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="is not the pinned file"):
        read(made(tmp_path, {"PKG-INFO": ""}), "0" * 64)


def test_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "promise-2.3.tar.gz"
    path.write_bytes(b"text")
    with pytest.raises(LockError, match="the source distribution of promise 2.3 cannot be unpacked"):
        read(path)
