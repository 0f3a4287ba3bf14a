#!/usr/bin/env python3
"""Makes doubles of NVIDIA's package repositories and archive server, which are not reachable from everywhere.

    make_repositories.py DIRECTORY [--with-newer] [--without NAME=VERSION]... [--delete NAME=VERSION]... [--key second]

    DIRECTORY/<distribution>/x86_64/    apt repositories, flat as NVIDIA's; dnf repositories
    DIRECTORY/redist/{cuda,cudnn}/      archives with NVIDIA's manifests; hostile ones under redist/hostile/
    DIRECTORY/compute/...               all of it again under the paths of NVIDIA's server (links)
    DIRECTORY/fingerprints.json         {"first": ..., "second": ...}
    DIRECTORY/contents.json             {distribution: [{name, version, file}]}, as indexed

What is built is kept in the cache, by the digest of what it is made from; indexes and their signatures are made each
time. Packages are hard links into the cache where they can be: replace such a file, never write into it.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    # As a script, Python sees this folder only; imports are those that pytest sees, from the checkout's root.
    sys.path[0] = str(HERE.parents[1])

from tests import needs  # noqa: E402
from tests.repositories.contents import Contents, Package, Repository  # noqa: E402
from tests.repositories.packages import (  # noqa: E402
    EPOCH,
    Libraries,
    build_debs,
    build_rpms,
    deb_name,
    rpm_name,
    rpm_version,
    run,
)
from tests.repositories.redist import make_redist  # noqa: E402
from tests.repositories.signing import Key, open_key  # noqa: E402

CACHE = HERE.parents[1] / ".cache" / "repositories"
SOURCES = ("contents.yml", "contents.py", "packages.py", "redist.py", "signing.py")
# What makes them; tests/needs.yml has the commands that each is seen by.
PACKAGES = ("apt-utils", "createrepo-c", "gcc", "gpg", "gpg-agent", "gpgconf", "rpm")
FILE_NAMES = {"deb": deb_name, "rpm": rpm_name}
# Paths of NVIDIA's server: what they are here.
SERVER_PATHS = {
    "compute/cuda/repos": ".",
    "compute/cuda/redist": "redist/cuda",
    "compute/cudnn/redist": "redist/cudnn",
    "compute/redist/cudnn": "redist/cudnn",
}


@dataclass(frozen=True)
class Options:
    key: str = "first"  # which signs: first, second
    newer: bool = False
    without: tuple[str, ...] = ()  # name=version that the index does not have
    delete: tuple[str, ...] = ()  # name=version that the index has and the server has not
    distributions: tuple[str, ...] = ()  # all, when empty


DEFAULT_OPTIONS = Options()


def make_repositories(directory: Path, options: Options = DEFAULT_OPTIONS, *, cache: Path = CACHE) -> dict[str, str]:
    """Make them in the directory, in place of what a call before made there; gives back the keys' fingerprints."""
    if why := needs.reason(*PACKAGES):
        raise RuntimeError(f"repositories cannot be made here: {why}")
    contents = Contents.load()
    _refuse_unknown(contents, options)
    _empty(directory)
    with _open_pool(contents, cache) as pool:
        for name, key in pool.keys.items():
            (directory / f"{name}.pub").write_text(key.public())
        maker = Maker(directory, pool, options)
        wanted = [row for row in contents.repositories if row.distribution in options.distributions]
        indexed = {row.distribution: maker.make(row) for row in wanted or contents.repositories}
        shutil.copytree(pool.redist(), directory / "redist", copy_function=_link)
        fingerprints = {name: key.fingerprint for name, key in pool.keys.items()}
    for path, target in SERVER_PATHS.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).symlink_to(os.path.relpath(directory / target, (directory / path).parent))
    (directory / "contents.json").write_text(json.dumps(indexed, indent=1) + "\n")
    (directory / "fingerprints.json").write_text(json.dumps(fingerprints, indent=1) + "\n")
    return fingerprints


def _empty(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()) and not (directory / "fingerprints.json").exists():
        raise RuntimeError(f"{directory} holds something else than repositories; name a new or empty folder")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)


def _refuse_unknown(contents: Contents, options: Options) -> None:
    distributions = {row.distribution for row in contents.repositories}
    if unknown := sorted(set(options.distributions) - distributions):
        raise RuntimeError(f"no repository for {', '.join(unknown)}; there are {', '.join(sorted(distributions))}")
    known = {
        package.reference
        for row in contents.repositories
        for name in row.sets
        for package in contents.packages(name, row.format)
    }
    if unknown := sorted({*options.without, *options.delete} - known):
        raise RuntimeError(f"no repository has {', '.join(unknown)}; contents.yml says what there is, as name=version")


@dataclass(frozen=True)
class Pool:
    """What is built once: packages of each set, archives; and the keys, open."""

    contents: Contents
    directory: Path
    keys: Mapping[str, Key]

    @property
    def libraries(self) -> Libraries:
        return Libraries(self.directory / "libraries")

    def packages(self, package_format: str, name: str, key: Key) -> Path:
        """Where the packages of a set are. RPMs are signed themselves, Debian packages vouched for by their index."""
        rows = self.contents.packages(name, package_format)
        built = self._once(
            f"{package_format}/{name}",
            lambda folder: (build_debs if package_format == "deb" else build_rpms)(rows, self.libraries, folder),
        )
        if package_format == "deb":
            return built

        def sign(folder: Path) -> None:
            shutil.copytree(built, folder)
            key.sign_rpms(sorted(folder.glob("*.rpm")))

        return self._once(f"{package_format}-{key.name}/{name}", sign)

    def redist(self) -> Path:
        return self._once("redist", lambda folder: make_redist(self.contents, self.libraries, folder))

    def _once(self, name: str, build: Callable[[Path], None]) -> Path:
        folder = self.directory / name
        if not folder.exists():
            unfinished = folder.with_name(folder.name + ".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            build(unfinished)
            unfinished.rename(folder)
        return folder


@contextmanager
def _open_pool(contents: Contents, cache: Path) -> Iterator[Pool]:
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:16]
    directory = cache / digest
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open_key(directory / "keys", "first") as first, open_key(directory / "keys", "second") as second:
            yield Pool(contents, directory, {"first": first, "second": second})


@dataclass(frozen=True)
class Maker:
    """Lays out and indexes repositories below a directory."""

    base: Path
    pool: Pool
    options: Options

    def make(self, repository: Repository) -> list[dict[str, str]]:
        directory = self.base / repository.path
        directory.mkdir(parents=True)
        key = self.pool.keys[self.options.key]
        sets = {name: self._packages(name, repository.format) for name in repository.sets}
        file_name = FILE_NAMES[repository.format]
        for name, packages in sets.items():
            built = self.pool.packages(repository.format, name, key)
            for package in packages:
                _link(built / file_name(package), directory / file_name(package))
        if repository.format == "deb":
            _index_debs(directory, key)
        else:
            _index_rpms(directory, key, _modules(self.pool.contents, sets))
        # NVIDIA's name for the key that signed until now; after a rotation the new one lies beside it.
        (directory / f"{repository.key}.pub").write_text(self.pool.keys["first"].public())
        if self.options.key == "second":
            (directory / "second.pub").write_text(key.public())
        indexed = [package for packages in sets.values() for package in packages]
        for package in indexed:
            if package.deleted or package.reference in self.options.delete:
                (directory / file_name(package)).unlink()
        return [{"name": row.name, "version": row.version, "file": file_name(row)} for row in indexed]

    def _packages(self, name: str, package_format: str) -> list[Package]:
        return [
            package
            for package in self.pool.contents.packages(name, package_format)
            if package.reference not in self.options.without and (self.options.newer or not package.newer)
        ]


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _index_debs(directory: Path, key: Key) -> None:
    index = run("apt-ftparchive", "packages", ".", cwd=directory)
    fields = {"Origin": "NVIDIA", "Label": "NVIDIA CUDA", "Architectures": "amd64 all"}
    settings = [word for name, value in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{name}={value}")]
    (directory / "Packages").write_text(index)
    (directory / "Packages.gz").write_bytes(gzip.compress(index.encode(), 1, mtime=0))
    # Read whole before it is written: apt-ftparchive would list the Release file that it is just writing.
    release = run("apt-ftparchive", *settings, "release", ".", cwd=directory)
    (directory / "Release").write_text(release)
    key.sign_release(directory / "Release")


def _index_rpms(directory: Path, key: Key, modules: str) -> None:
    run("createrepo_c", "--quiet", "--no-database", f"--revision={EPOCH}", "--set-timestamp-to-revision", directory)
    repodata = directory / "repodata"
    written = repodata / "modules.yaml"
    written.write_text(modules)
    run("modifyrepo_c", "--mdtype=modules", written, repodata)
    written.unlink()
    key.sign_detached(repodata / "repomd.xml", repodata / "repomd.xml.asc")


def _modules(contents: Contents, sets: Mapping[str, list[Package]]) -> str:
    """The streams of the module nvidia-driver, as modulemd documents."""
    documents: list[dict[str, object]] = []
    for name, packages in sets.items():
        for row in contents.streams(name):
            artifacts = [
                package
                for package in packages
                if package.values["branch"] == row.get("branch", package.values["branch"])
                and (not package.name.startswith("kmod-nvidia-") or package.name == row["kernel_modules"])
            ]
            documents.append(_module(row, artifacts))
        if contents.streams(name):
            defaults = {"module": "nvidia-driver", "stream": "latest-dkms"}
            documents.append({"document": "modulemd-defaults", "version": 1, "data": defaults})
    return yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True)


def _module(row: Mapping[str, str], packages: list[Package]) -> dict[str, object]:
    wanted = ["nvidia-driver", "nvidia-driver-cuda", row["kernel_modules"]]
    data = {
        "name": "nvidia-driver",
        "stream": row["stream"],
        "version": EPOCH,
        "context": "double",
        "arch": "x86_64",
        "summary": f"NVIDIA driver, {row['stream']}",
        "description": f"NVIDIA driver, {row['stream']}",
        "license": {"module": ["none"]},
        "profiles": {"default": {"rpms": wanted}},
        "artifacts": {"rpms": [_nevra(package) for package in packages]},
    }
    return {"document": "modulemd", "version": 2, "data": data}


def _nevra(package: Package) -> str:
    architecture = rpm_name(package).rsplit(".", 2)[1]
    return f"{package.name}-{package.epoch}:{rpm_version(package.version)}.{architecture}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--with-newer", action="store_true", help="a newer, invented version of everything")
    parser.add_argument("--without", action="append", default=[], metavar="NAME=VERSION", help="not in the index")
    parser.add_argument("--delete", action="append", default=[], metavar="NAME=VERSION", help="in the index only")
    parser.add_argument("--key", choices=["first", "second"], default="first", help="that signs")
    parser.add_argument("--distribution", action="append", default=[], help="only this; may be repeated")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where built packages are kept (%(default)s)")
    given = parser.parse_args()
    options = Options(
        key=given.key,
        newer=given.with_newer,
        without=tuple(given.without),
        delete=tuple(given.delete),
        distributions=tuple(given.distribution),
    )
    try:
        fingerprints = make_repositories(given.directory, options, cache=given.cache)
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
    print(json.dumps(fingerprints))


if __name__ == "__main__":
    main()
