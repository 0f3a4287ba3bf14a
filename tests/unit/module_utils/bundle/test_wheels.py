from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.bundle import wheels
from ansible.module_utils.tensorflow_stack.bundle.manifest import BundledFile
from ansible.module_utils.tensorflow_stack.bundle.needs import BundleNeed, project_of
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.io.index import read_page

from tests.index import serve
from tests.repositories.serve import serve as serve_files
from tests.wheels import make_wheel

LOCK = """\
ansible-core==2.17.14 ; python_full_version < '3.11' \\
    --hash=sha256:{a}
    # via -r controller.in
ansible-core==2.21.5 ; python_full_version >= '3.12' \\
    --hash=sha256:{b} \\
    --hash=sha256:{c}
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{a}
pyyaml==6.0.3 \\
    --hash=sha256:{c}
""".format(a="a" * 64, b="b" * 64, c="c" * 64)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Source]:
    (tmp_path / "wheels").mkdir()
    with serve(tmp_path / "wheels") as url:
        yield Source(url, name="package index", settings="tensorflow_index_url")


def test_what_a_lock_of_tools_has_for_some_pythons() -> None:
    found = {(need.name, need.version): need.sha256s for need in wheels.needs_of_tools(LOCK, ["3.12"])}
    assert found == {("ansible-core", "2.21.5"): ("b" * 64, "c" * 64), ("pyyaml", "6.0.3"): ("c" * 64,)}
    names = [need.version for need in wheels.needs_of_tools(LOCK, ["3.10", "3.13"]) if need.name == "ansible-core"]
    assert names == ["2.17.14", "2.21.5"]


def test_which_files_are_for_some_pythons_on_linux() -> None:
    fits = wheels.fitting(["3.10", "3.12"], "x86_64")
    fitting = ["a-1-py3-none-any.whl", "a-1-cp310-cp310-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"]
    fitting.append("a-1-cp38-abi3-manylinux2014_x86_64.whl")
    others = ["a-1-cp311-cp311-manylinux2014_x86_64.whl", "a-1-cp312-cp312-musllinux_1_2_x86_64.whl", "a-1.tar.gz"]
    others += ["a-1-cp312-cp312-macosx_11_0_arm64.whl", "a-1-cp312-cp312-manylinux2014_aarch64.whl"]
    assert [name for name in fitting + others if fits(name)] == fitting


def test_the_files_of_an_index_with_the_hashes_of_a_lock(index: Source, tmp_path: Path) -> None:
    row = make_wheel(tmp_path / "wheels", "tiny-thing", "1.0", {"tiny/__init__.py": ""})
    make_wheel(tmp_path / "wheels", "tiny-thing", "2.0", {"tiny/__init__.py": ""})
    found, said = wheels.find_wheels(index, [BundleNeed("wheel", "tiny-thing", "1.0", row.hashes, row.bytes)])
    assert [(one.path, one.sha256, one.bytes) for one in found] == [
        ("wheels/tiny_thing-1.0-py3-none-any.whl", row.hashes[0], row.bytes)
    ]
    assert said["tiny_thing-1.0-py3-none-any.whl"]["upload-time"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("name", ["tiny-thing", "unknown"])
def test_an_index_without_a_locked_file_is_refused(index: Source, tmp_path: Path, name: str) -> None:
    make_wheel(tmp_path / "wheels", "tiny-thing", "2.0", {"tiny/__init__.py": ""})
    with pytest.raises(StackError, match=f"has no file of {name} 1.0 with a hash of the lock"):
        wheels.find_wheels(index, [BundleNeed("wheel", name, "1.0", ("d" * 64,))])


def bundled(directory: Path, name: str, version: str) -> BundledFile:
    row = make_wheel(directory / "wheels", name, version, {"tiny/__init__.py": ""})
    escaped = name.replace("-", "_")
    path = f"wheels/{escaped}-{version}-py3-none-any.whl"
    return BundledFile(path, row.hashes[0], row.bytes, "wheel", name, version)


def test_the_pages_are_an_index(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    files = [bundled(tmp_path, "tiny-thing", "1.0"), bundled(tmp_path, "other", "2.0")]
    said = {"tiny_thing-1.0-py3-none-any.whl": {"requires-python": ">=3.8", "upload-time": "2026-01-01T00:00:00Z"}}
    paths = wheels.write_pages(str(tmp_path), files, said)
    assert "simple/tiny-thing/index.html" in paths
    assert all((tmp_path / path).is_file() for path in paths)
    page = Source(f"{tmp_path.as_uri()}/simple/tiny-thing/index.html", name="page", settings="")
    body = page.get(page.shown, what="page", limit=1 << 20).body.decode()
    assert f'href="../../wheels/tiny_thing-1.0-py3-none-any.whl#sha256={files[0].sha256}"' in body
    assert 'data-requires-python="&gt;=3.8"' in body
    as_json = json.loads((tmp_path / "simple/tiny-thing/index.json").read_text())
    assert as_json["files"][0]["hashes"] == {"sha256": files[0].sha256}
    # Pages that are made again without the index that they are from say what they said.
    wheels.write_pages(str(tmp_path), files, {})
    assert json.loads((tmp_path / "simple/tiny-thing/index.json").read_text()) == as_json


@pytest.mark.parametrize(
    ("filename", "project"),
    [("Tiny_Thing-1.0-py3-none-any.whl", "tiny-thing"), ("tiny.thing-1.0.tar.gz", "tiny-thing"), ("a-b-1.zip", "a-b")],
)
def test_the_project_of_a_file(filename: str, project: str) -> None:
    assert project_of(filename) == project


@pytest.mark.parametrize(
    ("fields", "license_"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other\n", "MIT OR Apache-2.0"),
        ("Classifier: License :: OSI Approved :: BSD License\nLicense: x\n", "BSD License"),
        ("License: Apache 2.0\n", "Apache 2.0"),
        ("License: " + "all of it " * 20 + "\n", None),
        ("", None),
    ],
)
def test_the_license_of_a_wheel(tmp_path: Path, fields: str, license_: str | None) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", f"Metadata-Version: 2.4\nName: a\nVersion: 1\n{fields}\ntext\n")
    assert wheels.license_of(str(tmp_path / "a.whl")) == license_


def test_a_file_that_is_no_wheel_has_no_license(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_text("no zip")
    assert wheels.license_of(str(tmp_path / "a.whl")) is None


def test_an_index_is_read_from_a_bundle_by_its_pages(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    file = bundled(tmp_path, "tiny-thing", "1.0")
    wheels.write_pages(str(tmp_path), [file], {})
    with serve_files(tmp_path) as server:
        source = Source(f"{server.url}/simple", name="package index", settings="")
        rows = read_page(source, "tiny-thing")
        assert rows and rows[0]["hashes"] == {"sha256": file.sha256}
        assert rows[0]["url"] == f"{server.url}/{file.path}"
