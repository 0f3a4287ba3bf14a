from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.environment.installing import BuildLog, Installer, install, pip_index
from ansible.module_utils.tensorflow_stack.records.environment import EnvironmentSpec
from ansible.module_utils.tensorflow_stack.records.lockfile import read_lock

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("https://pypi.example/simple", []),
        ("http://10.0.0.1:8790/simple", ["--trusted-host", "10.0.0.1:8790"]),
        ("http://[fd00::1]:8790/simple", ["--trusted-host", "[fd00::1]:8790"]),
        ("file:///srv/bundle/simple", []),
    ],
)
def test_pip_takes_files_from_an_index_by_http(url: str, more: list[str]) -> None:
    assert pip_index(url) == ["--index-url", url, *more]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("is_directory", [False, True])
def test_what_cannot_be_cached_is_not_looked_for_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cached: bool, offline: bool, is_directory: bool
) -> None:
    lock = read_lock(str(next(REPOSITORY.glob("roles/tensorflow_release/files/locks/tensorflow-2.8.0/cp310-*"))))
    cache, build = tmp_path / "cache", tmp_path / "build"
    (cache if cached else build).mkdir()
    build.mkdir(exist_ok=True)
    ran: list[list[str]] = []

    def run(log: BuildLog, command: list[str], environment: dict[str, str], *, timeout: float | None = None) -> None:
        ran.append(command[1:])
        cache.mkdir(exist_ok=True)  # as uv does for a venv

    monkeypatch.setattr(BuildLog, "run", run)
    (tmp_path / "six-1.16.0-py2.py3-none-any.whl").touch()
    index = tmp_path.as_uri() if is_directory else "https://pypi.example/simple"
    installer = Installer(uv="uv", cache=str(cache), offline=offline, index_url=index)
    spec = EnvironmentSpec("first", str(tmp_path), "2.8.0", "cpu", "python3.10", lock)
    with BuildLog(str(tmp_path / "log")) as log:
        install(spec, installer, str(build), log)
    first = next(command for command in ran if command[:2] == ["pip", "sync"])
    assert ("--offline" in first) == (cached or offline or is_directory)
