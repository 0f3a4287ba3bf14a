"""What tests need of the machine that they run on (needs.yml): installed, or why a test skips.

`python -m tests.needs` installs the packages that are missing, as root on a machine with apt, and with `--slow` also
those that only slow tests use. Elsewhere it names them, and the tests that use them skip. In CI nothing may be missing:
there they fail instead.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHONS = REPOSITORY / ".cache" / "pythons"
# Older lists may name files that a mirror no longer has, and some of Debian's servers are slow to answer.
APT = ("apt-get", "-qq", "-o", "Acquire::Retries=5", "-o", "Acquire::Languages=none")
INSTALL = (*APT, "install", "--yes", "--no-install-recommends")


@cache
def table() -> Any:
    return yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))


def is_there(row: dict[str, Any]) -> bool:
    if "module" in row:
        return importlib.util.find_spec(row["module"]) is not None
    return os.path.exists(row["file"]) if "file" in row else shutil.which(row["command"]) is not None


def missing(names: Iterable[str] | None = None) -> list[str]:
    """Of these packages, or of all but those of slow tests, what is not there."""
    rows = {row["package"]: row for row in table()["packages"]}
    usual = (name for name, row in rows.items() if not row.get("slow"))
    return sorted(name for name in (usual if names is None else names) if not is_there(rows[name]))


def reason(*packages: str, root: bool = False) -> str | None:
    """Why a test that needs these packages, and root if so said, cannot run; None if it can."""
    lacking = missing(packages)
    if lacking:
        return f"missing: {' '.join(lacking)}; as root: apt-get install {' '.join(lacking)}"
    return "needs root" if root and os.geteuid() else None


def require(*packages: str, root: bool = False) -> None:
    """Skips the test, or fails it in CI, unless this machine has the packages; and root, if it is asked for."""
    if why := reason(*packages, root=root):
        unavailable(why)


def unavailable(why: str) -> NoReturn:
    """Skips, but in CI, where everything that the tests need is to be there and a skip would pass for a success."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{why}. With CI=true nothing may be skipped.")
    pytest.skip(why)


# ------------------------------------------------------------------------------------------------- Pythons


class Python(NamedTuple):
    path: str
    minor: str


def python_of(*minors: str) -> Python:
    """An interpreter of one of these minors, the newest of this machine's; else Debian's, if it is of one of them."""
    found = _pythons(minors)
    if not found and table()["python"]["minor"] in minors:
        _unpack_python()
        found = _pythons(minors)
    if not found:  # CI or not: a fresh machine has no other way to one
        pytest.skip(f"needs a Python {' or '.join(minors)}, and this machine has none")
    return found[-1]


def _pythons(minors: Iterable[str]) -> list[Python]:
    from ansible.module_utils.tensorflow_stack.node.pythons import find_pythons  # conftest.py makes it importable

    return [Python(row["path"], row["minor"]) for row in find_pythons()[0] if row["minor"] in minors]


def _unpack_python() -> None:
    """Lays Debian's Python out in the cache, and puts it on PATH, where playbooks and modules find it."""
    wish = table()["python"]
    place = PYTHONS / wish["suite"]
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            unavailable(f"Python {wish['minor']} is unpacked from packages of Debian {wish['suite']}: needs {command}")
    PYTHONS.mkdir(parents=True, exist_ok=True)
    with open(PYTHONS / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            fresh = PYTHONS / f"{wish['suite']}.new"
            shutil.rmtree(fresh, ignore_errors=True)
            try:
                _download(wish, fresh)
                _unpack(fresh, wish["minor"])
            except (OSError, subprocess.CalledProcessError) as error:
                unavailable(f"Python {wish['minor']} of Debian {wish['suite']} cannot be had here: {error}")
            (fresh / "root").rename(place)
            shutil.rmtree(fresh)
    os.environ["PATH"] += f":{place / 'usr' / 'bin'}"


def _download(wish: dict[str, Any], directory: Path) -> None:
    """By an apt of its own: signed by Debian's key, without a change of this machine's apt, as any user."""
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        (directory / name).mkdir(parents=True)
    keyring = next(row["file"] for row in table()["packages"] if row["package"] == "debian-archive-keyring")
    source = f"deb [signed-by={keyring}] http://deb.debian.org/debian {wish['suite']} main\n"
    (directory / "sources.list").write_text(source)
    (directory / "status").touch()
    options = {
        "Dir::Etc::SourceList": directory / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": directory / "state",
        "Dir::State::Status": directory / "status",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",  # _apt may not enter every checkout
    }
    apt = [*APT, *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update", "--error-on=any"], check=True)
    subprocess.run([*apt, "download", *wish["packages"]], cwd=directory / "packages", check=True)


def _unpack(directory: Path, minor: str) -> None:
    root = directory / "root"
    root.mkdir()
    for package in sorted((directory / "packages").iterdir()):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    (root / "usr" / "lib" / f"python{minor}" / "sitecustomize.py").unlink()  # leads to this machine's /etc
    crypto = next((root / "usr" / "lib").glob("*/libcrypto.so.*"))
    for module in (root / "usr" / "lib" / f"python{minor}" / "lib-dynload").glob("*.so"):
        _find_libraries(root, module, f"$ORIGIN/../../{crypto.parent.name}")
    for library in crypto.parent.glob("*.so.*"):
        if not library.is_symlink():
            _find_libraries(root, library, "$ORIGIN")
    program = "import bz2, ctypes, decimal, distutils.version, lzma, sqlite3, ssl, zlib"
    subprocess.run([root / "usr" / "bin" / f"python{minor}", "-c", program], check=True)


def _find_libraries(root: Path, path: Path, directory: str) -> None:
    subprocess.run([root / "usr" / "bin" / "patchelf", "--set-rpath", directory, path], check=True)


# ------------------------------------------------------------------------------------------------- packages


def main(arguments: Sequence[str] = ()) -> int:
    lacking = missing([row["package"] for row in table()["packages"]] if "--slow" in arguments else None)
    if not lacking:
        return 0
    if os.geteuid() or shutil.which("apt-get") is None:
        print(
            f"Tests that need these packages of Debian will be skipped: {' '.join(lacking)}. "
            "Root on a machine with apt gets them by `make test-packages`.",
            file=sys.stderr,
        )
        return 0
    print(f"Installing what the tests need of this machine: {' '.join(lacking)}", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ([*APT, "update"], [*INSTALL, *lacking]):
        ended = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if ended.returncode:
            print(f"{' '.join(command)} ended with {ended.returncode}: its words stand above.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
