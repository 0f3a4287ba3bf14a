"""NVIDIA's libraries as the node record has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.node.files import NodeFiles
from ansible.module_utils.tensorflow_stack.node.libraries import Check, check_libraries
from ansible.module_utils.tensorflow_stack.node.loader import read_loader
from ansible.module_utils.tensorflow_stack.node.record import read_node

from tests import nodes


def test_of_several_libcuda_the_loaders_first_is_taken(tmp_path: Path) -> None:
    tree = {
        "links": {
            "/opt/old/libcuda.so.1": "libcuda.so.470.256.02",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.1": "libcuda.so.535.183.01",
        },
        "files": {
            "/etc/ld.so.conf.d/.off.conf": "/opt/off\n",
            "/etc/ld.so.conf": "include ld.so.conf.d/*.conf\n",
            "/etc/ld.so.conf.d/old.conf": "/opt/old  # first\n",
        },
        "elf": {
            "/bin/sh": "x86_64",
            "/opt/old/libcuda.so.470.256.02": "x86_64",
            "/opt/off/libcuda.so.1": "x86_64",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01": "x86_64",
            "/usr/lib/x86_64-linux-gnu/libcuda.so.525.147.05": "x86_64",
        },
    }
    driver = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))["driver"]
    assert driver["installed"] == "470.256.02"
    assert driver["other_libcuda"] == [
        "/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01",
        "/usr/lib/x86_64-linux-gnu/libcuda.so.525.147.05",
    ]


def test_a_libcuda_that_nothing_links_to_is_said_to_be_so(tmp_path: Path) -> None:
    library = "/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.183.01"
    tree = {"elf": {"/bin/sh": "x86_64", library: "x86_64"}}
    record = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["driver"]["libcuda"] == library
    assert {
        "fact": "driver.libcuda",
        "reason": f"{library}: no libcuda.so.1 points to it",
    } in record["unread"]


def test_a_libcuda_without_a_version_in_its_name_is_said_to_be_so(tmp_path: Path) -> None:
    """As the Windows Subsystem for Linux has it, where some make the first name a link to the other."""
    tree = {
        "files": {"/etc/ld.so.conf": "/usr/lib/wsl/lib\n"},
        "links": {"/usr/lib/wsl/lib/libcuda.so.1": "libcuda.so.1.1"},
        "elf": {"/bin/sh": "x86_64", "/usr/lib/wsl/lib/libcuda.so.1.1": "x86_64"},
    }
    record = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["driver"]["libcuda"] == "/usr/lib/wsl/lib/libcuda.so.1.1"
    assert record["driver"]["installed"] is None
    assert "driver.installed" in [row["fact"] for row in record["unread"]]


def test_the_libcuda_of_windows_is_found_where_nothing_leads_the_loader_to_it(tmp_path: Path) -> None:
    library = "/usr/lib/wsl/lib/libcuda.so.1"
    record = read_node(filesystem_root=str(nodes.build({"elf": {"/bin/sh": "x86_64", library: "x86_64"}}, tmp_path)))
    assert record["driver"]["libcuda"] == library


def test_cuda_and_cudnn_whose_names_hold_the_soname_only(tmp_path: Path) -> None:
    """As the wheels and NVIDIA's component archives lay them: the headers say the version."""
    prefix = "/opt/nvidia/cuda-11.2"
    tree = {
        "files": {
            f"{prefix}/include/cuda_runtime_api.h": "#define CUDART_VERSION  11020\n",
            f"{prefix}/include/cudnn_version.h": (
                "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 1\n"
            ),
        },
        "elf": {
            "/bin/sh": "x86_64",
            f"{prefix}/lib/libcudart.so.11.0": "x86_64",
            f"{prefix}/lib/libcudnn.so.8": "x86_64",
        },
    }
    record = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["cuda"] == [
        {
            "version": "11.2",
            "prefix": prefix,
            "library_directory": f"{prefix}/lib",
            "libraries": ["libcudart.so.11.0"],
        }
    ]
    assert [(row["version"], row["library"]) for row in record["cudnn"]] == [("8.1.1", f"{prefix}/lib/libcudnn.so.8")]


def test_cuda_and_cudnn_that_two_ways_lead_to_are_one(tmp_path: Path) -> None:
    """NVIDIA's packages name the toolkit's directory to the loader; its archives bring no version file."""
    prefix = "/usr/local/cuda-11.2"
    directory = f"{prefix}/targets/x86_64-linux/lib"
    tree = {
        "links": {
            f"{prefix}/lib64": "targets/x86_64-linux/lib",
            f"{directory}/libcudart.so.11.0": "libcudart.so.11.2.152",
            f"{directory}/libcudnn.so.8": "libcudnn.so.8.1.0",
            "/usr/local/cuda-11": prefix,
        },
        "files": {"/etc/ld.so.conf": "/usr/local/cuda-11/targets/x86_64-linux/lib\n"},
        "elf": {
            "/bin/sh": "x86_64",
            f"{directory}/libcudart.so.11.2.152": "x86_64",
            f"{directory}/libcudnn.so.8.1.0": "x86_64",
        },
    }
    record = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["cuda"] == [
        {
            "version": "11.2",
            "prefix": prefix,
            "library_directory": f"{prefix}/lib64",
            "libraries": ["libcudart.so.11.0"],
        }
    ]
    assert record["cudnn"] == [
        {
            "version": "8.1.0",
            "library": f"{directory}/libcudnn.so.8.1.0",
            "library_directory": directory,
            "libraries": ["libcudnn.so.8"],
        }
    ]


def test_which_libraries_a_cuda_has_is_told_by_the_names_that_the_loader_asks_for(tmp_path: Path) -> None:
    directory = "/usr/local/cuda-12.5/lib64"
    tree: dict[str, Any] = {
        "links": {
            f"{directory}/libcublas.so.12": "libcublas.so.12.5.3.2",
            f"{directory}/libcufft.so.11": "libcufft.so.11.2.3.61",  # leads nowhere
        },
        "elf": {
            "/bin/sh": "x86_64",
            f"{directory}/libcudart.so.12": "x86_64",
            f"{directory}/libcudart.so.12.5.82": "x86_64",
            f"{directory}/libcublas.so.12.5.3.2": "x86_64",
            f"{directory}/libcublasLt.so.12.5.3.2": "x86_64",  # nothing leads the loader to it
            f"{directory}/libcusparse.so.12": "i386",
            f"{directory}/libnvJitLink.so.12": "x86_64",
            f"{directory}/libcupti.so.12": "x86_64",
        },
        "files": {"/usr/local/cuda-12.5/version.json": '{"cuda": {"version": "12.5.1"}}'},
    }
    (row,) = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))["cuda"]
    assert row["libraries"] == ["libcublas.so.12", "libcudart.so.12", "libnvJitLink.so.12"]
    for path in ("bin/ptxas", "nvvm/libdevice/libdevice.10.bc"):
        tree["files"][f"/usr/local/cuda-12.5/{path}"] = ""
    (row,) = read_node(filesystem_root=str(nodes.build(tree, tmp_path / "with the compiler")))["cuda"]
    assert row["libraries"][-2:] == ["ptxas", "libdevice.10.bc"]


# --- Are they there as wanted -------------------------------------------------------------------------

CUDA_LIBRARIES = ("cudart", "cublas", "cublasLt", "cufft", "curand", "cusolver", "cusparse")


def check(tmp_path: Path, tree: dict[str, dict[str, str]], component: str, version: str, directory: str) -> Check:
    tree.setdefault("elf", {})["/bin/sh"] = "x86_64"
    loader = read_loader(NodeFiles(str(nodes.build(tree, tmp_path))))
    return check_libraries(loader, component, version, [directory] if directory else [])


def cuda_tree(directory: str, *without: str) -> dict[str, dict[str, str]]:
    files = {name: f"{directory}/lib{name}.so.11.2.152" for name in CUDA_LIBRARIES if name not in without}
    return {"elf": dict.fromkeys(files.values(), "x86_64")}


@pytest.mark.parametrize(
    ("directory", "asked"),
    [
        ("/usr/local/cuda-11.2/targets/x86_64-linux/lib", "/usr/local/cuda-11.2/lib64"),
        ("/opt/nvidia/cuda-11.2/lib", "/opt/nvidia/cuda-11.2/lib"),
        ("/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
        ("/usr/lib/x86_64-linux-gnu", ""),
    ],
    ids=["packages", "archives", "distribution", "wherever the loader looks"],
)
def test_cuda_as_wanted(tmp_path: Path, directory: str, asked: str) -> None:
    tree = cuda_tree(directory)
    if asked not in ("", directory):
        tree["links"] = {asked: "targets/x86_64-linux/lib"}
    found = check(tmp_path, tree, "cuda", "11.2.2", asked)
    assert (found.version, found.problems) == ("11.2", [])
    assert found.libraries == sorted(tree["elf"].keys() - {"/bin/sh"})


def test_cuda_that_lacks_a_library(tmp_path: Path) -> None:
    directory = "/opt/nvidia/cuda-11.2/lib"
    found = check(tmp_path, cuda_tree(directory, "cublasLt", "cufft"), "cuda", "11.2", directory)
    assert [problem.partition(" nor ")[0] for problem in found.problems] == [
        f"libcublasLt is neither in {directory}",
        f"libcufft is neither in {directory}",
    ]


def test_cuda_at_another_version(tmp_path: Path) -> None:
    directory = "/opt/nvidia/cuda-11.8/lib"
    found = check(tmp_path, cuda_tree(directory), "cuda", "11.8", directory)
    assert found.problems == ["cuda is 11.2 there, not 11.8"]


def test_library_for_another_machine(tmp_path: Path) -> None:
    directory = "/opt/nvidia/cuda-11.2/lib"
    tree = cuda_tree(directory)
    tree["elf"][f"{directory}/libcufft.so.11.2.152"] = "aarch64"
    (problem,) = check(tmp_path, tree, "cuda", "11.2", directory).problems
    assert problem.startswith(f"libcufft is neither in {directory} nor in the loader's directories (")


def cudnn_tree(directory: str) -> dict[str, dict[str, str]]:
    return {
        "links": {f"{directory}/libcudnn.so.8": "libcudnn.so.8.1.0"},
        "elf": {f"{directory}/libcudnn.so.8.1.0": "x86_64"},
    }


@pytest.mark.parametrize("directory", ["/usr/lib/x86_64-linux-gnu", "/opt/nvidia/cudnn-8.1.0.77-cuda11/lib64"])
@pytest.mark.parametrize("version", ["8.1", "8.1.0", "8.1.0.77"])
def test_cudnn_as_wanted(tmp_path: Path, directory: str, version: str) -> None:
    found = check(tmp_path, cudnn_tree(directory), "cudnn", version, directory)
    assert found == ("8.1.0", [f"{directory}/libcudnn.so.8.1.0"], [])


@pytest.mark.parametrize(
    ("tree", "problems"),
    [
        # Debian's nvidia-cudnn is installed, and this is all.
        ({}, ["libcudnn is neither in {}", "cudnn is of no known version there, not 8.6.0.163"]),
        (cudnn_tree("/usr/lib/x86_64-linux-gnu"), ["cudnn is 8.1.0 there, not 8.6.0.163"]),
    ],
    ids=["nothing", "older"],
)
def test_cudnn_not_as_wanted(tmp_path: Path, tree: dict[str, dict[str, str]], problems: list[str]) -> None:
    directory = "/usr/lib/x86_64-linux-gnu"
    found = check(tmp_path, tree, "cudnn", "8.6.0.163", directory)
    assert [problem.partition(" nor ")[0] for problem in found.problems] == [
        text.format(directory) for text in problems
    ]


def test_link_that_leads_nowhere_is_no_library(tmp_path: Path) -> None:
    directory = "/usr/lib/x86_64-linux-gnu"
    tree = {"links": {f"{directory}/libcudnn.so.8": "/etc/alternatives/libcudnn"}}
    found = check(tmp_path, tree, "cudnn", "8.6", directory)
    assert found.problems[0].startswith(f"libcudnn is neither in {directory} nor ")
    assert f"{directory}/libcudnn.so.8: link to /etc/alternatives/libcudnn, which is not there" in found.problems
