"""The NVIDIA driver of a node: the module that is loaded and the libcuda that is installed."""

from __future__ import annotations

import os
import re
from typing import Any

from ..records.libraries import is_stub
from .libraries import find_libcuda
from .loader import Loader
from .texts import LONGEST_VERSION, parse_driver_version, parse_libcuda_name

# A libcuda of NVIDIA's package for forward compatibility is no driver: it runs on the driver of another branch.
_COMPATIBILITY = re.compile(r"/cuda(-[0-9.]+)?/compat/")


def read_driver(loader: Loader) -> dict[str, Any]:
    files = loader.files
    module_version = (files.text("/sys/module/nvidia/version", "driver.loaded") or "").strip()
    is_version = re.fullmatch(r"[0-9]+(\.[0-9]+)+", module_version) and len(module_version) <= LONGEST_VERSION
    if module_version and not is_version:
        files.add_unread("driver.loaded", "/sys/module/nvidia/version: not a version")
        module_version = ""
    text = files.text("/proc/driver/nvidia/version", "driver.kind")
    module = None if text is None else parse_driver_version(text)
    if text is not None and module is None:
        files.add_unread("driver.kind", "/proc/driver/nvidia/version: of neither known shape")

    found = find_libcuda(loader)
    libraries = [path for path in found if not (_COMPATIBILITY.search(path) or is_stub(path))]
    installed = parse_libcuda_name(os.path.basename(libraries[0])) if libraries else None
    if libraries and installed is None:
        files.add_unread("driver.installed", f"{libraries[0]}: no version in its name")
    return {
        "loaded": module_version or (module.version if module else None),
        "kind": module.kind if module else None,
        "installed": installed,
        "libcuda": libraries[0] if libraries else None,
        "other_libcuda": [path for path in found if path not in libraries[:1]],
    }
