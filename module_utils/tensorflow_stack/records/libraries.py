"""CUDA's libraries by the names that TensorFlow asks for, and where the loader looks by itself.

The check's child has its own list with the versions in their names, since it imports nothing of this toolkit.
"""

from __future__ import annotations

# What TensorFlow itself opens, by component.
OPENED = {
    "cuda": ("libcudart", "libcublas", "libcublasLt", "libcufft", "libcurand", "libcusolver", "libcusparse"),
    "cudnn": ("libcudnn",),
}
# What those open in their turn, from the same directory; libcudnn has parts of many names (libcudnn_ops).
OPENED_BESIDE = ("libcupti", "libnccl", "libnvJitLink", "libnvrtc", "libnvrtc-builtins", r"libcudnn\w*")


def is_stub(path: str) -> bool:
    """A libcuda of CUDA's toolkit, for linking where no driver is installed: each of its functions only fails."""
    return "/stubs/" in path


# What XLA compiles with, and where it is below a CUDA's prefix; the last is Debian's.
COMPILER = {
    "ptxas": ("bin/ptxas",),
    "libdevice.10.bc": ("nvvm/libdevice/libdevice.10.bc", "lib/cuda/nvvm/libdevice/libdevice.10.bc"),
}

# After what ld.so.conf names (ld.so(8); Debian has the multiarch ones).
LOADER_DIRECTORIES = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
