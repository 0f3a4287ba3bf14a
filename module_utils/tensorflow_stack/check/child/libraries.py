"""Which libraries TensorFlow would open, found and asked for their versions without importing TensorFlow.

Part of what runs in the environment's own Python (3.6 and newer), as `main.py`: standard library only, no
`from __future__ import annotations`.

TensorFlow opens them by name from libtensorflow_framework, so the loader looks as ld.so(8) says for that file.
"""

import ast
import ctypes
import glob
import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from .stages import Record, Stage

# What TensorFlow opens (dso_loader.cc of its source): libraries and the versions in their names, by the CUDA that it is
# built with, newest first. cuDNN's is in the build info.
_LIBRARIES = ("cudart", "cublas", "cublasLt", "cufft", "curand", "cusolver", "cusparse")
# fact: dso_loader.cc of TensorFlow's source, 2026-11-22
_OPENED = (
    ((12, 0), ("12", "12", "12", "11", None, "11", "12")),
    ((11, 1), ("11.0", "11", "11", "10", "10", "11", "11")),
    ((11, 0), ("11.0", "11", "11", "10", "10", "10", "11")),
    ((10, 0), ("10.0", "10.0", None, "10.0", "10.0", "10.0", "10.0")),
)
# The wheels of 1.15 do not say what they are built with.
# fact: releases.yml, 2026-11-22
_BEFORE_BUILD_INFO = {"cuda_version": "10.0", "cudnn_version": "7"}
# The loader's own, after its cache (ld.so(8); Debian has the multiarch ones).
_DEFAULT_DIRECTORIES = ("/lib/{}-linux-gnu", "/usr/lib/{}-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_CACHE_TAGS = {"x86_64": "x86-64", "aarch64": "AArch64"}
# What XLA compiles with: below this directory of the environment, or of a CUDA that its search ends at.
_COMPILER = {"ptxas": "bin/ptxas", "libdevice": "nvvm/libdevice/libdevice.10.bc"}
_COMPILER_PLACES = ("nvidia/cuda_nvcc", "/usr/local/cuda")


class Copy(NamedTuple):
    path: str
    rule: str


def stages() -> List[Stage]:
    return [Stage("find_libraries", None, find_libraries)]


def expand(record: Record) -> List[Stage]:
    """Loading may end the process: it is a stage of its own."""
    if record["stage"] != "find_libraries" or not record.get("libraries"):
        return []
    return [Stage("load_libraries", None, lambda: load_libraries(record["libraries"]))]


# ---------------------------------------------------------------------------------------------------- find


def find_libraries() -> Record:
    site = sysconfig.get_paths()["purelib"]
    frameworks = sorted(glob.glob(os.path.join(glob.escape(site), "tensorflow*", "libtensorflow_framework.so.*")))
    if not frameworks:
        raise FileNotFoundError(f"no libtensorflow_framework.so below {site}: TensorFlow is not installed there")
    info = build_info(os.path.dirname(frameworks[0]))
    names = sonames(info)
    search = Search(frameworks[0])
    return {
        "built_with": info,
        "libraries": [_library(search, name) for name in names + (["libcuda.so.1"] if names else [])],
        "compiler": {name: _compiler(site, path) for name, path in _COMPILER.items()},
        "loader": {"LD_LIBRARY_PATH": search.given, "RUNPATH": search.runpath, "RPATH": search.rpath},
    }


def build_info(tensorflow: str) -> Dict[str, Any]:
    """What TensorFlow's own file says, read without running it. Empty for a build without CUDA."""
    path = os.path.join(tensorflow, "python", "platform", "build_info.py")
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    values = {}  # type: Dict[str, Any]
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, node.value
            if name == "build_info" and isinstance(value, ast.Call):  # OrderedDict([("cuda_version", "11.2"), ...])
                values.update(dict(ast.literal_eval(value.args[0])))
            elif name == "is_cuda_build":  # 1.15
                values[name] = ast.literal_eval(value)
    if not values.get("is_cuda_build"):
        return {}
    return values if values.get("cuda_version") else dict(_BEFORE_BUILD_INFO, **values)


def sonames(info: Dict[str, Any]) -> List[str]:
    if not info:
        return []
    wanted = tuple(int(part) for part in info["cuda_version"].split(".")[:2])
    versions = next((versions for cuda, versions in _OPENED if cuda <= wanted), ())
    names = [f"lib{name}.so.{version}" for name, version in zip(_LIBRARIES, versions) if version]
    return names + ["libcudnn.so.{}".format(str(info["cudnn_version"]).split(".")[0])]


class Search:
    """Where the loader looks for what `library` opens, in its order."""

    def __init__(self, library: str) -> None:
        with open(library, "rb") as file:
            paths = dynamic_paths(file)
        origin = os.path.dirname(library)
        self.runpath = _directories(paths.get("RUNPATH", ""), origin)
        # Not looked at where there is a RUNPATH.
        self.rpath = [] if self.runpath else _directories(paths.get("RPATH", ""), origin)
        self.given = _directories(os.environ.get("LD_LIBRARY_PATH", ""), origin)
        self._cache = _loader_cache()

    def copies(self, name: str) -> List[Copy]:
        """Every copy on the loader's path; the first is the one that it takes."""
        machine = platform.machine()
        places = [("RPATH", path) for path in self.rpath]
        places += [("LD_LIBRARY_PATH", path) for path in self.given]
        places += [("RUNPATH", path) for path in self.runpath]
        candidates = [Copy(os.path.join(path, name), rule) for rule, path in places]
        candidates += [Copy(path, "ld.so.cache") for path in self._cache.get(name, [])]
        candidates += [
            Copy(os.path.join(path.format(machine), name), "default directory") for path in _DEFAULT_DIRECTORIES
        ]
        found = {}  # type: Dict[str, Copy]
        for copy in candidates:
            if _is_library(copy.path, machine):
                found.setdefault(os.path.realpath(copy.path), copy)
        return list(found.values())


def _library(search: Search, name: str) -> Record:
    copies = search.copies(name)
    row = {"name": name, "path": None, "target": None, "rule": None, "version": None, "error": None, "others": []}  # type: Record
    if copies:
        first = copies[0]
        row.update(path=first.path, target=os.path.realpath(first.path), rule=first.rule)
        row["others"] = [dict(copy._asdict()) for copy in copies[1:]]
    return row


def dynamic_paths(file: Any) -> Dict[str, str]:
    """RPATH and RUNPATH of a 64-bit little-endian ELF file."""
    header = file.read(64)
    if header[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    offset, size, count = _unpack("<Q", header, 32), _unpack("<H", header, 54), _unpack("<H", header, 56)
    file.seek(offset)
    table = file.read(size * count)
    segments = [struct.unpack_from("<IIQQQQ", table, size * index) for index in range(count)]
    dynamic = next(segment for segment in segments if segment[0] == 2)  # PT_DYNAMIC
    file.seek(dynamic[2])
    data = file.read(dynamic[5])
    entries = [struct.unpack_from("<QQ", data, at) for at in range(0, len(data) - 15, 16)]
    values = {tag: value for tag, value in reversed(entries)}
    strings = values[5]  # DT_STRTAB, an address
    start = next(
        kind[2] + strings - kind[3] for kind in segments if kind[0] == 1 and kind[3] <= strings < kind[3] + kind[5]
    )
    found = {}
    for tag, name in ((15, "RPATH"), (29, "RUNPATH")):
        if tag in values:
            file.seek(start + values[tag])
            text = b""
            while b"\0" not in text:
                more = file.read(4096)
                if not more:
                    break
                text += more
            found[name] = text.split(b"\0")[0].decode("utf-8", "surrogateescape")
    return found


def _unpack(kind: str, data: bytes, offset: int) -> int:
    return int(struct.unpack_from(kind, data, offset)[0])


def _directories(paths: str, origin: str) -> List[str]:
    """Each directory once. An empty path means the working directory, which is no place to look in here."""
    named = [re.sub(r"\$(ORIGIN|\{ORIGIN\})", lambda _: origin, path) for path in re.split("[:;]", paths) if path]
    return [path for path in dict.fromkeys(map(os.path.normpath, named)) if os.path.isdir(path)]


def _loader_cache() -> Dict[str, List[str]]:
    for program in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        if os.path.exists(program):
            break
    else:
        return {}
    said = subprocess.run(
        [program, "-p"],
        env={"LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    ).stdout.decode("utf-8", "surrogateescape")
    tag = _CACHE_TAGS.get(platform.machine(), "")
    found = {}  # type: Dict[str, List[str]]
    for name, kind, path in re.findall(r"^\t(\S+) \(([^)]*)\) => (.+)$", said, re.MULTILINE):
        if tag in kind:
            found.setdefault(name, []).append(path)
    return found


def _is_library(path: str, machine: str) -> bool:
    """One that the loader does not pass over: it skips ELF files of another architecture, and fails at other files."""
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError:
        return False
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return True
    return header[4] == 2 and _unpack("<H", header, 18) == _ELF_MACHINES.get(machine)


def _compiler(site: str, path: str) -> Optional[str]:
    found = (os.path.join(site, place, path) for place in _COMPILER_PLACES)
    return next(filter(os.path.exists, found), None)


# ---------------------------------------------------------------------------------------------------- load


def load_libraries(libraries: List[Record]) -> Record:
    """The rows with the version that each library says itself; what is not found or does not load has none."""
    loaded = []
    for row in libraries:
        row = dict(row)
        if row["path"] and row["name"] != "libcuda.so.1":  # that one is the driver's stage
            # If this ends the process, the log says at which.
            print("loading {}".format(row["path"]), file=sys.stderr, flush=True)
            try:
                library = ctypes.CDLL(row["path"], mode=ctypes.RTLD_GLOBAL)
                row["version"] = _version(row["name"], library)
            except OSError as error:
                row["error"] = str(error)
        loaded.append(row)
    return {"libraries": loaded}


def _version(name: str, library: Any) -> Optional[str]:
    stem = name[3:].split(".so")[0]
    ask = _VERSIONS.get(stem)
    if ask is None or (stem == "cudart" and not name.startswith("libcudart.so.1", 0, 14)):
        return None
    try:
        return ask(library)
    except AttributeError:  # a library of this name that is none of NVIDIA's
        return None


def _returned(function: str, join: Callable[[int], Tuple[int, ...]]) -> Callable[[Any], Optional[str]]:
    def ask(library: Any) -> str:
        call = getattr(library, function)
        call.restype = ctypes.c_size_t
        return _dotted(join(call()))

    return ask


def _written(function: str, join: Callable[[int], Tuple[int, ...]]) -> Callable[[Any], Optional[str]]:
    def ask(library: Any) -> Optional[str]:
        value = ctypes.c_int()
        code = getattr(library, function)(ctypes.byref(value))
        return None if code or not value.value else _dotted(join(value.value))

    return ask


def _property(function: str) -> Callable[[Any], Optional[str]]:
    def ask(library: Any) -> Optional[str]:
        parts = []
        for kind in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
            value = ctypes.c_int()
            if getattr(library, function)(kind, ctypes.byref(value)):
                return None
            parts.append(value.value)
        return _dotted(tuple(parts))

    return ask


def _dotted(parts: Tuple[int, ...]) -> str:
    return ".".join(str(part) for part in parts)


def _thousands(value: int) -> Tuple[int, ...]:
    return value // 1000, value % 1000 // 10


def _cudnn(value: int) -> Tuple[int, ...]:
    """9.3.0 is 90300, 8.1.0 is 8100."""
    major = 10000 if value >= 90000 else 1000
    return value // major, value % major // 100, value % 100


def _cublas(value: int) -> Tuple[int, ...]:
    """12.5.3 is 120503; up to 10.2 it was 10203."""
    major = 10000 if value >= 100000 else 1000
    return value // major, value % major // 100, value % 100


def _thousands_and_patch(value: int) -> Tuple[int, ...]:
    """11.2.3 is 11203."""
    return value // 1000, value % 1000 // 100, value % 100


# Each library's own function for its version, none of which touches a GPU.
_VERSIONS = {
    "cudart": _written("cudaRuntimeGetVersion", _thousands),
    "cublas": _property("cublasGetProperty"),
    "cublasLt": _returned("cublasLtGetVersion", _cublas),
    "cufft": _written("cufftGetVersion", _thousands_and_patch),
    "curand": _written("curandGetVersion", _thousands_and_patch),
    "cusolver": _written("cusolverGetVersion", _thousands_and_patch),
    "cusparse": _property("cusparseGetProperty"),
    "cudnn": _returned("cudnnGetVersion", _cudnn),
}  # type: Dict[str, Callable[[Any], Optional[str]]]
