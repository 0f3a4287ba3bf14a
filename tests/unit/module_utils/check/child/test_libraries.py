"""Libraries found as the loader finds them, on an environment of libraries that gcc makes here."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.check.child import libraries
from ansible.module_utils.tensorflow_stack.check.child.libraries import find_libraries, load_libraries, sonames

from tests.needs import require

BUILD_INFO = """
import collections
build_info = collections.OrderedDict([('cuda_version', '11.2'), ('cudnn_version', '8'), ('is_cuda_build', True)])
"""


@pytest.fixture(autouse=True)
def compiler() -> None:
    require("gcc", "libc6-dev")


def compile_library(path: Path, source: str = "", *options: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), *options]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def cudnn(path: Path, version: int) -> Path:
    return compile_library(path, f"unsigned long cudnnGetVersion(void) {{ return {version}; }}")


class Environment:
    def __init__(self, site: Path, paths: str, *, tag: str = "--enable-new-dtags") -> None:
        self.site = site
        self.tensorflow = site / "tensorflow"
        framework = self.tensorflow / "libtensorflow_framework.so.2"
        compile_library(framework, "", f"-Wl,-rpath,{paths},{tag}")
        info = self.tensorflow / "python" / "platform" / "build_info.py"
        info.parent.mkdir(parents=True)
        info.write_text(BUILD_INFO)

    def row(self, name: str = "libcudnn.so.8", *, load: bool = False) -> dict[str, Any]:
        libraries = find_libraries()["libraries"]
        rows = load_libraries(libraries)["libraries"] if load else libraries
        return dict(next(row for row in rows if row["name"] == name))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path / "site")})
    monkeypatch.setattr(libraries, "_loader_cache", dict)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return Environment(tmp_path / "site", "$ORIGIN/:$ORIGIN/../nvidia/cudnn/lib")


def test_nothing_is_there(environment: Environment) -> None:
    found = find_libraries()
    assert found["built_with"]["cuda_version"] == "11.2"
    assert [row["name"] for row in found["libraries"]] == [
        "libcudart.so.11.0",
        "libcublas.so.11",
        "libcublasLt.so.11",
        "libcufft.so.10",
        "libcurand.so.10",
        "libcusolver.so.11",
        "libcusparse.so.11",
        "libcudnn.so.8",
        "libcuda.so.1",
    ]
    assert environment.row() == {
        "name": "libcudnn.so.8",
        "path": None,
        "target": None,
        "rule": None,
        "version": None,
        "error": None,
        "others": [],
    }


def test_a_wheel_by_runpath(environment: Environment) -> None:
    library = cudnn(environment.site / "nvidia/cudnn/lib/libcudnn.so.8", 8600)
    row = environment.row(load=True)
    assert (row["path"], row["rule"], row["version"]) == (str(library), "RUNPATH", "8.6.0")


def test_a_link_in_the_environment_leads_to_the_real_file(environment: Environment, tmp_path: Path) -> None:
    library = cudnn(tmp_path / "cuda/libcudnn.so.8.1.0", 8100)
    (environment.tensorflow / "libcudnn.so.8").symlink_to(library)
    row = environment.row(load=True)
    assert (row["target"], row["version"]) == (str(library), "8.1.0")


def test_the_library_path_wins_over_runpath(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = cudnn(environment.site / "nvidia/cudnn/lib/libcudnn.so.8", 8600)
    old = cudnn(tmp_path / "old/libcudnn.so.8", 8005)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nonexistent:{old.parent}")
    row = environment.row(load=True)
    assert (row["path"], row["rule"], row["version"]) == (str(old), "LD_LIBRARY_PATH", "8.0.5")
    assert row["others"] == [{"path": str(inside), "rule": "RUNPATH"}]


def test_an_rpath_wins_over_the_library_path(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in TensorFlow up to 2.6."""
    shutil.rmtree(environment.site)
    older = Environment(environment.site, "$ORIGIN/", tag="--disable-new-dtags")
    inside = cudnn(older.tensorflow / "libcudnn.so.8", 8100)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(cudnn(tmp_path / "old/libcudnn.so.8", 8005).parent))
    row = older.row()
    assert (row["path"], row["rule"]) == (str(inside), "RPATH")


def test_what_the_loader_passes_over_is_passed_over(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other/libcudnn.so.8"
    other.parent.mkdir()
    other.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + (8).to_bytes(2, "little"))  # of MIPS
    monkeypatch.setenv("LD_LIBRARY_PATH", str(other.parent))
    library = cudnn(environment.tensorflow / "libcudnn.so.8", 90300)
    row = environment.row(load=True)
    assert (row["path"], row["version"]) == (str(library), "9.3.0")


def test_the_cache_of_the_loader_comes_after_the_environment(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = cudnn(tmp_path / "lib/libcudnn.so.8", 8900)
    monkeypatch.setattr(libraries, "_loader_cache", lambda: {"libcudnn.so.8": [str(system)]})
    assert environment.row()["rule"] == "ld.so.cache"
    cudnn(environment.tensorflow / "libcudnn.so.8", 8600)
    row = environment.row()
    assert (row["rule"], row["others"]) == ("RUNPATH", [{"path": str(system), "rule": "ld.so.cache"}])


def test_a_library_that_does_not_load_says_why(environment: Environment) -> None:
    path = environment.tensorflow / "libcudnn.so.8"
    cudnn(path, 8600)
    path.write_bytes(path.read_bytes()[:64])
    row = environment.row(load=True)
    assert row["version"] is None
    assert str(path) in row["error"]


def test_a_file_that_is_no_library_stops_the_loader(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn(environment.tensorflow / "libcudnn.so.8", 8600)
    (tmp_path / "libcudnn.so.8").write_text("none")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    row = environment.row(load=True)
    assert row["rule"] == "LD_LIBRARY_PATH"
    assert row["error"]


def test_a_library_of_somebody_else_has_no_version(environment: Environment) -> None:
    compile_library(environment.tensorflow / "libcudnn.so.8", "int nothing;")
    assert environment.row(load=True)["version"] is None


def test_no_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="TensorFlow is not installed there"):
        find_libraries()


@pytest.mark.parametrize(
    ("cuda", "cudnn", "expected"),
    [
        ("10.0", "7", {"libcudart.so.10.0", "libcusolver.so.10.0", "libcudnn.so.7"}),
        ("11.0", "8", {"libcudart.so.11.0", "libcusolver.so.10", "libcudnn.so.8"}),
        ("11.8", "8", {"libcudart.so.11.0", "libcusolver.so.11", "libcufft.so.10"}),
        ("12.5.1", "9", {"libcudart.so.12", "libcusolver.so.11", "libcufft.so.11", "libcudnn.so.9"}),
    ],
)
def test_names_by_the_cuda_of_the_build(cuda: str, cudnn: str, expected: set[str]) -> None:
    assert set(sonames({"cuda_version": cuda, "cudnn_version": cudnn})) >= expected


def test_a_build_without_cuda_opens_nothing(environment: Environment) -> None:
    path = environment.tensorflow / "python/platform/build_info.py"
    path.write_text("import collections\nbuild_info = collections.OrderedDict([('is_cuda_build', False)])\n")
    assert find_libraries()["libraries"] == []


def test_the_loader_agrees(environment: Environment) -> None:
    """What is said here of this machine's own libraries is what ldd says."""
    said = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    path = next(line.split("=> ")[1].split(" ")[0] for line in said.splitlines() if "libc.so.6 =>" in line)
    search = libraries.Search(str(environment.tensorflow / "libtensorflow_framework.so.2"))
    assert Path(search.copies("libc.so.6")[0].path).resolve() == Path(path).resolve()
