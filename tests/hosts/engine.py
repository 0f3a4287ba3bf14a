"""Podman and the images of the test hosts: made and kept, as far as this machine lets it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests import needs

HERE = Path(__file__).resolve().parent
CONTAINERS_CONF = HERE / "containers.conf"
AUTHORITIES = Path("/usr/local/share/ca-certificates")
# Package lists lie in the images of hosts: older ones name packages that a mirror no longer has.
HOST_IMAGE_SECONDS = 24 * 3600
BASE_IMAGE_SECONDS = 7 * 24 * 3600


class Unavailable(Exception):
    """Why this machine cannot have a host."""


@dataclass(frozen=True)
class Image:
    """A row of images.yml."""

    name: str
    base: str
    suite: str
    target: str


def known_images() -> dict[str, Image]:
    rows = yaml.safe_load((HERE / "images.yml").read_text())
    return {name: Image(name=name, **row) for name, row in rows.items()}


class Engine:
    """Podman, with the settings that it needs here."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.environment = dict(os.environ)
        self._is_settled = False

    def prepare(self, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Tags of the images by name, and for those that cannot be had the reason."""
        tags: dict[str, str] = {}
        missing: dict[str, str] = {}
        with self._lock():
            for name in sorted(names):
                try:
                    if why := needs.reason("podman"):
                        raise Unavailable(why)
                    tags[name] = self._image(known_images()[name])
                except Unavailable as error:
                    missing[name] = str(error)
        return tags, missing

    def has(self, label: str) -> bool:
        """Whether a container with the label runs."""
        return bool(self._podman("ps", "--quiet", f"--filter=label={label}").stdout)

    def remove(self, label: str) -> None:
        """Removes every container with the label, running or not."""
        listed = self._podman("ps", "--all", "--quiet", f"--filter=label={label}").stdout.split()
        if listed:
            self._podman("rm", "--force", "--time=0", "--volumes", *listed)

    # --- Podman ---------------------------------------------------------------------------------------

    def _podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run(["podman", *arguments], self.environment)

    def _settle(self, image: str) -> None:
        """Finds out whether containers start with podman's own settings or with those of containers.conf."""
        if self._is_settled:
            return
        failures = []
        for settings in ({}, {"CONTAINERS_CONF": str(CONTAINERS_CONF)}):
            ended = _run(["podman", "run", "--rm", "--network=none", image, "true"], {**self.environment, **settings})
            if not ended.returncode:
                self.environment.update(settings)
                self._is_settled = True
                return
            failures.append(_last_line(ended))
        raise Unavailable(f"no container starts: {failures[0]}; with {CONTAINERS_CONF.name}: {failures[1]}")

    # --- Images ---------------------------------------------------------------------------------------

    def _image(self, image: Image) -> str:
        tag = f"localhost/testhost-{image.name}:{digest(image)}"
        if self._age(tag) < HOST_IMAGE_SECONDS:
            self._settle(tag)
            return tag
        base = self._base(image)
        self._settle(base)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.cache) as context:
            shutil.copytree(HERE / "el8-lookalike", Path(context, "el8-lookalike"))
            Path(context, "ca-certificates").mkdir()
            for authority in _authorities():
                shutil.copy(authority, Path(context, "ca-certificates"))
            ended = self._podman(
                # A stage that another image was made of a moment ago is not made again.
                *("build", "--pull=never", "--cache-ttl=1h", f"--build-arg=BASE={base}", f"--target={image.target}"),
                *(f"--tag={tag}", f"--file={HERE / 'Containerfile'}", context),
            )
        if ended.returncode:
            raise Unavailable(f"podman build of {image.name}: {_last_line(ended)}")
        _say(f"{image.name} made of {base} in {time.monotonic() - started:.0f} s")
        # What nobody's host uses and is too old to be used again.
        old = f"--filter=until={HOST_IMAGE_SECONDS}s"
        self._podman("image", "prune", "--all", "--force", "--filter=label=testhost.image", old)
        return tag

    def _base(self, image: Image) -> str:
        if not self._podman("pull", "--quiet", image.base).returncode:
            return image.base
        tag = f"localhost/testhost-base:{image.suite}"
        if self._age(tag) < BASE_IMAGE_SECONDS:
            return tag
        if why := needs.reason("mmdebstrap", "debian-archive-keyring"):
            raise Unavailable(f"{image.base} cannot be pulled, and to make it of packages: {why}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(dir=self.cache) as directory:
            archive = str(Path(directory, "base.tar"))
            command = ["mmdebstrap", "--variant=minbase", "--include=ca-certificates", image.suite, archive]
            ended = _run(command, self.environment)
            if not ended.returncode:
                ended = self._podman("import", archive, tag)
        if ended.returncode:
            raise Unavailable(f"{image.base} can neither be pulled nor made: {_last_line(ended)}")
        _say(f"base of {image.suite} made of packages in {time.monotonic() - started:.0f} s")
        return tag

    def _age(self, tag: str) -> float:
        """Seconds since the image was made here; infinite where it is not there."""
        ended = self._podman("image", "inspect", "--format={{.Created.Unix}}", tag)
        return float("inf") if ended.returncode else time.time() - float(ended.stdout)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.cache.mkdir(parents=True, exist_ok=True)
        with open(self.cache / "images.lock", "w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _authorities() -> list[Path]:
    return sorted(AUTHORITIES.glob("*.crt"))


def digest(image: Image) -> str:
    """Of everything that an image is made from, apart from the packages of the day."""
    parts = hashlib.sha256(json.dumps([image.base, image.suite, image.target]).encode())
    files = [HERE / "Containerfile", *(path for path in (HERE / image.target).rglob("*") if path.is_file())]
    for path in [*sorted(files), *_authorities()]:
        parts.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return parts.hexdigest()[:12]


def _run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )


def _last_line(ended: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (ended.stderr + ended.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("Error", "E:"))]
    return (errors or lines or [f"ended with {ended.returncode}"])[-1]


def _say(line: str) -> None:
    print(f"hosts: {line}", file=sys.stderr, flush=True)
