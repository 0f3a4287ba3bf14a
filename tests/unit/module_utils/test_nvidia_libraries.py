"""NVIDIA's libraries as the node record has them."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.tensorflow_stack.node import read_node

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
        "reason": f"{library}: no libcuda.so.1 leads the loader to it",
    } in record["unread"]


def test_a_libcuda_without_a_version_in_its_name_is_said_to_be_so(tmp_path: Path) -> None:
    """As the Windows Subsystem for Linux has it."""
    tree = {
        "files": {"/etc/ld.so.conf": "/usr/lib/wsl/lib\n"},
        "elf": {"/bin/sh": "x86_64", "/usr/lib/wsl/lib/libcuda.so.1": "x86_64"},
    }
    record = read_node(filesystem_root=str(nodes.build(tree, tmp_path)))
    assert record["driver"]["libcuda"] == "/usr/lib/wsl/lib/libcuda.so.1"
    assert record["driver"]["installed"] is None
    assert "driver.installed" in [row["fact"] for row in record["unread"]]


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
    assert record["cuda"] == [{"version": "11.2", "prefix": prefix, "library_directory": f"{prefix}/lib"}]
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
    assert record["cuda"] == [{"version": "11.2", "prefix": prefix, "library_directory": f"{prefix}/lib64"}]
    assert record["cudnn"] == [
        {"version": "8.1.0", "library": f"{directory}/libcudnn.so.8.1.0", "library_directory": directory}
    ]
