"""Bring the pinned uv from a package index, and run it untouched by the user's configuration."""

from __future__ import annotations

import base64
import email.message
import hashlib
import html.parser
import http.client
import io
import json
import netrc
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from .errors import StackError

DEFAULT_INDEX = "https://pypi.org/simple"
# uv's own variable: the index where the caller names none.
INDEX_VARIABLE = "UV_DEFAULT_INDEX"
_INDEX_SETTINGS = f"tensorflow_index_url (or {INDEX_VARIABLE} in the environment)"

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_ATTEMPTS = 3
_TIMEOUT = 30.0
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
_DROPPED_VARIABLES = ("VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def ensure_uv(
    *,
    directory: str,
    record: Mapping[str, Any],
    index_url: str | None,
    opener: urllib.request.OpenerDirector | None = None,
    report: Callable[[str], None] | None = None,
) -> str:
    """Path of the pinned uv, `<directory>/uv-<version>/uv`; fetched when it is not there as it was unpacked.

    `record` is a row of the table `uv`. `index_url` names a simple index or, as file://, a directory of
    wheels. `report` is told what is fetched.
    """
    _refuse_credentials(index_url)
    home = os.path.join(directory, "uv-" + record["version"])
    path = os.path.join(home, "uv")
    receipt_path = os.path.join(home, "uv.json")
    if _is_as_unpacked(path, receipt_path, wheel_sha256=record["sha256"]):
        return path
    index = _Index(index_url or os.environ.get(INDEX_VARIABLE) or DEFAULT_INDEX, opener)
    if report:
        report(f"Fetching uv {record['version']} ({record['bytes'] / 2**20:.1f} MiB) from {index.shown}")
    try:
        os.makedirs(home, mode=0o755, exist_ok=True)
        # Beside its target, so that the renames below stay on one file system.
        work = tempfile.mkdtemp(prefix=".new-", dir=home)
    except OSError as error:
        raise StackError(f"uv cannot be put into {home}: {error.strerror}. Make that directory writable.") from error
    try:
        unpacked = os.path.join(work, "uv")
        _extract(index.download("uv", record), unpacked, wheel=record["filename"])
        receipt = {
            "wheel_sha256": record["sha256"],
            "bytes": os.path.getsize(unpacked),
            "sha256": _sha256_of(unpacked),
        }
        unpacked_receipt = os.path.join(work, "uv.json")
        with open(unpacked_receipt, "w", encoding="utf-8") as stream:
            json.dump(receipt, stream)
        # Killed between the two, the pair does not fit and is fetched again.
        os.replace(unpacked, path)
        os.replace(unpacked_receipt, receipt_path)
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
        environment[INDEX_VARIABLE] = index_url
    if _is_wheel_directory(environment.get(INDEX_VARIABLE, "")):
        # uv takes wheels in a directory as links beside an index, and offline alone keeps it from the index.
        environment.update(UV_OFFLINE="1", UV_FIND_LINKS=environment.pop(INDEX_VARIABLE))
    return environment


def _refuse_credentials(index_url: str | None) -> None:
    """What a task is given shows in its output; an environment variable of the run does not."""
    if index_url and "@" in urllib.parse.urlsplit(index_url).netloc:
        raise StackError(
            "tensorflow_index_url holds credentials, which would show in the output of every task. Put them into "
            f"~/.netrc (mode 0600) of the user that runs the tasks, or the whole URL into {INDEX_VARIABLE}."
        )


def _is_wheel_directory(index_url: str) -> bool:
    parts = urllib.parse.urlsplit(index_url)
    directory = urllib.request.url2pathname(parts.path)
    return (
        parts.scheme == "file"
        and os.path.isdir(directory)
        and any(name.endswith(".whl") for name in os.listdir(directory))
    )


@dataclass(frozen=True)
class _Answer:
    body: bytes
    headers: email.message.Message
    url: str


class _Index:
    """A simple index (PEP 503 pages or PEP 691 JSON), or a directory of wheels given as file:// URL."""

    def __init__(self, url: str, opener: urllib.request.OpenerDirector | None) -> None:
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https", "file"):
            raise StackError(f"The package index {url!r} is no http, https or file URL. Set {_INDEX_SETTINGS}.")
        # Credentials are not for messages, and urllib takes none from a URL.
        self.shown = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._parts = parts
        self._opener = opener or urllib.request.build_opener()

    def download(self, project: str, record: Mapping[str, Any]) -> bytes:
        """The record's file; raises StackError unless size and sha256 are the record's."""
        body = self._get(self._url_of(project, record["filename"]), limit=record["bytes"] + 1).body
        digest = hashlib.sha256(body).hexdigest()
        if len(body) != record["bytes"] or digest != record["sha256"]:
            found = "more" if len(body) > record["bytes"] else f"{len(body)} bytes with sha256 {digest}"
            raise StackError(
                f"{record['filename']} from {self.shown} is not the pinned file: expected {record['bytes']} "
                f"bytes with sha256 {record['sha256']}, found {found}. Nothing of it was used.",
                expected=record["sha256"],
                found=digest,
            )
        return body

    def _url_of(self, project: str, filename: str) -> str:
        page = f"{self.shown}/{project}/"
        if self._parts.scheme == "file":
            directory = urllib.request.url2pathname(self._parts.path)
            for path in (os.path.join(directory, filename), os.path.join(directory, project, filename)):
                if os.path.isfile(path):
                    return "file://" + urllib.request.pathname2url(path)
            page += "index.html"
        links = _read_links(self._get(page, accept=_ACCEPT))
        if filename not in links:
            raise StackError(
                f"The package index {self.shown} has no {filename} ({len(links)} files of {project} seen). "
                f"Set {_INDEX_SETTINGS} to one that mirrors {project}."
            )
        return links[filename]

    def _get(self, url: str, *, accept: str = "*/*", limit: int | None = None) -> _Answer:
        request = urllib.request.Request(url, headers={"Accept": accept})
        credentials = self._credentials(urllib.parse.urlsplit(url).hostname)
        if credentials:
            # Unredirected: not to be sent to another host.
            encoded = base64.b64encode(":".join(credentials).encode("utf-8")).decode("ascii")
            request.add_unredirected_header("Authorization", "Basic " + encoded)
        attempt = 1
        while True:
            try:
                with self._opener.open(request, timeout=_TIMEOUT) as response:
                    body = response.read(limit)
                    length = int(response.headers.get("Content-Length") or len(body))
                    if len(body) < min(length, limit or length):
                        raise ConnectionError(f"connection closed after {len(body)} of {length} bytes")
                    return _Answer(body, response.headers, response.geturl())
            except (OSError, http.client.HTTPException) as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if final or attempt == _ATTEMPTS or self._parts.scheme == "file":
                    raise StackError(
                        f"uv cannot be fetched: the package index {self.shown} answers '{error}'. "
                        f"Set {_INDEX_SETTINGS} to an index that this machine reaches, or HTTPS_PROXY to the "
                        "proxy to use.",
                        index_url=self.shown,
                    ) from error
            time.sleep(attempt)
            attempt += 1

    def _credentials(self, host: str | None) -> tuple[str, str] | None:
        """For the index's own host, from its URL or ~/.netrc: urllib reads neither, uv reads both."""
        if host is None or host != self._parts.hostname:
            return None
        if self._parts.username:
            return urllib.parse.unquote(self._parts.username), urllib.parse.unquote(self._parts.password or "")
        try:
            entry = netrc.netrc().authenticators(host)
        except (OSError, netrc.NetrcParseError):
            return None
        return (entry[0], entry[2] or "") if entry else None


class _AnchorParser(html.parser.HTMLParser):
    """Collects the `href` of every link of a PEP 503 page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _read_links(page: _Answer) -> dict[str, str]:
    """File name to absolute URL, from either form of a project's page."""
    text = page.body.decode("utf-8")
    if page.headers.get_content_type() == "application/vnd.pypi.simple.v1+json":
        targets = [row["url"] for row in json.loads(text)["files"]]
    else:
        parser = _AnchorParser()
        parser.feed(text)
        targets = parser.targets
    links = {}
    for target in targets:
        url = urllib.parse.urldefrag(urllib.parse.urljoin(page.url, target)).url
        links[urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])] = url
    return links


def _extract(body: bytes, target: str, *, wheel: str) -> None:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        members = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
        if len(members) != 1:
            raise StackError(f"{wheel} holds {len(members)} files scripts/uv, not one.")
        with archive.open(members[0]) as source, open(target, "wb") as stream:
            shutil.copyfileobj(source, stream)
    os.chmod(target, 0o755)


def _is_as_unpacked(path: str, receipt_path: str, *, wheel_sha256: str) -> bool:
    try:
        with open(receipt_path, encoding="utf-8") as stream:
            receipt = json.load(stream)
        return bool(
            receipt["wheel_sha256"] == wheel_sha256
            and os.access(path, os.X_OK)
            and os.path.getsize(path) == receipt["bytes"]
            and _sha256_of(path) == receipt["sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
