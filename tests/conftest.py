"""Makes the checkout's modules importable as ansible-core would load them, and runs them in this process."""

from __future__ import annotations

import contextlib
import importlib
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible.module_utils
import ansible.module_utils.basic
import ansible.modules
import bootstrap
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

ansible.module_utils.__path__.append(str(REPOSITORY / "module_utils"))
ansible.modules.__path__.append(str(REPOSITORY / "library"))

from ansible.module_utils.tensorflow_stack.io.uv import ensure_uv  # noqa: E402
from ansible.module_utils.tensorflow_stack.tables.load import load_tables  # noqa: E402  # found by the lines above

pytest_plugins = ["tests.cpu_seconds"]
RunModule = Callable[..., dict[str, Any]]


def pytest_configure() -> None:
    """Refuses tools that are out of date: the first test that runs `make` would replace them under all others."""
    for wish in (bootstrap.TEST, bootstrap.OLDEST):
        directory = REPOSITORY / wish.directory
        if directory.exists() and directory.samefile(sys.prefix) and not bootstrap.is_built(wish):
            raise pytest.UsageError(f"{wish.directory} is not what requirements/{wish.lock} says. Run make test-tools.")


@pytest.fixture(scope="session")
def uv() -> str:
    """Path of the pinned uv, the one that the bootstrap brought where it did."""
    tables = load_tables(str(REPOSITORY / "roles" / "tensorflow_release" / "files" / "tables"))
    row = tables.uv(platform.machine())
    assert row is not None, f"no pinned uv for {platform.machine()}"
    return ensure_uv(directory=str(REPOSITORY / ".tools"), record=row._asdict(), index_url=None)


@contextlib.contextmanager
def _module_arguments(arguments: Mapping[str, Any]) -> Iterator[None]:
    try:
        from ansible.module_utils.testing import patch_module_args  # since ansible-core 2.19
    except ImportError:
        encoded = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ansible.module_utils.basic._ANSIBLE_ARGS", encoded)
            yield
    else:
        with patch_module_args(dict(arguments)):
            yield


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Calls `main()` of a module of library/ and gives back its result; `failed` is set when it failed."""

    def run(module: str | ModuleType, *, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        loaded = importlib.import_module(f"ansible.modules.{module}") if isinstance(module, str) else module
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff}
        capsys.readouterr()
        with _module_arguments({**arguments, **internal}), pytest.raises(SystemExit):
            loaded.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run
