"""Which CUDA and cuDNN, and from where; what an operator sees of it is in test_plan.py."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.planning import resolution
from ansible.module_utils.tensorflow_stack.planning.gpus import is_compatible
from ansible.module_utils.tensorflow_stack.planning.node import NodeFacts
from ansible.module_utils.tensorflow_stack.planning.stack import Policy, Stack
from ansible.module_utils.tensorflow_stack.tables.load import Tables, load_tables

from tests import nodes

TABLES = Path(__file__).resolve().parents[4] / "roles" / "tensorflow_release" / "files" / "tables"
PYTHONS = [
    {
        "version": f"{minor}.1",
        "minor": minor,
        "path": f"/usr/bin/python{minor}",
        "origin": "system",
        "distutils": True,
        "public": True,
    }
    for minor in ("3.8", "3.9", "3.11")
]
LOADER = "/usr/lib/x86_64-linux-gnu"
# Every name by which a release opens one.
EVERY_LIBRARY = [name for row in load_tables(str(TABLES)).opened_libraries for name in row.libraries]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return load_tables(str(TABLES))


def node(name: str, tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(nodes.read(name, tmp_path)), "pythons": PYTHONS, "environments": [], **changes}


def resolved(tables: Tables, node: dict[str, Any], release: str, **policy: Any) -> Stack:
    assessment = resolution.assess_wish(tables, release, NodeFacts.read(node), Policy(**policy))
    assert assessment.refusals == ()
    assert assessment.stack
    return assessment.stack


def sources(stack: Stack) -> tuple[str, str, str, str]:
    assert stack.libraries.keys() == {"cuda", "cudnn"}
    cuda, cudnn = stack.libraries["cuda"], stack.libraries["cudnn"]
    return (cuda.source, cuda.version, cudnn.source, cudnn.version)


def why_not(tables: Tables, node: dict[str, Any], release: str, **policy: Any) -> str:
    refusals = resolution.assess_wish(tables, release, NodeFacts.read(node), Policy(**policy)).refusals
    return next(refusal.message for refusal in refusals if refusal.component == "cuda")


def cuda(version: str) -> dict[str, Any]:
    prefix = f"/usr/local/cuda-{version}"
    return {"version": version, "prefix": prefix, "library_directory": f"{prefix}/lib64", "libraries": EVERY_LIBRARY}


def cudnn(version: str, directory: str = LOADER) -> dict[str, Any]:
    library = f"{directory}/libcudnn.so.{version}"
    return {"version": version, "library": library, "library_directory": directory, "libraries": EVERY_LIBRARY}


@pytest.mark.parametrize(
    ("version", "built_with", "compatible"),
    [
        ("11.2", "11.2", True),
        ("11.8", "11.2", True),
        ("11.1", "11.2", False),
        ("12.0", "11.8", False),
        ("12.10", "12.9", True),
        ("11.2", "11.0", False),  # libcusolver.so.10 became .11
        ("11.0", "11.0", True),
        ("10.2", "10.1", False),
    ],
)
def test_compatible(tables: Tables, version: str, built_with: str, compatible: bool) -> None:
    assert is_compatible(tables, version, built_with) == compatible


def test_found_takes_the_very_version_before_a_newer_one(tables: Tables, tmp_path: Path) -> None:
    machine = node("a100_driver535", tmp_path, cuda=[cuda("11.2"), cuda("11.8")], cudnn=[cudnn("8.1.0")])
    stack = resolved(tables, machine, "2.8.0")
    assert sources(stack) == ("found", "11.2", "found", "8.1.0")
    assert (stack.library_directories, stack.warnings) == (("/usr/local/cuda-11.2/lib64",), ())


def test_found_and_newer_is_taken_and_said(tables: Tables, tmp_path: Path) -> None:
    machine = node("a100_driver535", tmp_path, cuda=[cuda("11.1"), cuda("11.8")], cudnn=[cudnn("8.1.0")])
    stack = resolved(tables, machine, "2.8.0")
    assert sources(stack) == ("found", "11.8", "found", "8.1.0")
    assert stack.warnings == (
        "TensorFlow 2.8.0 was built with CUDA 11.2 and is given the newer 11.8 (found) of the same major release, "
        "which NVIDIA promises to be compatible.",
    )


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        (cudnn("8.9.7"), True),
        (cudnn("8.0.5"), False),
        (cudnn("9.3.0"), False),
        (cudnn("8.9.7", "/opt/nvidia/cudnn-8.9.7.29-cuda12/lib"), False),
        (cudnn("8.9.7", "/opt/nvidia/cudnn-8.9.7.29-cuda11/lib"), True),
        (cudnn("8.9.7", "/usr/local/cuda-12.2/lib64"), False),
    ],
    ids=["newer", "older", "other major", "for CUDA 12", "for CUDA 11", "beside CUDA 12"],
)
def test_found_cudnn(tables: Tables, tmp_path: Path, row: dict[str, str], fits: bool) -> None:
    machine = node("a100_driver535", tmp_path, cudnn=[row])
    stack = resolved(tables, machine, "2.8.0")
    assert stack.libraries["cudnn"].source == ("found" if fits else "wheels")


def test_left_to_itself_it_takes_both_from_one_place(tables: Tables, tmp_path: Path) -> None:
    stack = resolved(tables, node("a100_driver535", tmp_path, cudnn=[]), "2.8.0")
    assert sources(stack) == ("wheels", "11.8", "wheels", "8.6")
    assert stack.lock_flavour == "cuda"


def test_asked_for_what_was_found_it_adds_cudnn_as_wheels(tables: Tables, tmp_path: Path) -> None:
    stack = resolved(tables, node("a100_driver535", tmp_path, cudnn=[]), "2.8.0", cuda_source="found")
    assert sources(stack) == ("found", "11.2", "wheels", "8.6")
    assert stack.lock_flavour == "cudnn"
    assert stack.library_directories == ("/usr/local/cuda-11.2/lib64", "nvidia/cudnn/lib")


def test_nvidias_packages(tables: Tables, tmp_path: Path) -> None:
    stack = resolved(tables, node("a100_driver535", tmp_path), "2.18.1", cuda_source="nvidia_repo")
    assert sources(stack) == ("nvidia_repo", "12.6", "nvidia_repo", "9.3.0.75")
    assert stack.libraries.keys() == {"cuda", "cudnn"}
    assert "libcublas-12-6" in {package.name for package in stack.libraries["cuda"].packages}
    assert all(package.version is None for package in stack.libraries["cuda"].packages)
    assert "libcu*-12-6" in stack.libraries["cuda"].belongs
    assert stack.libraries["cuda"].prefix == "/usr/local/cuda-12.6"
    assert [package.as_dict() for package in stack.libraries["cudnn"].packages] == [
        {"name": "libcudnn9-cuda-12", "version": "9.3.0.75-1"}
    ]
    # cuDNN's package lays its library where the loader looks by itself.
    assert stack.library_directories == ("/usr/local/cuda-12.6/lib64",)
    assert [repository["kind"] for repository in stack.repositories] == ["nvidia"]
    assert stack.repositories[0]["fingerprints"] == ["EB693B3035CD5710E231E123A4B469963BF863CC"]
    assert stack.lock_flavour == "cpu"


def test_debians_packages_need_no_link(tables: Tables, tmp_path: Path) -> None:
    stack = resolved(tables, node("bare_t4_debian11", tmp_path), "2.8.0", cuda_source="distro")
    assert sources(stack) == ("distro", "11.2", "wheels", "8.6")
    assert stack.libraries
    assert [package.as_dict() for package in stack.libraries["cuda"].packages] == [
        {"name": "nvidia-cuda-toolkit", "version": "11.2.2-*"}
    ]
    assert stack.library_directories == ("nvidia/cudnn/lib",)
    assert stack.repositories == ({"kind": "distribution", "components": ["contrib", "non-free"]},)


def test_debians_packages_and_nvidias_driver_have_both_repositories(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian12", tmp_path)
    stack = resolved(tables, machine, "2.12.1", cuda_source="distro", driver_source="nvidia_repo")
    assert [repository["kind"] for repository in stack.repositories] == ["distribution", "nvidia"]
    assert stack.repositories[0]["components"] == ["contrib", "non-free", "non-free-firmware"]


def test_debians_toolkit_is_not_laid_beside_a_driver_of_another_origin(tables: Tables, tmp_path: Path) -> None:
    machine = node("secure_boot", tmp_path)
    machine["driver"]["loaded"] = machine["driver"]["installed"]
    message = why_not(tables, machine, "2.12.1", cuda_source="distro")
    assert "would install the distribution's libcuda, but /usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01" in message


def test_nvidias_archives(tables: Tables, tmp_path: Path) -> None:
    stack = resolved(tables, node("bare_t4_debian13", tmp_path), "2.8.0", cuda_source="redist")
    assert sources(stack) == ("redist", "11.8", "redist", "8.1.0.77")
    assert stack.libraries.keys() == {"cuda", "cudnn"}
    assert stack.library_directories == ("/opt/nvidia/cuda-11.8/lib", "/opt/nvidia/cudnn-8.1.0.77-cuda11/lib64")
    assert "libcusolver" in {archive["component"] for archive in stack.libraries["cuda"].archives}
    assert [archive["relative_path"] for archive in stack.libraries["cudnn"].archives] == [
        "redist/cudnn/v8.1.0/cudnn-11.2-linux-x64-v8.1.0.77.tgz"
    ]


def test_what_was_planned_and_what_is_then_there_make_the_same_environment(tables: Tables, tmp_path: Path) -> None:
    """The digest is over the directories: installing must not move them, or the next run builds anew."""
    machine = node("bare_t4_debian13", tmp_path)
    before = resolved(tables, machine, "2.8.0", cuda_source="redist")
    planned = before.libraries["cuda"], before.libraries["cudnn"]
    machine["cuda"] = [
        {**cuda("11.8"), "prefix": planned[0].prefix, "library_directory": "/opt/nvidia/cuda-11.8/lib"},
    ]
    machine["cudnn"] = [cudnn("8.1.0", f"{planned[1].prefix}/lib64")]
    machine["managed"] = {
        library: {"component": library, "source": "redist", "version": "1"} for library in ("cuda", "cudnn")
    }
    after = resolved(tables, machine, "2.8.0")
    assert sources(after) == sources(before)
    assert after.library_directories == before.library_directories
    assert [library.is_there for library in after.libraries.values()] == [True, True]
    assert [library.is_there for library in planned] == [False, False]


@pytest.mark.parametrize("source", ["nvidia_repo", "distro", "redist"])
def test_a_user_installs_nothing_on_the_node(tables: Tables, tmp_path: Path, source: str) -> None:
    machine = node("bare_t4_debian12", tmp_path, user={"name": "ada", "uid": 1000, "home": "/home/ada"})
    message = why_not(tables, machine, "2.12.1", cuda_source=source)
    assert "found ada is not root, who can install it. Install them next to the existing ones and run again" in message


@pytest.mark.parametrize(("release", "flavour"), [("1.15.0", "cpu"), ("1.15.2", "gpu"), ("1.15.5", "gpu")])
def test_a_project_for_the_gpu_has_a_lock_for_a_cuda_of_the_node(
    tables: Tables, tmp_path: Path, release: str, flavour: str
) -> None:
    machine = node("a100_driver535", tmp_path, pythons=[{**PYTHONS[0], "minor": "3.7"}])
    machine["gpus"][0]["device_id"] = T4
    machine.update(cuda=[cuda("10.0")], cudnn=[cudnn("7.6.5")])
    stack = resolved(tables, machine, release)
    assert sources(stack) == ("found", "10.0", "found", "7.6.5")
    assert stack.lock_flavour == flavour
    assert resolved(tables, machine, release, gpu="none").lock_flavour == "cpu"
    machine["cuda"] = []
    assert why_not(tables, machine, release).startswith(
        f"cuda: wanted CUDA 10.0 and cuDNN 7.4 for TensorFlow {release}; found the node has cuDNN 7.6.5; "
    )


def test_cudnn_for_another_cuda(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_a100_rocky8", tmp_path)
    message = why_not(tables, machine, "2.12.1", cuda_source="nvidia_repo", cudnn_source="found")
    assert "the node has neither" in message
    stack = resolved(tables, machine, "2.12.1", cuda_source="nvidia_repo")
    assert sources(stack) == ("nvidia_repo", "11.8", "nvidia_repo", "8.7.0.84")


# ---------------------------------------------------------------- what does not serve is passed over

OPENED = {
    "11": "libcublas.so.11 libcublasLt.so.11 libcudart.so.11.0 libcufft.so.10 libcurand.so.10 libcusolver.so.11 "
    "libcusparse.so.11",
    "12": "libcublas.so.12 libcublasLt.so.12 libcudart.so.12 libcufft.so.11 libcusolver.so.11 libcusparse.so.12 "
    "libnvJitLink.so.12",
}
CUDNN_8 = [
    "libcudnn.so.8",
    *(f"libcudnn_{part}_{kind}.so.8" for part in ("adv", "cnn", "ops") for kind in ("infer", "train")),
]
CUDNN_9 = [f"libcudnn{part}.so.9" for part in ("", "_adv", "_cnn", "_graph", "_heuristic", "_ops")]
CUDNN_9 += ["libcudnn_engines_precompiled.so.9", "libcudnn_engines_runtime_compiled.so.9"]
RTX_3090, RTX_4090, H100, V100, RTX_5090, T4 = "2204", "2684", "2330", "1db1", "2b85", "1eb8"


def whole_cuda(version: str, *without: str) -> dict[str, Any]:
    names = f"{OPENED[version.split('.')[0]]} libdevice.10.bc ptxas".split()
    names = [name for name in names if name not in without]
    return {**cuda(version), "libraries": names}


def whole_cudnn(version: str, *without: str) -> dict[str, Any]:
    names = CUDNN_9 if version.startswith("9") else CUDNN_8
    return {**cudnn(version), "libraries": [name for name in names if name not in without]}


def with_gpu(tmp_path: Path, device_id: str, **changes: Any) -> dict[str, Any]:
    machine = node("a100_driver535", tmp_path, **changes)
    machine["driver"].update(loaded="580.95.05", installed="580.95.05")
    machine["gpus"][0]["device_id"] = device_id
    return machine


@pytest.mark.parametrize(
    ("release", "device_id", "found", "reason"),
    [
        ("2.10.1", RTX_4090, ("11.2", "8.1.0"), "needs CUDA 11.8 or newer"),
        ("2.8.0", H100, ("11.2", "8.1.0"), "needs CUDA 11.8 or newer"),
        ("2.8.0", H100, ("11.8", "8.1.0"), "needs cuDNN 8.6 or newer"),
        ("2.21.0", RTX_5090, ("12.6", "9.5.0"), "needs CUDA 12.8 or newer"),
        ("2.21.0", V100, ("12.6", "9.12.0"), "is supported up to cuDNN 9.10"),
    ],
)
def test_what_lies_on_the_node_and_does_not_know_the_gpu_is_passed_over(
    tables: Tables, tmp_path: Path, release: str, device_id: str, found: tuple[str, str], reason: str
) -> None:
    machine = with_gpu(tmp_path, device_id, cuda=[whole_cuda(found[0])], cudnn=[whole_cudnn(found[1])])
    stack = resolved(tables, machine, release)
    assert sources(stack)[::2] == ("wheels", "wheels")
    assert stack.warnings[0].startswith("Passed over: cu" if "cuDNN" in reason else "Passed over: CUDA ")
    assert " on the node, in /usr/" in stack.warnings[0] and reason in stack.warnings[0]


@pytest.mark.parametrize("lost", ["libcublas.so.12", "libnvJitLink.so.12", "libdevice.10.bc", "ptxas"])
def test_a_cuda_without_a_library_that_the_release_opens_is_passed_over(
    tables: Tables, tmp_path: Path, lost: str
) -> None:
    machine = with_gpu(tmp_path, "20f1", cuda=[whole_cuda("12.5", lost)], cudnn=[whole_cudnn("9.3.0")])
    stack = resolved(tables, machine, "2.18.1")
    assert sources(stack) == ("wheels", "12.5", "wheels", "9.3")
    assert stack.warnings[0] == (
        f"Passed over: CUDA 12.5 on the node, in /usr/local/cuda-12.5/lib64: it has no {lost}."
    )


@pytest.mark.parametrize(
    ("release", "version", "lost"),
    [("2.8.0", "8.1.0", "libcudnn_ops_infer.so.8"), ("2.18.1", "9.3.0", "libcudnn_graph.so.9")],
)
def test_a_cudnn_without_its_parts_is_passed_over(
    tables: Tables, tmp_path: Path, release: str, version: str, lost: str
) -> None:
    there = [whole_cuda("11.2"), whole_cuda("12.5")]
    machine = with_gpu(tmp_path, "20f1", cuda=there, cudnn=[whole_cudnn(version, lost)])
    stack = resolved(tables, machine, release)
    assert sources(stack)[::2] == ("wheels", "wheels")
    assert f"cuDNN {version} on the node, in {LOADER}: it has no {lost}" in stack.warnings[0]
    beside = resolved(tables, machine, release, cuda_source="found")
    assert sources(beside)[::2] == ("found", "wheels")


def test_of_several_the_first_that_serves_is_taken(tables: Tables, tmp_path: Path) -> None:
    there = [whole_cuda("11.2"), whole_cuda("11.7"), whole_cuda("11.8", "libcublas.so.11")]
    elsewhere = {**whole_cuda("11.8"), "prefix": "/opt/cuda-11.8", "library_directory": "/opt/cuda-11.8/lib"}
    machine = with_gpu(tmp_path, RTX_4090, cuda=[*there, elsewhere], cudnn=[whole_cudnn("8.6.0")])
    stack = resolved(tables, machine, "2.10.1")
    assert sources(stack) == ("found", "11.8", "found", "8.6.0")
    assert stack.library_directories == ("/opt/cuda-11.8/lib",)


def test_a_record_that_does_not_say_which_libraries_there_are_is_believed(tables: Tables, tmp_path: Path) -> None:
    machine = with_gpu(tmp_path, "20f1", cuda=[cuda("11.2")], cudnn=[cudnn("8.1.0")])
    assert sources(resolved(tables, machine, "2.8.0")) == ("found", "11.2", "found", "8.1.0")


def test_a_source_that_was_asked_for_and_does_not_serve_is_refused(tables: Tables, tmp_path: Path) -> None:
    machine = with_gpu(tmp_path, RTX_4090, cuda=[whole_cuda("11.2")], cudnn=[whole_cudnn("8.1.0")])
    assert why_not(tables, machine, "2.10.1", cuda_source="found") == (
        "cuda: wanted CUDA 11.8 or a newer 11.x and cuDNN 8.1 for TensorFlow 2.10.1; "
        "found CUDA 11.2 on the node, in /usr/local/cuda-11.2/lib64: "
        "GPU 0 (GeForce RTX 4090, Ada, compute capability 8.9) needs CUDA 11.8 or newer. "
        "Install them next to the existing ones and run again, or set cuda_source to wheels (CUDA 11.8)."
    )


def test_packages_that_do_not_know_the_gpu_are_passed_over(tables: Tables, tmp_path: Path) -> None:
    machine = node("bare_t4_debian11", tmp_path)
    machine["gpus"][0]["device_id"] = RTX_4090
    message = why_not(tables, machine, "2.8.0", cuda_source="distro")
    assert "found CUDA 11.2 (distro): GPU 0 (GeForce RTX 4090" in message
    machine["managed"] = {"cuda": {"component": "cuda", "source": "distro", "version": "11.2"}}
    assessment = resolution.assess_wish(tables, "2.8.0", NodeFacts.read(machine), Policy())
    assert not [refusal for refusal in assessment.refusals if refusal.component == "cuda"]


def test_of_packages_the_nearest_that_knows_the_gpu(tables: Tables, tmp_path: Path) -> None:
    machine = with_gpu(tmp_path, H100, cuda=[], cudnn=[])
    stack = resolved(tables, machine, "2.8.0", cuda_source="redist")
    assert sources(stack) == ("redist", "11.8", "redist", "8.6.0.163")


def test_code_for_an_older_gpu_of_the_same_major_is_taken_where_there_is_no_other(
    tables: Tables, tmp_path: Path
) -> None:
    names = [*OPENED["11"].replace("libcusolver.so.11", "libcusolver.so.10").split(), "libdevice.10.bc", "ptxas"]
    there = {**cuda("11.0"), "libraries": names}
    machine = with_gpu(tmp_path, RTX_3090, cuda=[there], cudnn=[whole_cudnn("8.0.5")])
    stack = resolved(tables, machine, "2.4.4")
    assert sources(stack) == ("found", "11.0", "found", "8.0.5")
    assert stack.warnings == (
        "GPU 0 (GeForce RTX 3090, Ampere, compute capability 8.6) needs CUDA 11.1 or newer for code of its own; with "
        "11.0 it runs what was compiled for an older GPU of its major.",
    )
