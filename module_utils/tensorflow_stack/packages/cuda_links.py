"""The machine-wide links to a CUDA: /usr/local/cuda and its like, and the loader's search path.

NVIDIA's packages change both when they are installed. They are recorded before, and restored afterwards. In between the
record is on disk: after a run that was killed, the next one restores first.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import StackError
from ..io.commands import run
from ..io.files import FileChanges
from ..io.reading import read_json, read_whole
from ..records.component import STATE_DIRECTORY

# Of a text of the system.
_TEXT_BYTES = 16 << 20

RECORD = f"{STATE_DIRECTORY}/cuda-links.json"
_LINKS = "/usr/local/cuda*"
_LOADER_FILES = "/etc/ld.so.conf.d/*.conf"
_ALTERNATIVES = "/etc/alternatives"
_MOST_BYTES = 1 << 20


class CudaLink(NamedTuple):
    """`target` is the link's own text, `resolved` the path at the end of all links."""

    target: str
    resolved: str


@dataclass(frozen=True)
class CudaLinksState:
    """`links` are by path, `loader_files` have their contents."""

    links: Mapping[str, CudaLink] = field(default_factory=dict)
    loader_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        links = [f"{path} -> {link.resolved}" for path, link in sorted(self.links.items())]
        return links + sorted(self.loader_files)

    def resolved(self, path: str) -> str | None:
        return self.links[path].resolved if path in self.links else None


@dataclass(frozen=True)
class CudaLinksChange:
    before: CudaLinksState
    after: CudaLinksState

    @property
    def put_back(self) -> tuple[str, ...]:
        after = self.after.lines
        return tuple(line for line in self.before.lines if line not in after)


class CudaLinks:
    """`root` is where the node's file system is, with its links relative to it; tests give one."""

    def __init__(self, *, root: str = "", record: str = RECORD) -> None:
        self._root = root
        self._record = record

    def read(self) -> CudaLinksState:
        links = {
            path: CudaLink(os.readlink(path), os.path.realpath(path))
            for path in glob.glob(self._root + _LINKS)
            if os.path.islink(path)
        }
        texts = {path: _text(path) for path in glob.glob(self._root + _LOADER_FILES)}
        return CudaLinksState(
            links, {path: text for path, text in texts.items() if re.search(r"(?m)^\s*\S*/cuda", text)}
        )

    def record(self, prefix: str, *, check: bool) -> CudaLinksChange:
        """Restore what a killed run left changed, then record the links and files as they are."""
        recorded = self._read_record()
        before = self.read()
        after = before if recorded is None else self._put_back(prefix, recorded, before, check=check)
        if not check:
            content = {"links": dict(after.links), "loader_files": dict(after.loader_files)}
            changes = FileChanges()
            changes.write(self._record, (json.dumps(content) + "\n").encode())
            with changes.written():
                pass
        return CudaLinksChange(before, after)

    def restore(self, prefix: str, *, check: bool) -> CudaLinksChange:
        """Put back what was recorded, and remove the record."""
        recorded = self._read_record()
        before = self.read()
        if recorded is None:
            return CudaLinksChange(before, before)
        after = self._put_back(prefix, recorded, before, check=check)
        if not check:
            os.unlink(self._record)
        return CudaLinksChange(before, after)

    def link(self, prefix: str, *, check: bool) -> CudaLinksChange:
        """Let /usr/local/cuda lead to the prefix."""
        before = self.read()
        path = self._root + "/usr/local/cuda"
        wanted = os.path.realpath(prefix)
        if before.resolved(path) == wanted:
            return CudaLinksChange(before, before)
        if os.path.lexists(path) and not os.path.islink(path):
            raise StackError(
                f"{path} is not a link and cannot point to {prefix}. Move it away, or unset cuda_toolkit_global_link."
            )
        link = CudaLink(f"{_ALTERNATIVES}/cuda", wanted)
        after = CudaLinksState({**before.links, path: link}, before.loader_files)
        if not check:
            _update_alternatives("--install", path, "cuda", prefix, _priority(prefix))
            _update_alternatives("--set", "cuda", prefix)
            after = self.read()
            if after.resolved(path) != wanted:
                raise StackError(f"{path} leads to {after.resolved(path) or 'nothing'}, not to {prefix}.")
        return CudaLinksChange(before, after)

    def _put_back(self, prefix: str, recorded: CudaLinksState, now: CudaLinksState, *, check: bool) -> CudaLinksState:
        """Links that lead to the prefix now and did not before, and files for the loader that did not exist."""
        real = os.path.realpath(prefix)
        flipped = [path for path, link in now.links.items() if link.resolved == real != recorded.resolved(path)]
        added = [path for path in now.loader_files if path not in recorded.loader_files]
        links = {path: link for path, link in now.links.items() if path not in flipped}
        links.update({path: recorded.links[path] for path in flipped if path in recorded.links})
        after = CudaLinksState(links, {path: text for path, text in now.loader_files.items() if path not in added})
        if check or not (flipped or added):
            return after
        for path in flipped:
            _put_link_back(path, prefix, recorded.links.get(path))
        for path in added:
            os.unlink(path)
        if added:
            _run(["ldconfig"])
        found = self.read()
        if found != after:
            raise StackError(
                f"The machine-wide CUDA links could not be restored. They were {after.lines}, they are "
                f"{found.lines}. Restore them by hand, or set cuda_toolkit_global_link to point them to this CUDA."
            )
        return after

    def _read_record(self) -> CudaLinksState | None:
        try:
            content = read_json(self._record, _MOST_BYTES)
            links = {path: CudaLink(*link) for path, link in content["links"].items()}
            return CudaLinksState(links, content["loader_files"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StackError(f"{self._record} cannot be read: {error}. Remove it and run again.") from error


def _put_link_back(path: str, prefix: str, recorded: CudaLink | None) -> None:
    if os.path.dirname(os.readlink(path)) == _ALTERNATIVES:
        _update_alternatives("--remove", os.path.basename(os.readlink(path)), prefix)
    if recorded is None:
        if os.path.islink(path):
            os.unlink(path)
    elif not os.path.islink(path) or os.readlink(path) != recorded.target:
        temporary = f"{path}.tensorflow-gpu-stack"
        os.symlink(recorded.target, temporary)
        os.replace(temporary, path)


def _priority(prefix: str) -> str:
    """As NVIDIA's packages have it: 112 for CUDA 11.2."""
    version = re.search(r"(\d+)\.(\d+)", os.path.basename(prefix))
    return f"{version.group(1)}{version.group(2)}" if version else "1"


def _text(path: str) -> str:
    try:
        return read_whole(path, _TEXT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _update_alternatives(*arguments: str) -> None:
    _run(["update-alternatives", *arguments])


def _run(command: Sequence[str]) -> None:
    """Its exit code does not count: the caller looks at the links afterwards."""
    run(command)
