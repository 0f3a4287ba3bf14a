from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.archives.manifest import Archive, check_archive, read_manifest
from ansible.module_utils.tensorflow_stack.errors import StackError

SHA256 = "ab" * 32


def entry(path: str, **changes: Any) -> dict[str, Any]:
    return {"relative_path": path, "sha256": SHA256, "md5": "0" * 32, "size": "1041692", **changes}


# As redistrib_11.8.0.json is laid out, and as cuDNN 9's.
CUDA = {
    "release_date": "2022-10-03",
    "cuda_cudart": {
        "name": "CUDA Runtime (cudart)",
        "license": "CUDA Toolkit",
        "version": "11.8.89",
        "linux-x86_64": entry("cuda_cudart/linux-x86_64/cuda_cudart-linux-x86_64-11.8.89-archive.tar.xz"),
        "linux-sbsa": entry("cuda_cudart/linux-sbsa/cuda_cudart-linux-sbsa-11.8.89-archive.tar.xz"),
        "windows-x86_64": entry("cuda_cudart/windows-x86_64/cuda_cudart-windows-x86_64-11.8.89-archive.zip"),
    },
    "nsight_vse": {"name": "NVTX", "version": "2022.3", "windows-x86_64": entry("nsight_vse/x.zip")},
}
CUDNN = {
    "release_date": "2024-08-01",
    "cudnn": {
        "name": "NVIDIA CUDA Deep Neural Network library",
        "version": "9.3.0.75",
        "cuda_variant": ["11", "12"],
        "linux-x86_64": {
            "cuda11": entry("cudnn/linux-x86_64/11.tar.xz"),
            "cuda12": entry("cudnn/linux-x86_64/12.tar.xz"),
        },
    },
}


def read(content: Any, **options: Any) -> list[Archive]:
    options = {"name": "redistrib.json", "platform": "linux-x86_64", **options}
    return read_manifest(content if isinstance(content, str) else json.dumps(content), **options)


def test_archives_of_a_platform() -> None:
    path = "cuda_cudart/linux-x86_64/cuda_cudart-linux-x86_64-11.8.89-archive.tar.xz"
    assert read(CUDA) == [Archive("cuda_cudart", "11.8.89", path, SHA256, 1041692)]
    [sbsa] = read(CUDA, platform="linux-sbsa", components=["cuda_cudart"])
    assert sbsa.name == "cuda_cudart-linux-sbsa-11.8.89-archive.tar.xz"


def test_level_of_cudnn_9() -> None:
    assert [row.relative_path for row in read(CUDNN, variant="cuda12")] == ["cudnn/linux-x86_64/12.tar.xz"]


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("<html>", {}, "redistrib.json is no manifest of NVIDIA's"),
        ("[]", {}, "redistrib.json is no manifest of NVIDIA's"),
        (CUDA, {"components": ["cuda_cudart", "cufft"]}, "has no component cufft; it has cuda_cudart, nsight_vse"),
        (CUDA, {"components": ["nsight_vse"]}, "has nsight_vse not for linux-x86_64; it has it for windows-x86_64"),
        (CUDA, {"platform": "linux-ppc64le"}, "has nothing for linux-ppc64le"),
        (CUDNN, {}, "exists for cuda11, cuda12, but no variant was requested. Set variant"),
        (CUDNN, {"variant": "cuda13"}, "exists for cuda11, cuda12, but cuda13 was requested"),
        ({"x": {"version": "1", "linux-x86_64": entry("x/y", sha256=None)}}, {}, "it has no sha256"),
        ({"x": {"version": "1", "linux-x86_64": None}}, {}, "is described by 'None', which is no file"),
        ({"x": {"version": "1", "linux-x86_64": ["y"]}}, {}, "which is no file of a manifest"),
    ],
)
def test_refused_manifest(content: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(StackError) as raised:
        read(content, **options)
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": None}, "is refused: it has no sha256"),
        ({"sha256": "abc"}, "is refused: 'abc' is no sha256"),
        ({"sha256": SHA256 + "\n"}, "is no sha256"),
        ({"relative_path": "/etc/passwd"}, "no path below the base URL"),
        ({"relative_path": "a/../../b"}, "no path below the base URL"),
        ({"relative_path": "https://example.org/b"}, "no path below the base URL"),
        ({"relative_path": None}, "no path below the base URL"),
        ({"component": "../x"}, "not a component's name"),
        ({"bytes": [1]}, "has size [1], which is no number of bytes"),
        ({"bytes": ""}, "has size '', which is no number of bytes"),
    ],
)
def test_refused_archive(changes: dict[str, Any], said: str) -> None:
    row = {"component": "cudnn", "version": "8.1.0.77", "relative_path": "a/b.tgz", "sha256": SHA256, **changes}
    with pytest.raises(StackError) as raised:
        check_archive(row)
    assert said in raised.value.message


def test_hash_in_capitals() -> None:
    row = {"component": "cudnn", "version": "8", "relative_path": "b.tgz", "sha256": SHA256.upper()}
    assert check_archive(row) == Archive("cudnn", "8", "b.tgz", SHA256, None)
