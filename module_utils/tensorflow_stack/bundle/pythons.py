"""Builds of Python as uv downloads them, in the layout of the releases of python-build-standalone."""

from __future__ import annotations

import json
import os
import re
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import StackError
from ..io.commands import run
from ..io.downloads import Source, as_url
from ..io.uv import uv_environment
from .manifest import BundledFile
from .needs import BundleNeed

DIRECTORY = "python"
# <tag>/<file>, by which a mirror has what uv's list has.
_PLACE = re.compile(r".*/releases/download/(?P<place>[^/]+/[^/]+)\Z")

_GITHUB = "https://github.com/astral-sh/python-build-standalone/releases/download"  # fact: uv 0.13.9, 2026-11-26


def find_python(uv: str, need: BundleNeed, downloads: str | None) -> tuple[str, str, str]:
    """Version, URL and place (`<tag>/<file>`) of the build that uv would download."""
    command = [uv, "python", "list", "--only-downloads", "--show-urls", "--output-format", "json", "--all-arches"]
    command += ["--python-downloads-json-url", downloads] if downloads else []
    done = run([*command, f"cpython-{need.version}"], env=_environment(), apart=True)
    try:
        rows = json.loads(done.output)
    except ValueError as error:
        raise StackError(f"uv lists no Pythons: {done.errors.strip() or error}") from error
    for row in rows:
        matched = _PLACE.match(row["url"] or "")
        if matched and _is_for(row, need):
            return row["version"], row["url"], urllib.parse.unquote(matched.group("place"))
    raise StackError(
        f"uv knows no build of Python {need.version} for {need.architecture}. Take another one with tensorflow_python."
    )


def _is_for(row: Mapping[str, Any], need: BundleNeed) -> bool:
    same = (row["arch"], row["os"], row["libc"], row["variant"]) == (need.architecture, "linux", "gnu", "default")
    return same and row["implementation"] == "cpython"


def sources(url: str, place: str, mirror: str | None, hosts: Sequence[str]) -> list[Source]:
    """From where a build can be fetched, in the order in which uv tries."""
    quoted = urllib.parse.quote(place)
    if mirror:
        return [_source(f"{mirror.rstrip('/')}/{quoted}")]
    github = f"{_GITHUB}/{quoted}"
    return [_source(one) for one in dict.fromkeys([url, *([github] if "github.com" in hosts else [])])]


def _source(url: str) -> Source:
    return Source(as_url(url), name="host of Python's builds", settings="python_mirror")


def check_python(uv: str, bundle: str, file: BundledFile, downloads: str | None) -> None:
    """Raises StackError unless uv takes the file for the build in its list, whose sha256 only it knows."""
    with tempfile.TemporaryDirectory() as scratch:
        mirror = as_url(os.path.join(bundle, DIRECTORY))
        command = [uv, "python", "install", "--no-bin", "--install-dir", scratch, "--mirror", mirror]
        command += ["--python-downloads-json-url", downloads] if downloads else []
        environment = _environment(os.path.join(scratch, "cache"))
        done = run([*command, f"cpython-{file.version}-linux-{_architecture(file)}-gnu"], env=environment)
    if done.code:
        said = [line.strip() for line in done.lines if line.strip()]
        raise StackError(f"{file.path} is not the build that uv knows: {said[-1] if said else done.code}.")


def _architecture(file: BundledFile) -> str:
    return "aarch64" if "-aarch64-" in file.path else "x86_64"


def _environment(cache: str | None = None) -> dict[str, str]:
    return {**uv_environment(cache=cache), "UV_PYTHON_DOWNLOADS": "manual"}
