"""A bundle behind nginx, as docs/bundle.md configures it: its pages, 20 clients at once, an installation."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.io.downloads import Source
from ansible.module_utils.tensorflow_stack.io.index import read_page
from ansible.module_utils.tensorflow_stack.io.uv import uv_environment

from tests.integration.test_additions import NAME
from tests.integration.test_bundle import Bundler, bundler, said  # noqa: F401  # a fixture
from tests.needs import require
from tests.playbooks import REPOSITORY

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CLIENTS = 20
PAGE = (REPOSITORY / "docs" / "bundle.md").read_text(encoding="utf-8")


def configurations() -> list[str]:
    """Those of the page, in its order: plain, and with the pages in JSON."""
    blocks = re.findall(r"^(?:    .*\n|\n(?=    ))+", PAGE, re.MULTILINE)
    return [block for block in blocks if "listen 80" in block]


@contextmanager
def nginx(configuration: str, root: Path, place: Path) -> Iterator[str]:
    require("nginx-light", root=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = configuration.replace("listen 80", f"listen 127.0.0.1:{port}").replace("/srv/bundle", str(root))
    place.mkdir()
    (place / "nginx.conf").write_text(
        f"user root; pid {place}/pid; error_log {place}/error.log; worker_processes 2; events {{}}\n"
        f"http {{ access_log {place}/access.log; sendfile on;\n{text}\n}}\n"
    )
    process = subprocess.Popen(["nginx", "-p", place, "-c", place / "nginx.conf", "-g", "daemon off;"])
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def made(bundler: Bundler) -> Bundler:  # noqa: F811
    run = bundler.make(bundle_signing_key=str(bundler.key))
    assert run.code == 0, run.output
    return bundler


def test_the_page_has_two_configurations() -> None:
    assert len(configurations()) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_the_pages_are_an_index(made: Bundler, tmp_path: Path, number: int) -> None:
    with nginx(configurations()[number], made.path, tmp_path / "nginx") as url:
        rows = read_page(Source(f"{url}/simple", name="package index", settings=""), "numpy")
        assert rows is not None
        assert [row["filename"] for row in rows] == ["numpy-1.26.4-py3-none-any.whl"]
        assert ("upload-time" in rows[0]) == bool(number)


def test_twenty_clients_at_once(made: Bundler, tmp_path: Path) -> None:
    lock = next(made.machine.site.locks.rglob("*.txt"))

    def install(number: int) -> float:
        started = time.monotonic()
        target = tmp_path / f"client-{number}"
        command = [made.machine.uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--target", target]
        environment = uv_environment(cache=str(tmp_path / f"cache-{number}"), index_url=f"{url}/simple")
        subprocess.run([*command, "--requirement", lock], env=environment, check=True)
        source = Source(url, name="bundle", settings="")
        uv = next(row for row in made.manifest["files"] if row["name"] == "uv")
        source.save(f"{url}/{uv['path']}", str(target / "uv"), what="uv", sha256=uv["sha256"], size=uv["bytes"])
        return time.monotonic() - started

    with nginx(configurations()[0], made.path, tmp_path / "nginx") as url:
        with ThreadPoolExecutor(CLIENTS) as pool:
            seconds = list(pool.map(install, range(CLIENTS)))
    answers = re.findall(r'HTTP/1.1" (\d+) (\d+)', (tmp_path / "nginx/access.log").read_text())
    print(f"{CLIENTS} clients: {max(seconds):.1f} s, {sum(int(size) for _, size in answers) / 1e6:.0f} MB")
    assert {code for code, _ in answers} <= {"200", "206", "304"}
    assert all((tmp_path / f"client-{number}/numpy/__init__.py").exists() for number in range(CLIENTS))


def test_an_environment_is_installed_from_it(made: Bundler, tmp_path: Path) -> None:
    with nginx(configurations()[0], made.path, tmp_path / "nginx") as url:
        run = made._play("workstation", stack_bundle_url=url)
        assert run.code == 0, run.output
        wheel = made.path / "wheels" / "numpy-1.26.4-py3-none-any.whl"
        kept = shutil.copy2(wheel, tmp_path / "kept")
        wheel.unlink()
        try:
            refused = made._play("workstation", stack_bundle_url=url, tensorflow_root=str(tmp_path / "root"))
        finally:
            shutil.copy2(kept, wheel)
        assert refused.code != 0
        assert "wheels/numpy-1.26.4-py3-none-any.whl cannot be fetched" in said(refused)
        assert not (tmp_path / "root").exists()
    assert (made.machine.site.root / NAME / "bin/python").exists()
