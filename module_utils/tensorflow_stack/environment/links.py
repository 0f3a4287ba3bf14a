"""What a build has of CUDA: links to libraries and compiler, wherever TensorFlow looks for them, and its GPUs."""

from __future__ import annotations

import glob
import os
import re
from itertools import chain

from ..io.writing import write_new
from ..records.libraries import COMPILER, OPENED, OPENED_BESIDE

# There is much else in the same directories.
_CUDA_LIBRARY = re.compile(rf"({'|'.join((*chain(*OPENED.values()), *OPENED_BESIDE))})\.so\.")
# Where they are looked for, by the RUNPATH of libtensorflow_framework: beside it ($ORIGIN) up to 2.19, and in that
# directory of a wheel from 2.14 on.
_LINK_DIRECTORIES = ("tensorflow", os.path.join("nvidia", "cuda_runtime", "lib"))
# What XLA compiles with: in that directory of a wheel TensorFlow looks from 2.14 on.
_COMPILER_DIRECTORY = os.path.join("nvidia", "cuda_nvcc")
# Before that TensorFlow looks where CUDA installs itself and where XLA_FLAGS says: the environment's Python adds this
# directory to it at each start, unless somebody named one. Flags may come from a file, too (XLA_FLAGS=<path>).
# fact: TensorFlow's source, 2026-11-22
_FIRST_TO_LOOK_IN_WHEELS = (2, 14)
_COMPILER_STARTUP_FILE = "tensorflow_gpu_stack_xla.pth"
_COMPILER_STARTUP = (
    "import os; ours = {flag!r}; given = os.environ.get('XLA_FLAGS', ''); os.environ['XLA_FLAGS'] = given"
    " if 'xla_gpu_cuda_data_dir' in given or given[:1] not in ('', '-') else (ours + ' ' + given).strip()\n"
)

# The GPUs of the node that an environment is for: a program that sets the variable itself has its own way.
_GPUS_STARTUP_FILE = "tensorflow_gpu_stack_gpus.pth"
_GPUS_STARTUP = (
    "import os; 'CUDA_VISIBLE_DEVICES' in os.environ or os.environ.update("
    "CUDA_DEVICE_ORDER='PCI_BUS_ID', CUDA_VISIBLE_DEVICES={visible!r})\n"
)
# Compiled kernels are kept in ~/.nv/ComputeCache, by older drivers up to 256 MiB. All kernels of a release may be more:
# what does not fit is compiled at each start. This is the most that a driver allows; a value of the user's own is left.
# fact: CUDA C++ Programming Guide of CUDA 11.8, "CUDA Environment Variables", from memory, 2026-11-26
_CACHE_STARTUP_FILE = "tensorflow_gpu_stack_cache.pth"
_CACHE_STARTUP = "import os; os.environ.setdefault('CUDA_CACHE_MAXSIZE', '4294967296')\n"


def link_libraries(path: str, site_packages: str, directories: tuple[str, ...]) -> dict[str, str]:
    """Link the CUDA libraries of `directories` to where TensorFlow's loader looks; gives back link -> target.

    So they are found whoever starts Python, and with whatever environment variables.
    """
    root = os.path.join(path, site_packages)
    libraries = [
        library
        for directory in sorted(directories, key=os.path.isabs)  # what the lock brings before what the node has
        for library in sorted(glob.glob(os.path.join(glob.escape(root), directory, "lib*.so.*")))
        if _CUDA_LIBRARY.match(os.path.basename(library))
    ]
    links: dict[str, str] = {}
    for library in libraries:
        for place in (os.path.join(root, directory) for directory in _LINK_DIRECTORIES):
            link = os.path.join(place, os.path.basename(library))
            if os.path.lexists(link):
                continue
            is_inside = library.startswith(os.path.join(root, ""))
            target = os.path.relpath(library, place) if is_inside else library
            os.makedirs(place, exist_ok=True)
            os.symlink(target, link)
            links[os.path.relpath(link, path)] = target
    return links


def link_compiler(path: str, site_packages: str, prefixes: tuple[str, ...]) -> dict[str, str]:
    """Link ptxas and libdevice of the CUDA at `prefixes` to where XLA looks; gives back link -> target."""
    place = os.path.join(path, site_packages, _COMPILER_DIRECTORY)
    links: dict[str, str] = {}
    if os.path.lexists(place):  # the wheel's own
        return links
    for sources in COMPILER.values():
        candidates = (os.path.join(prefix, source) for prefix in prefixes for source in sources)
        target = next(filter(os.path.isfile, candidates), None)
        if target is not None:
            # The first is where it is in a wheel, too.
            link = os.path.join(place, sources[0])
            os.makedirs(os.path.dirname(link))
            os.symlink(target, link)
            links[os.path.relpath(link, path)] = target
    return links


def point_to_compiler(path: str, site_packages: str, release: str) -> None:
    """Have a release that looks for libdevice and ptxas nowhere in the environment find those that are there."""
    place = os.path.join(path, site_packages, _COMPILER_DIRECTORY)
    looks_there = tuple(int(part) for part in release.split(".")[:2]) >= _FIRST_TO_LOOK_IN_WHEELS
    if looks_there or not os.path.isdir(os.path.join(place, "nvvm")):
        return
    flag = f"--xla_gpu_cuda_data_dir='{place}'"
    write_new(os.path.join(path, site_packages, _COMPILER_STARTUP_FILE), _COMPILER_STARTUP.format(flag=flag))


def hide_gpus(path: str, site_packages: str, visible: str) -> None:
    """Have the environment's Python see only these GPUs, unless somebody chose others."""
    write_new(os.path.join(path, site_packages, _GPUS_STARTUP_FILE), _GPUS_STARTUP.format(visible=visible))


def keep_compiled_kernels(path: str, site_packages: str) -> None:
    """Have the driver keep all kernels that it compiles for TensorFlow, whoever starts Python."""
    write_new(os.path.join(path, site_packages, _CACHE_STARTUP_FILE), _CACHE_STARTUP)
