"""What the public index has today, for scripts that ask it for locks that are not shipped."""

from __future__ import annotations

import datetime
import platform
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "module_utils"))

from tensorflow_stack.io.uv import ensure_uv  # noqa: E402  # found by the line above
from tensorflow_stack.locking.inputs import LockInputs, LockRequest, lock_inputs  # noqa: E402
from tensorflow_stack.locking.wheel_files import WheelFiles  # noqa: E402
from tensorflow_stack.requirements.parse import read_requirements  # noqa: E402
from tensorflow_stack.tables.load import Tables  # noqa: E402

TODAY = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}"


class IndexToday:
    """`uv` and `options` are what the functions of locking/resolver.py take; `directory` is for scratch."""

    def __init__(self, tables: Tables, directory: str) -> None:
        self._tables = tables
        self._directory = directory
        record = tables.uv(platform.machine())
        assert record is not None
        self.uv = ensure_uv(directory=str(REPOSITORY / ".tools"), record=record._asdict(), index_url=None)
        files = WheelFiles(str(REPOSITORY / ".tools/wheel-files"))
        self.options: dict[str, Any] = {"cutoff": f"{TODAY}T00:00:00Z", "list_files": files, "reader": files}

    def inputs(
        self, release: str, python: str, flavour: str, lines: str, *, source_builds: tuple[str, ...] = ()
    ) -> LockInputs:
        """Those of a requirements file with these lines."""
        path = Path(self._directory, "requirements.txt")
        path.write_text(lines, encoding="utf-8")
        users = read_requirements(str(path))
        request = LockRequest(release, python, "linux_x86_64", flavour, users, source_builds=source_builds)
        return lock_inputs(request, self._tables)
