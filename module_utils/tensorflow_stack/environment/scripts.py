"""The scripts of a build name the environment's path, which stays, and not that of the numbered build.

What an activate script or a console script says is kept by others: in VIRTUAL_ENV and PATH of an open shell, and as
`sys.executable` in kernels and units. The numbered build is pruned one day.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import re
import stat
from typing import Mapping

from ..errors import BuildError
from ..io.reading import read_whole
from ..io.writing import write_new
from ..records.distributions import RECORD_BYTES, record_fields

_SCRIPT_BYTES = 1 << 20


def name_environment(path: str, site_packages: str, name: str) -> None:
    """Replace the path of the build at `path` by that of its environment, in what an installer wrote into `bin`.

    RECORDs say what is then in the files. Both paths are of safe characters below the root, so that no shell's quoting
    changes them.
    """
    numbered = re.compile(rf"/\.builds/{re.escape(os.path.basename(path))}(?![A-Za-z0-9._+-])".encode())
    changed = {}
    for script in sorted(os.listdir(os.path.join(path, "bin"))):
        file = os.path.join(path, "bin", script)
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SCRIPT_BYTES:
            continue
        content = read_whole(file, _SCRIPT_BYTES, follow=False)
        named = numbered.sub(f"/{name}".encode(), content)
        if named != content and b"\0" not in content:
            _write(file, named, stat.S_IMODE(status.st_mode))
            if not script.lower().startswith(("activate", "deactivate")):  # which are of no package
                changed[file] = record_fields(named)
    if changed:
        for record in glob.glob(os.path.join(glob.escape(os.path.join(path, site_packages)), "*.dist-info", "RECORD")):
            update_record(record, os.path.join(path, site_packages), changed)


def update_record(record: str, site_packages: str, changed: Mapping[str, tuple[str, str]]) -> None:
    """Let a RECORD say of these files, by their paths, hash and size."""
    try:
        text = read_whole(record, RECORD_BYTES, follow=False).decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except (ValueError, csv.Error) as error:
        raise BuildError(f"{record} is not the list of files of a wheel: {error}. Take that package out.") from error
    found = [(row, os.path.normpath(os.path.join(site_packages, row[0]))) for row in rows if len(row) == 3]
    mended = [(row, changed[file]) for row, file in found if file in changed and row[2]]
    if not mended:
        return
    for row, fields in mended:
        row[1:] = fields
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    _write(record, written.getvalue().encode("utf-8"), 0o644)


def _write(path: str, content: bytes, mode: int) -> None:
    """A new file, because the old one may be that of an installer's cache, too."""
    os.unlink(path)
    write_new(path, content, mode=mode)
