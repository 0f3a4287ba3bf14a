"""What leads the whole machine to one CUDA: /usr/local/cuda and its like, and the loader's search path.

NVIDIA's packages change both when they are installed. Here is noted what was there before, and put back afterwards. The
note is on disk in between: after a run that was killed, the next one puts back first.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any

from ..errors import StackError
from ..io.files import FileChanges
from ..records.component import STATE_DIRECTORY

NOTE = f"{STATE_DIRECTORY}/cuda-links.json"
_LINKS = "/usr/local/cuda*"
_LOADER_FILES = "/etc/ld.so.conf.d/*.conf"
_ALTERNATIVES = "/etc/alternatives"


@dataclass(frozen=True)
class State:
    """`links`: path to what it says and, alternatives followed, where it leads; `loader_files`: with their contents."""

    links: dict[str, list[str]] = field(default_factory=dict)
    loader_files: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        return [f"{path} -> {leads}" for path, (_, leads) in sorted(self.links.items())] + sorted(self.loader_files)


@dataclass(frozen=True)
class Outcome:
    before: State
    after: State
    restored: tuple[str, ...] = ()


class Node:
    """`root` is where the node's file system is, with its links relative to it; tests give one."""

    def __init__(self, *, root: str = "", note: str = NOTE) -> None:
        self._root = root
        self._note = note

    def look(self) -> State:
        links = {
            path: [os.readlink(path), os.path.realpath(path)]
            for path in glob.glob(self._root + _LINKS)
            if os.path.islink(path)
        }
        files = {path: _text(path) for path in glob.glob(self._root + _LOADER_FILES)}
        return State(links, {path: text for path, text in files.items() if re.search(r"(?m)^\s*\S*/cuda", text)})

    def note(self, prefix: str, *, check: bool) -> Outcome:
        """Put back what a killed run left, then note what is there."""
        noted = self._read_note()
        before = self.look()
        after = before if noted is None else self._put_back(prefix, noted, before, check=check)
        if not check:
            changes = FileChanges()
            changes.write(
                self._note, (json.dumps({"links": after.links, "loader_files": after.loader_files}) + "\n").encode()
            )
            with changes.written():
                pass
        return Outcome(before, after, _differences(before, after))

    def restore(self, prefix: str, *, check: bool) -> Outcome:
        """Put back what was noted, and forget it."""
        noted = self._read_note()
        before = self.look()
        if noted is None:
            return Outcome(before, before)
        after = self._put_back(prefix, noted, before, check=check)
        if not check:
            os.unlink(self._note)
        return Outcome(before, after, _differences(before, after))

    def lead(self, prefix: str, *, check: bool) -> Outcome:
        """Let /usr/local/cuda lead to the prefix."""
        before = self.look()
        link = self._root + "/usr/local/cuda"
        if before.links.get(link, ["", ""])[1] == os.path.realpath(prefix):
            return Outcome(before, before)
        if os.path.lexists(link) and not os.path.islink(link):
            raise StackError(
                f"{link} is no link and cannot lead to {prefix}. Move it away, or unset cuda_toolkit_global_link."
            )
        after = State({**before.links, link: [f"{_ALTERNATIVES}/cuda", os.path.realpath(prefix)]}, before.loader_files)
        if not check:
            self._alternatives("--install", link, "cuda", prefix, _priority(prefix))
            self._alternatives("--set", "cuda", prefix)
            after = self.look()
            if after.links.get(link, ["", ""])[1] != os.path.realpath(prefix):
                raise StackError(
                    f"{link} was to lead to {prefix} and leads to {after.links.get(link, ['', 'nothing'])[1]}."
                )
        return Outcome(before, after, _differences(before, after))

    def _put_back(self, prefix: str, noted: State, now: State, *, check: bool) -> State:
        """Links that lead to the prefix now and did not, and files for the loader that were not there."""
        real = os.path.realpath(prefix)
        flipped = [
            path
            for path, (_, leads) in now.links.items()
            if leads == real and noted.links.get(path, ["", ""])[1] != real
        ]
        added = [path for path in now.loader_files if path not in noted.loader_files]
        kept = {path: row for path, row in now.links.items() if path not in flipped}
        kept.update({path: noted.links[path] for path in flipped if path in noted.links})
        after = State(kept, {path: text for path, text in now.loader_files.items() if path not in added})
        if check or not (flipped or added):
            return after
        for path in flipped:
            self._put_link_back(path, prefix, noted.links.get(path))
        for path in added:
            os.unlink(path)
        if added:
            _run(["ldconfig"])
        found = self.look()
        if found != after:
            raise StackError(
                f"What leads this machine to a CUDA could not be put back. It was {after.lines}, it is {found.lines}. "
                "Put it back by hand, or set cuda_toolkit_global_link to let it lead to this CUDA."
            )
        return after

    def _put_link_back(self, path: str, prefix: str, noted: list[str] | None) -> None:
        if os.path.dirname(os.readlink(path)) == _ALTERNATIVES:
            self._alternatives("--remove", os.path.basename(os.readlink(path)), prefix)
        if noted is None:
            if os.path.islink(path):
                os.unlink(path)
        elif not os.path.islink(path) or os.readlink(path) != noted[0]:
            temporary = f"{path}.tensorflow-gpu-stack"
            os.symlink(noted[0], temporary)
            os.replace(temporary, path)

    def _alternatives(self, *arguments: str) -> None:
        _run(["update-alternatives", *arguments])

    def _read_note(self) -> State | None:
        try:
            with open(self._note, encoding="utf-8") as stream:
                return State(**json.load(stream))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StackError(f"{self._note} cannot be read: {error}. Remove it and run again.") from error


def _differences(before: State, after: State) -> tuple[str, ...]:
    return tuple(line for line in before.lines if line not in after.lines)


def _priority(prefix: str) -> str:
    """As NVIDIA's packages have it: 112 for CUDA 11.2."""
    version = re.search(r"(\d+)\.(\d+)", os.path.basename(prefix))
    return f"{version.group(1)}{version.group(2)}" if version else "1"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _run(command: list[str]) -> None:
    """What it returned is not asked: the caller looks at what is there afterwards."""
    environment: dict[str, Any] = {**os.environ, "LC_ALL": "C"}
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, check=False)
    except OSError as error:
        raise StackError(f"{command[0]} cannot be run: {error.strerror}.", cmd=command) from error
