"""What decides whether a wheel of TensorFlow runs on a CPU, as the kernel lists it."""

from __future__ import annotations

import re

from ..io.reading import read_head

_PATH = "/proc/cpuinfo"
_MOST_BYTES = 1 << 16
_FLAGS = re.compile(r"^flags\s*:(.*)$", re.MULTILINE)


def read_cpu(path: str = _PATH) -> dict[str, bool]:
    """The facts `cpu_avx` and `virtual`; none for a CPU of another architecture."""
    try:
        flags = _FLAGS.search(read_head(path, _MOST_BYTES).decode("ascii", "replace"))
    except OSError:
        return {}
    if flags is None:
        return {}
    names = flags.group(1).split()
    return {"cpu_avx": "avx" in names, "virtual": "hypervisor" in names}
