"""Bring the pinned uv from a package index, and run it untouched by the user's configuration."""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from typing import Any, Callable, Mapping, NamedTuple

from ..errors import StackError, hide_credentials
from .commands import run
from .downloads import Source, as_url, has_credentials
from .index import ACCEPT, MOST_BYTES, rows_of
from .reading import digest_of
from .writing import open_to_write

DEFAULT_INDEX = "https://pypi.org/simple"
# uv's own variable: the index where the caller names none.
INDEX_VARIABLE = "UV_DEFAULT_INDEX"
_INDEX_SETTINGS = f"tensorflow_index_url (or {INDEX_VARIABLE} in the environment)"

# uv's variables that say how to reach an index, not what to install or where.
_KEPT_UV_VARIABLES = (
    INDEX_VARIABLE,
    "UV_CREDENTIALS_DIR",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_PYTHON_INSTALL_MIRROR",
)
_DROPPED_PREFIXES = ("UV_", "PYTHON", "CONDA_")
_FAILED_TO_FETCH = re.compile(r"Failed to (?:fetch|download):? `?(?P<url>https?://[^\s`]+)")
_DROPPED_VARIABLES = ("VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def ensure_uv(
    *,
    directory: str,
    record: Mapping[str, Any],
    index_url: str | None,
    opener: urllib.request.OpenerDirector | None = None,
    report: Callable[[str], None] | None = None,
) -> str:
    """Path of the pinned uv, `<directory>/uv-<version>/uv`; fetched unless the program there is the pinned one.

    `record` is a row of the table `uv`; what lies beside the program could be changed with it, and proves nothing.
    `index_url` names a simple index or, as file://, a directory of wheels. `report` is told what is fetched.
    """
    _refuse_credentials(index_url)
    home = os.path.join(directory, "uv-" + record["version"])
    path = os.path.join(home, "uv")
    if _is_pinned(path, record["program_sha256"]):
        return path
    index = _Index(index_url or os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX, opener)
    if report:
        report(f"Fetching uv {record['version']} ({record['bytes'] / 2**20:.1f} MiB) from {index.shown}")
    try:
        os.makedirs(home, mode=0o755, exist_ok=True)
        # Beside its target, so that the renames below stay on one file system.
        work = tempfile.mkdtemp(prefix=".new-", dir=home)
    except OSError as error:
        raise StackError(f"uv cannot be written to {home}: {error.strerror}. Make that directory writable.") from error
    try:
        unpacked = os.path.join(work, "uv")
        wheel = os.path.join(work, "wheel")
        index.download("uv", record, wheel)
        _extract(wheel, unpacked, name=record["filename"])
        if digest_of(unpacked).hex() != record["program_sha256"]:
            raise StackError(f"The uv in {record['filename']} is not the pinned one: the row of uv.yml does not fit.")
        os.replace(unpacked, path)
    except OSError as error:
        raise StackError(f"uv cannot be unpacked into {home}: {error}.") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return path


def uv_environment(
    *, cache: str | None = None, index_url: str | None = None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment to run uv in: nothing that configures uv or Python but how to reach the index."""
    _refuse_credentials(index_url)
    environment = {
        name: value
        for name, value in (os.environ if base is None else base).items()
        if name in _KEPT_UV_VARIABLES or not (name.startswith(_DROPPED_PREFIXES) or name in _DROPPED_VARIABLES)
    }
    environment.update(UV_NO_CONFIG="1", UV_SYSTEM_CERTS="1", UV_PYTHON_DOWNLOADS="never", LC_ALL="C.UTF-8")
    if cache:
        environment["UV_CACHE_DIR"] = cache
    if index_url:
        environment[INDEX_VARIABLE] = as_url(index_url)
    if _is_wheel_directory(environment.get(INDEX_VARIABLE, "")):
        # uv takes wheels in a directory as links beside an index, and offline alone keeps it from the index.
        environment.update(UV_OFFLINE="1", UV_FIND_LINKS=environment.pop(INDEX_VARIABLE))
    return environment


def explain_fetch(said: str) -> str | None:
    """What uv could not fetch, why, and what to set; None if its words are of something else."""
    found = _FAILED_TO_FETCH.search(said)
    if not found:
        return None
    url = hide_credentials(found.group("url"))
    why = said.rpartition("cause: ")[2].strip().rstrip(".")
    return (
        f"{url} cannot be fetched ({why}). Set {_INDEX_SETTINGS} to an index that this machine can reach, "
        "or HTTPS_PROXY to the proxy."
    )


# <cache>/wheels-v8/pypi/<project>/<version>-<tags>, or index/<digest> for pypi: a link to what was unpacked.
# fact: uv 0.13.9, 2026-11-26
_CACHED = ("wheels-v*/pypi/*/*", "wheels-v*/index/*/*/*")
_CACHED_NAME = re.compile(r"(?P<version>[^-]+)-(?P<pythons>[^-]+)-(?P<abi>[^-]+)-[^-]+\Z")


class CachedWheel(NamedTuple):
    """A wheel in uv's cache: the files by which uv finds it, and the tags that say for which Python it is."""

    name: str
    version: str
    pythons: str
    abi: str
    paths: tuple[str, ...]

    def fits(self, minor: str) -> bool:
        digits = minor.replace(".", "")
        return bool({f"cp{digits}", f"py{digits}", "py3"} & set(self.pythons.split("."))) or self.abi == "abi3"


def list_cached(cache: str) -> list[CachedWheel]:
    """The wheels in a cache; none of another uv with another layout, nor those whose names uv shortened by a digest.

    uv has no command for it but a resolution.
    """
    found = []
    for path in sorted(path for pattern in _CACHED for path in glob.glob(os.path.join(glob.escape(cache), pattern))):
        matched = _CACHED_NAME.match(os.path.basename(path))
        if matched and os.path.isdir(path):
            # In the order in which they may be removed: uv fails if one of the others is there and the link is not.
            files = (path + ".http", path + ".rev", path + ".lock", path)
            paths = tuple(file for file in files if os.path.islink(file) or os.path.isfile(file))
            version, pythons, abi = matched.groups()
            found.append(CachedWheel(os.path.basename(os.path.dirname(path)), version, pythons, abi, paths))
    return found


def cached_wheels(cache: str, minor: str) -> set[tuple[str, str]]:
    """Name and version of each wheel in a cache that fits a Python."""
    return {(wheel.name, wheel.version) for wheel in list_cached(cache) if wheel.fits(minor)}


def prune_cache(uv: str, cache: str) -> None:
    """Have uv remove what nothing in its cache refers to. It waits for another uv that uses the cache."""
    done = run([uv, "cache", "prune", "--quiet"], env=uv_environment(cache=cache), apart=True)
    if done.code:
        raise StackError(f"uv cache prune ended with {done.code}: {done.errors.strip()}. The cache is {cache}.")


def _refuse_credentials(index_url: str | None) -> None:
    """What a task is given shows in its output; an environment variable of the run does not."""
    if index_url and has_credentials(index_url):
        raise StackError(
            "tensorflow_index_url contains credentials, which the output of every task would show. Put them into "
            f"~/.netrc (mode 0600) of the user who runs the tasks, or the whole URL into {INDEX_VARIABLE}."
        )


def _is_wheel_directory(index_url: str) -> bool:
    parts = urllib.parse.urlsplit(index_url)
    directory = urllib.request.url2pathname(parts.path)
    return (
        parts.scheme == "file"
        and os.path.isdir(directory)
        and any(name.endswith(".whl") for name in os.listdir(directory))
    )


class _Index:
    """A simple index (PEP 503 pages or PEP 691 JSON), or a directory of wheels given as file:// URL."""

    def __init__(self, url: str, opener: urllib.request.OpenerDirector | None) -> None:
        self._source = Source(url, name="package index", settings=_INDEX_SETTINGS, opener=opener)
        self.shown = self._source.shown

    def download(self, project: str, record: Mapping[str, Any], path: str) -> None:
        """Write the record's file to `path`; raises StackError unless size and sha256 are the record's."""
        url = self._url_of(project, record["filename"])
        self._source.save(url, path, what=record["filename"], sha256=record["sha256"], size=record["bytes"])

    def _url_of(self, project: str, filename: str) -> str:
        page = f"{self.shown}/{project}/"
        if self._source.parts.scheme == "file":
            directory = urllib.request.url2pathname(self._source.parts.path)
            for path in (os.path.join(directory, filename), os.path.join(directory, project, filename)):
                if os.path.isfile(path):
                    return "file://" + urllib.request.pathname2url(path)
            page += "index.html"
        answer = self._source.get(page, what=project, accept=ACCEPT, limit=MOST_BYTES)
        links = {_name_of(row["url"]): row["url"] for row in rows_of(self._source, answer, f"The page of {project}")}
        if filename not in links:
            raise StackError(
                f"The package index {self.shown} has no {filename} ({len(links)} files of {project} seen). "
                f"Set {_INDEX_SETTINGS} to one that mirrors {project}."
            )
        return str(links[filename])


def _name_of(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])


def _extract(wheel: str, target: str, *, name: str) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [member for member in archive.namelist() if member.endswith(".data/scripts/uv")]
            if len(members) != 1:
                raise StackError(f"{name} holds {len(members)} files scripts/uv, not one.")
            with archive.open(members[0]) as source, open_to_write(target) as stream:
                shutil.copyfileobj(source, stream)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise StackError(f"{name} is no wheel that can be unpacked: {error}.") from error
    os.chmod(target, 0o755)


def _is_pinned(path: str, sha256: str) -> bool:
    try:
        is_program = os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.X_OK)
        return is_program and digest_of(path).hex() == sha256
    except OSError:
        return False
