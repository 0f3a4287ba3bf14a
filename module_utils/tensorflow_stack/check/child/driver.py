"""What the driver is and whether it computes, asked without TensorFlow and without CUDA's toolkit.

Part of what runs in the environment's own Python (3.6 and newer), as `main.py`: standard library only, no
`from __future__ import annotations`. The numbers of functions, attributes and structures are those of NVIDIA's
interfaces libcuda and NVML, which never change for a name.
"""

import ctypes
import os
import re
from typing import Any, Dict, List, Optional

from .stages import Record, Stage

_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_JIT_COMPILER_NOT_FOUND = 221  # a container may lack libnvidia-ptxjitcompiler; TensorFlow's machine code runs without
_NVML_INSUFFICIENT_SIZE = 7
_NVML_UNCORRECTED = 1
_NVML_VOLATILE, _NVML_AGGREGATE = 0, 1
_FABRIC_STATES = ("not_supported", "not_started", "in_progress", "completed")

_THREADS, _BLOCK, _ROUNDS = 1024, 256, 64
# Each thread mixes its own and its neighbours' numbers: 32-bit integers, so there is one right answer. An architecture
# that is older than every supported driver, for the driver to compile for the GPU that is there.
_KERNEL = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry mix(.param .u64 given, .param .u64 result)
{
    .reg .pred %more;
    .reg .b32 %i, %k, %h, %v, %at;
    .reg .b64 %in, %out, %offset, %address;
    ld.param.u64 %in, [given];
    ld.param.u64 %out, [result];
    cvta.to.global.u64 %in, %in;
    cvta.to.global.u64 %out, %out;
    mov.u32 %i, %ctaid.x;
    mov.u32 %k, %ntid.x;
    mov.u32 %v, %tid.x;
    mad.lo.u32 %i, %i, %k, %v;
    mov.u32 %h, %i;
    mov.u32 %k, 0;
ROUND:
    add.u32 %at, %i, %k;
    and.b32 %at, %at, 1023;
    mul.wide.u32 %offset, %at, 4;
    add.u64 %address, %in, %offset;
    ld.global.u32 %v, [%address];
    xor.b32 %h, %h, %v;
    mad.lo.u32 %h, %h, 0x9E3779B1, %k;
    add.u32 %k, %k, 1;
    setp.lt.u32 %more, %k, 64;
    @%more bra ROUND;
    mul.wide.u32 %offset, %i, 4;
    add.u64 %address, %out, %offset;
    st.global.u32 [%address], %h;
    ret;
}
"""


class CudaError(Exception):
    """A call of libcuda that did not answer 0."""

    def __init__(self, call: str, code: int, name: str, text: str) -> None:
        super().__init__(f"{call} answers {code} {name}: {text}")
        self.code = code


def stages() -> List[Stage]:
    return [
        Stage("kernel_module", None, kernel_module),
        Stage("nvml", None, nvml),
        Stage("libcuda", None, libcuda),
    ]


def expand(record: Record) -> List[Stage]:
    """A kernel on each GPU that libcuda counts."""
    return [
        Stage("kernel", gpu["name"], lambda ordinal=gpu["ordinal"]: kernel(ordinal))  # type: ignore[misc]
        for gpu in record.get("libcuda", {}).get("gpus", [])
    ]


# ------------------------------------------------------------------------------------------- kernel module


def kernel_module() -> Record:
    version = _first_line("/sys/module/nvidia/version")
    text = _first_line("/proc/driver/nvidia/version")
    if version is None and text:
        # "NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun ..." and "... Open Kernel Module for x86_64  580.95.05 ..."
        found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", text)
        version = found.group(1) if found else None
    kind = None if text is None else "open" if "Open Kernel Module" in text else "proprietary"
    # On WSL 2 the driver is that of Windows, and no module of NVIDIA's is in this kernel.
    return {"module": {"version": version, "kind": kind}, "xids": _xids(), "dxg": os.path.exists("/dev/dxg")}


def _first_line(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return None


def _xids() -> Optional[List[str]]:
    """What the driver reported of its GPUs since the boot, the last ones; null where the log cannot be read."""
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    found = []  # type: List[str]
    try:
        while True:
            try:
                line = os.read(log, 8192).decode("utf-8", "replace")
            except BrokenPipeError:  # overwritten meanwhile: the next read goes on behind it
                continue
            if "NVRM: Xid" in line:
                found.append(line.split(";", 1)[-1].split("\n")[0])
    except OSError:  # its end
        return found[-10:]
    finally:
        os.close(log)


# ---------------------------------------------------------------------------------------------------- NVML


def nvml() -> Record:
    """Every fact that the library does not give is null."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        return {"nvml": {"code": None, "text": str(error), "driver": None, "gpus": []}}
    library.nvmlErrorString.restype = ctypes.c_char_p
    code = library.nvmlInit_v2()
    text = (library.nvmlErrorString(code) or b"").decode("utf-8", "replace")
    found = {"code": code, "text": text, "driver": None, "gpus": []}  # type: Dict[str, Any]
    if code:
        return {"nvml": found}
    version = ctypes.create_string_buffer(96)
    if library.nvmlSystemGetDriverVersion(version, 96) == 0:
        found["driver"] = version.value.decode("utf-8", "replace")
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        handle = ctypes.c_void_p()
        code = library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
        row = {"index": index, "error": code} if code else _nvml_gpu(_Nvml(library, handle))
        found["gpus"].append(row)
    library.nvmlShutdown()
    return {"nvml": found}


class _Nvml:
    """Calls of NVML about one GPU."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle

    def call(self, name: str, *arguments: Any) -> Optional[int]:
        """Its code; null where this NVML has no such function."""
        function = getattr(self._library, name, None)
        return None if function is None else int(function(self._handle, *arguments))

    def numbers(self, name: str, count: int, *before: Any, kind: Any = ctypes.c_uint) -> Optional[List[int]]:
        values = [kind() for _ in range(count)]
        code = self.call(name, *before, *(ctypes.byref(value) for value in values))
        return [value.value for value in values] if code == 0 else None


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class _Process(ctypes.Structure):
    _fields_ = [("pid", ctypes.c_uint), ("bytes", ctypes.c_ulonglong)]


class _Fabric(ctypes.Structure):
    """nvmlGpuFabricInfo_v2_t; the library is told its size and version, and refuses what it does not know."""

    _fields_ = [
        ("version", ctypes.c_uint),
        ("cluster", ctypes.c_ubyte * 16),
        ("status", ctypes.c_uint),
        ("clique", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
        ("health", ctypes.c_uint),
    ]


def _nvml_gpu(gpu: _Nvml) -> Record:
    name, uuid = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
    gpu.call("nvmlDeviceGetName", name, 96)
    gpu.call("nvmlDeviceGetUUID", uuid, 96)
    memory = _Memory()
    has_memory = gpu.call("nvmlDeviceGetMemoryInfo", ctypes.byref(memory)) == 0
    ecc = gpu.numbers("nvmlDeviceGetEccMode", 2)
    mig = gpu.numbers("nvmlDeviceGetMigMode", 2)
    rows = gpu.numbers("nvmlDeviceGetRemappedRows", 4)
    uncorrected = {}  # type: Dict[str, Optional[int]]
    for key, counter in (("since_boot", _NVML_VOLATILE), ("ever", _NVML_AGGREGATE)):
        counted = gpu.numbers("nvmlDeviceGetTotalEccErrors", 1, _NVML_UNCORRECTED, counter, kind=ctypes.c_ulonglong)
        uncorrected[key] = counted[0] if counted else None
    return {
        "name": name.value.decode("utf-8", "replace"),
        "uuid": uuid.value.decode("utf-8", "replace"),
        "memory_bytes": memory.total if has_memory else None,
        "memory_used_bytes": memory.used if has_memory else None,
        "ecc": None if ecc is None else bool(ecc[0]),
        "ecc_uncorrected": uncorrected,
        "remapped_rows": None
        if rows is None
        else {"corrected": rows[0], "uncorrected": rows[1], "pending": bool(rows[2]), "failed": bool(rows[3])},
        "mig": None if mig is None else bool(mig[0]),
        "fabric": _fabric(gpu),
        "processes": _processes(gpu),
    }


def _fabric(gpu: _Nvml) -> Optional[Record]:
    fabric = _Fabric(version=ctypes.sizeof(_Fabric) | 2 << 24)
    if gpu.call("nvmlDeviceGetGpuFabricInfoV", ctypes.byref(fabric)) != 0:
        return None
    known = fabric.state < len(_FABRIC_STATES)
    return {"state": _FABRIC_STATES[fabric.state] if known else str(fabric.state), "status": fabric.status}


def _processes(gpu: _Nvml) -> Optional[List[Dict[str, int]]]:
    rows = (_Process * 64)()
    count = ctypes.c_uint(len(rows))
    code = gpu.call("nvmlDeviceGetComputeRunningProcesses", ctypes.byref(count), rows)
    if code not in (0, _NVML_INSUFFICIENT_SIZE):
        return None
    return [{"pid": row.pid, "bytes": row.bytes} for row in rows[: min(count.value, len(rows))]]


# -------------------------------------------------------------------------------------------------- libcuda


def libcuda() -> Record:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"libcuda": {"path": None, "cuda": None, "code": None, "error": str(error), "gpus": []}}
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    found = {
        "path": _mapped("libcuda.so"),
        # 12040 is CUDA 12.4. It is known also where there is no device.
        "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "code": 0,
        "error": None,
        "gpus": [],
    }  # type: Dict[str, Any]
    try:
        _call(library, "cuInit", 0)
        count = ctypes.c_int()
        _call(library, "cuDeviceGetCount", ctypes.byref(count))
        found["gpus"] = [_describe(library, ordinal) for ordinal in range(count.value)]
    except CudaError as error:
        found.update(code=error.code, error=str(error))
    return {"libcuda": found}


def _describe(library: Any, ordinal: int) -> Record:
    device = ctypes.c_int()
    _call(library, "cuDeviceGet", ctypes.byref(device), ordinal)
    name = ctypes.create_string_buffer(96)
    _call(library, "cuDeviceGetName", name, 96, device)
    memory = ctypes.c_size_t()
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        value = ctypes.c_int()
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return {
        "ordinal": ordinal,
        "name": f"GPU {ordinal}",
        "description": name.value.decode("utf-8", "replace"),
        "pci_address": _pci_address(library, device),
        "compute_capability": ".".join(capability),
        "memory_bytes": memory.value,
    }


def _pci_address(library: Any, device: ctypes.c_int) -> Optional[str]:
    address = ctypes.create_string_buffer(64)
    try:
        _call(library, "cuDeviceGetPCIBusId", address, 64, device)
    except CudaError:
        return None
    return address.value.decode("ascii", "replace") or None


def kernel(ordinal: int) -> Record:
    """Have the driver compile a kernel for the GPU and run it; every number has one right value."""
    library = ctypes.CDLL("libcuda.so.1")
    _call(library, "cuInit", 0)
    device = ctypes.c_int()
    _call(library, "cuDeviceGet", ctypes.byref(device), ordinal)
    context = ctypes.c_void_p()
    _call(library, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    _call(library, "cuCtxSetCurrent", context)
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    try:
        _call(library, "cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(_KERNEL))
    except CudaError as error:
        if error.code == _JIT_COMPILER_NOT_FOUND:
            return {"skipped": str(error)}
        raise
    _call(library, "cuModuleGetFunction", ctypes.byref(function), module, b"mix")
    numbers = ctypes.c_uint32 * _THREADS
    size = ctypes.c_size_t(ctypes.sizeof(numbers))
    given, found = numbers(*_given()), numbers()
    on_gpu = []
    for values in (given, found):
        address = ctypes.c_uint64()
        _call(library, "cuMemAlloc_v2", ctypes.byref(address), size)
        _call(library, "cuMemcpyHtoD_v2", address, values, size)
        on_gpu.append(address)
    arguments = (ctypes.c_void_p * 2)(*(ctypes.addressof(address) for address in on_gpu))
    grid = (_THREADS // _BLOCK, 1, 1, _BLOCK, 1, 1)
    _call(library, "cuLaunchKernel", function, *grid, 0, None, arguments, None)
    _call(library, "cuCtxSynchronize")
    _call(library, "cuMemcpyDtoH_v2", found, on_gpu[1], size)
    pairs = [(got, want) for got, want in zip(found, _wanted()) if got != want]
    _call(library, "cuModuleUnload", module)
    _call(library, "cuDevicePrimaryCtxRelease_v2", device)
    return {
        "values": _THREADS,
        "wrong": len(pairs),
        "example": f"{pairs[0][0]}, not {pairs[0][1]}" if pairs else None,
    }


def _given() -> List[int]:
    values, seed = [], 1
    for _ in range(_THREADS):
        seed = (seed * 1664525 + 1013904223) % 2**32
        values.append(seed)
    return values


def _wanted() -> List[int]:
    given = _given()
    result = []
    for thread in range(_THREADS):
        mixed = thread
        for step in range(_ROUNDS):
            mixed = ((mixed ^ given[(thread + step) % _THREADS]) * 0x9E3779B1 + step) % 2**32
        result.append(mixed)
    return result


def _call(library: Any, name: str, *arguments: Any) -> None:
    function = getattr(library, name, None)
    if function is None:
        raise CudaError(name, -1, "no such function", "this libcuda is not NVIDIA's, or older than CUDA 4")
    code = function(*arguments)
    if code:
        texts = []
        for describe in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            getattr(library, describe)(code, ctypes.byref(text))
            texts.append((text.value or b"unknown").decode("utf-8", "replace"))
        raise CudaError(name, code, *texts)


def _mapped(name: str) -> Optional[str]:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        paths = (line.split(None, 5)[5].rstrip("\n") for line in maps if "/" in line)
        return next((path for path in paths if os.path.basename(path).startswith(name)), None)
