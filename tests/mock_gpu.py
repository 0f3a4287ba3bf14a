"""Builds what stands for a GPU in tests/doubles, for the TensorFlow that is there: none of it computes anything."""

from __future__ import annotations

import mmap
import re
import subprocess
from pathlib import Path

from ansible.module_utils.tensorflow_stack.check.child.libraries import build_info, sonames

DOUBLES = Path(__file__).parent / "doubles"

# The names of functions that TensorFlow looks up lie in its files as strings.
_NAMES = re.compile(rb"\0((?:__cuda|cuda|cudnn|cublas|cufft|curand|cusolver|cusparse|nvml|cu)[A-Z_]\w+)(?=\0)")
_PREFIXES = {"cudart": "(__)?cuda", "cublas": "cublas(?!Lt[A-Z])", "cuda": "cu[A-Z]", "nvidia-ml": "nvml"}
_SOURCES = {"nvidia-ml": "libcuda.c"}


class Doubles:
    """The doubles for the TensorFlow of one site-packages directory."""

    def __init__(self, site_packages: Path, *, cudnn: str) -> None:
        self._tensorflow = site_packages / "tensorflow"
        self._info = build_info(str(self._tensorflow))
        self.names: list[str] = sonames(self._info)
        self.cudnn = cudnn
        self._functions = _function_names(self._tensorflow)

    def build_libraries(self, directory: Path) -> None:
        """Those of CUDA and cuDNN, by the names that this TensorFlow opens."""
        for name in self.names:
            self._build(directory / name)

    def build_cudnn(self, directory: Path, version: str) -> Path:
        """A further cuDNN, of another version."""
        path = directory / next(name for name in self.names if "cudnn" in name)
        self._build(path, cudnn=version)
        return path

    def build_driver(self, directory: Path) -> None:
        """libcuda and NVML; what they do not know answers that it is not supported."""
        self._build(directory / "libcuda.so.1", unknown=801)
        self._build(directory / "libnvidia-ml.so.1", unknown=3)

    def _build(self, path: Path, *, cudnn: str | None = None, unknown: int = 0) -> None:
        stem = path.name[3:].split(".so")[0]
        prefix = re.compile(_PREFIXES.get(stem, stem))
        made = [_function(function, unknown) for function in self._functions if prefix.match(function)]
        source = DOUBLES / _SOURCES.get(stem, f"lib{stem}.c")
        sources = ["-", *([str(source)] if source.exists() else [])]
        major, minor = (int(part) for part in self._info["cuda_version"].split(".")[:2])
        versions = [f"-DRUNTIME={1000 * major + 10 * minor}", f"-DCUDNN={_number(cudnn or self.cudnn)}"]
        build = ["gcc", "-shared", "-fPIC", "-w", *versions, f"-Wl,-soname,{path.name}", "-o", str(path)]
        path.parent.mkdir(exist_ok=True)
        subprocess.run([*build, "-x", "c", *sources, "-ldl"], input="\n".join(made), text=True, check=True)


def _function_names(tensorflow: Path) -> list[str]:
    found: set[str] = set()
    # 2.8 has its code in one extension of Python, 2.21 in libtensorflow_cc.
    for path in [*tensorflow.glob("libtensorflow_*.so.*"), tensorflow / "python" / "_pywrap_tensorflow_internal.so"]:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found.update(match.group(1).decode() for match in _NAMES.finditer(content))
    return sorted(found)


def _function(name: str, answer: int) -> str:
    """Weak: what the C source has wins."""
    weak = "__attribute__((weak))"
    if re.search("(Error|Status)(String|Name)$", name):
        return f'{weak} const char *{name}() {{ return "a test double runs nothing"; }}'
    if "Create" in name and not answer:
        return f"{weak} int {name}(int *made) {{ *made = 1; return 0; }}"
    return f"{weak} long {name}() {{ return {answer}; }}"


def _number(cudnn: str) -> int:
    major, minor, patch = (int(part) for part in cudnn.split("."))
    return major * (10000 if major >= 9 else 1000) + minor * 100 + patch
