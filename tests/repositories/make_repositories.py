#!/usr/bin/env python3
"""Makes doubles of NVIDIA's package repositories and archive server, which are not reachable from everywhere.

    make_repositories.py DIRECTORY [--with-newer] [--without NAME=VERSION]... [--delete NAME=VERSION]... [--key second]

    DIRECTORY/<distribution>/x86_64/    apt repositories, flat as NVIDIA's; dnf repositories
    DIRECTORY/redist/{cuda,cudnn}/      archives with NVIDIA's manifests; hostile ones under redist/hostile/
    DIRECTORY/compute/...               all of it again under the paths of NVIDIA's server (links)
    DIRECTORY/fingerprints.json         {"first": ..., "second": ...}
    DIRECTORY/contents.json             {distribution: [{name, version, file}]}, as indexed

What is built is kept in a cache by the digest of this folder's files; indexes and signatures are made each time.
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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    # As a script, Python sees this folder only; imports are those that pytest sees, from the checkout's root.
    sys.path[0] = str(HERE.parents[1])

from tests.repositories.contents import Contents, Package, Repository  # noqa: E402
from tests.repositories.packages import Libraries, build_debs, deb_name, run  # noqa: E402
from tests.repositories.signing import Key, open_key  # noqa: E402

CACHE = HERE.parents[1] / ".cache" / "repositories"
# Command: Debian package that brings it.
TOOLS = {
    "apt-ftparchive": "apt-utils",
    "createrepo_c": "createrepo-c",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
    "gpg": "gpg",
    "gpg-agent": "gpg-agent",
    "gpgconf": "gpgconf",
    "modifyrepo_c": "createrepo-c",
    "rpmbuild": "rpm",
    "rpmsign": "rpm",
}


@dataclass(frozen=True)
class Options:
    key: str = "first"  # which signs the indexes: first, second
    newer: bool = False
    without: tuple[str, ...] = ()  # name=version that the index does not have
    delete: tuple[str, ...] = ()  # name=version that the index has and the server has not
    distributions: tuple[str, ...] = ()  # all, when empty


def missing_tools() -> list[str]:
    """Debian packages of the commands that are not there."""
    return sorted({package for command, package in TOOLS.items() if shutil.which(command) is None})


def make_repositories(directory: Path, options: Options = Options(), *, cache: Path = CACHE) -> dict[str, str]:  # noqa: B008  # frozen
    """Make them below the directory, which is emptied first; gives back the keys' fingerprints."""
    if missing_tools():
        raise RuntimeError(f"to make repositories, install: apt-get install {' '.join(missing_tools())}")
    contents = Contents.load()
    _refuse_unknown(contents, options)
    pool = Pool(contents, cache)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with open_key(pool.keys, "first") as first, open_key(pool.keys, "second") as second:
        keys = {key.name: key for key in (first, second)}
        wanted = [row for row in contents.repositories if row.distribution in (options.distributions or row.distribution)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            indexed = dict(threads.map(lambda row: (row.distribution, _make(row, directory, pool, keys, options)), wanted))
        fingerprints = {name: key.fingerprint for name, key in keys.items()}
    (directory / "fingerprints.json").write_text(json.dumps(fingerprints, indent=1))
    (directory / "contents.json").write_text(json.dumps(indexed, indent=1))
    return fingerprints


class Pool:
    """The built packages of every set."""

    def __init__(self, contents: Contents, cache: Path) -> None:
        self.contents = contents
        self.directory = cache / _digest_of_sources()
        self.keys = self.directory / "keys"
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.directory / "complete").exists():
                self._build()
                (self.directory / "complete").touch()

    def debs(self, name: str) -> Path:
        return self.directory / "deb" / name

    def _build(self) -> None:
        sets = {(row.format, name) for row in self.contents.repositories for name in row.sets}
        rows = {key: self.contents.packages(key[1], key[0]) for key in sorted(sets)}
        libraries = Libraries(self.directory / "libraries")
        libraries.make(soname for packages in rows.values() for row in packages for soname in row.libraries.values())
        for (package_format, name), packages in rows.items():
            if package_format == "deb":
                build_debs(packages, libraries, self.debs(name))


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted([*HERE.glob("*.py"), *HERE.glob("*.yml")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _refuse_unknown(contents: Contents, options: Options) -> None:
    known = {
        package.reference
        for row in contents.repositories
        for name in row.sets
        for package in contents.packages(name, row.format)
    }
    unknown = sorted({*options.without, *options.delete} - known)
    if unknown:
        raise RuntimeError(f"no repository has {', '.join(unknown)}; contents.yml says what there is, as name=version")


def _make(repository: Repository, base: Path, pool: Pool, keys: dict[str, Key], options: Options) -> list[dict[str, str]]:
    directory = base / repository.path
    directory.mkdir(parents=True)
    packages = [
        (name, package)
        for name in repository.sets
        for package in pool.contents.packages(name, repository.format)
        if package.reference not in options.without and (options.newer or not package.newer)
    ]
    key = keys[options.key]
    _publish_keys(repository, directory, keys, options)
    if repository.format == "deb":
        rows = _lay_debs(packages, directory, pool)
        _index_debs(repository, directory)
        key.sign_release(directory / "Release")
    else:
        return []
    for _, package in packages:
        if package.deleted or package.reference in options.delete:
            (directory / deb_name(package)).unlink()
    return rows


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _lay_debs(packages: Sequence[tuple[str, Package]], directory: Path, pool: Pool) -> list[dict[str, str]]:
    rows = []
    for name, package in packages:
        _link(pool.debs(name) / deb_name(package), directory / deb_name(package))
        rows.append({"name": package.name, "version": package.version, "file": deb_name(package)})
    return rows


def _publish_keys(repository: Repository, directory: Path, keys: dict[str, Key], options: Options) -> None:
    """The key under NVIDIA's name for it; after the rotation, the new one beside the old."""
    (directory / f"{repository.key}.pub").write_text(keys["first"].public())
    if options.key == "second":
        (directory / "second.pub").write_text(keys["second"].public())


def _index_debs(repository: Repository, directory: Path) -> None:
    index = run("apt-ftparchive", "packages", ".", cwd=directory)
    (directory / "Packages").write_text(index)
    (directory / "Packages.gz").write_bytes(gzip.compress(index.encode(), 1, mtime=0))
    fields = {"Origin": "NVIDIA", "Label": "NVIDIA CUDA", "Architectures": "amd64 all"}
    settings = [word for key, value in fields.items() for word in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
    # Written from outside the directory: apt-ftparchive would list a Release file that it is just writing.
    (directory / "Release").write_text(run("apt-ftparchive", *settings, "release", ".", cwd=directory))


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
