"""Small wheels made on the spot: doubles for distributions, where what is tested is the installing."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.tensorflow_stack.records.lockfile import Distribution, Lock


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    files: dict[str, str],
    recorded: dict[str, str] | None = None,
    requires: Sequence[str] = (),
) -> Distribution:
    """Write a pure wheel; gives back its line of a lock. `recorded` are texts that its RECORD has instead."""
    escaped = name.replace("-", "_")
    info = f"{escaped}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {line}\n" for line in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in {**contents, **(recorded or {})}.items()
    ]
    contents[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    wheel = directory / f"{escaped}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    body = wheel.read_bytes()
    return Distribution(name, version, (hashlib.sha256(body).hexdigest(),), len(body))


def make_tensorflow(directory: Path, version: str, body: str = "", requires: Sequence[str] = ()) -> Distribution:
    """A double of the TensorFlow wheel: it can be imported and says its version."""
    source = f"__version__ = {version!r}\n{body}\n"
    return make_wheel(directory, "tensorflow", version, {"tensorflow/__init__.py": source}, requires=requires)


def make_lock(*distributions: Distribution, release: str, python: str) -> Lock:
    return Lock(
        release=release,
        python=python,
        platform="linux_x86_64",
        flavour="cpu",
        requirements=(f"tensorflow=={release}",),
        constraints=(),
        inputs_sha256="0" * 64,
        cutoff="2026-11-22T00:00:00Z",
        distributions=tuple(sorted(distributions, key=lambda distribution: distribution.name)),
    )


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
