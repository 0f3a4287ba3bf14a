"""The page of one project on a package index: JSON (PEP 691), HTML (PEP 503), or a directory of files."""

from __future__ import annotations

import html.parser
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Mapping

from ..errors import StackError
from .downloads import Answer, Source
from .reading import digest_of, parse_object

_JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
MOST_BYTES = 64 << 20


def read_page(source: Source, project: str) -> list[Mapping[str, Any]] | None:
    """A row for each file, with `filename`, `url` and, as far as the index says them, the keys of PEP 691.

    None if the index does not know the project.
    """
    if source.parts.scheme == "file":
        return _listed(urllib.request.url2pathname(source.parts.path), project)
    try:
        answer = source.get(f"{source.shown}/{project}/", what=project, accept=ACCEPT, limit=MOST_BYTES)
    except StackError as error:
        if isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code in (403, 404):
            return None
        raise
    return rows_of(source, answer, f"The page of {project}")


def sha256_of(row: Mapping[str, Any]) -> str | None:
    """What the index says, or for a file on this machine what it is."""
    said = row.get("hashes", {}).get("sha256")
    parts = urllib.parse.urlsplit(row["url"])
    if said is None and parts.scheme == "file":
        return digest_of(urllib.request.url2pathname(parts.path)).hex()
    return str(said) if said else None


def rows_of(source: Source, answer: Answer, what: str) -> list[Mapping[str, Any]]:
    """The rows of a page, with whole addresses; a row that names no file is left out. Raises StackError for no page."""
    if answer.headers.get_content_type() == _JSON:
        rows = _listed_rows(source, answer.body, what)
    else:
        parser = _Anchors()
        try:
            parser.feed(answer.body.decode("utf-8", "replace"))
        except AssertionError as error:  # so Python's parser says that "<![" begins nothing
            raise source.unusable(what, f"sent a page that is no HTML: {str(error)[:120]}") from error
        rows = parser.rows
    return [row for row in (_row(row, answer.url) for row in rows) if row is not None]


def _listed_rows(source: Source, body: bytes, what: str) -> list[Any]:
    try:
        rows = parse_object(body).get("files")
    except ValueError as error:
        raise source.unusable(what, f"sent a page that is {error}") from error
    if not isinstance(rows, list):
        raise source.unusable(what, "sent a page that lists no files")
    return rows


def _row(row: Any, base: str) -> Mapping[str, Any] | None:
    """A row with the types of PEP 691; what is of another type is left out of it."""
    if not isinstance(row, dict) or not isinstance(row.get("filename"), str) or not isinstance(row.get("url"), str):
        return None
    try:
        url = urllib.parse.urljoin(base, row["url"])
    except ValueError:  # such as http://[
        return None
    found = {key: row.get(key) for key in ("requires-python", "upload-time") if isinstance(row.get(key), str)}
    hashes = row.get("hashes")
    texts = hashes.items() if isinstance(hashes, dict) else ()
    return {
        **row,
        "requires-python": None,
        "upload-time": None,
        **found,
        "size": row["size"] if isinstance(row.get("size"), int) else None,
        "url": url,
        "hashes": {kind: digest for kind, digest in texts if isinstance(digest, str)},
    }


class _Anchors(html.parser.HTMLParser):
    """The links of a page, with what it says of each."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        href = found.get("href")
        if tag != "a" or not href:
            return
        url, _, fragment = href.partition("#")
        kind, _, digest = fragment.partition("=")
        self.rows.append(
            {
                "filename": urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]),
                "url": url,
                "hashes": {kind: digest} if digest else {},
                "requires-python": found.get("data-requires-python"),
                "yanked": "data-yanked" in found,
            }
        )


def _listed(directory: str, project: str) -> list[Mapping[str, Any]] | None:
    """The files of a project in a directory of files."""
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    rows: list[Mapping[str, Any]] = [
        {"filename": name, "url": "file://" + urllib.request.pathname2url(os.path.join(directory, name))}
        for name in names
        if re.sub(r"[-_.]+", "-", re.split(r"-(?=\d)", name)[0]).lower() == project
    ]
    return rows or None
