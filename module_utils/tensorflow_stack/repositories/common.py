"""What apt and dnf have in common: a repository, its key, retired keys, refreshing an index."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Sequence

from ..errors import BusyError, StackError
from ..io.commands import Completed, c_locale, run
from ..io.downloads import Source, as_url, has_credentials
from ..io.files import FileChanges
from .apt_sources import place_of
from .openpgp import Key, armour, is_armoured, is_keybox, read_keys

_POLL_SECONDS = 2
_KEY_LIMIT = 1 << 20


@dataclass(frozen=True)
class SignedRepository:
    name: str
    url: str
    places: frozenset[str]  # of the same packages: other entries of one of these are disabled
    key: str  # name of the key's file, below the URL
    fingerprints: tuple[str, ...]
    retired: tuple[str, ...]


RunCommand = Callable[[Sequence[str]], Completed]


class VerificationError(StackError):
    """An index is not available, or not signed by the key."""


def repository(row: dict[str, Any], *, url: str, fingerprints: Sequence[str]) -> SignedRepository:
    """A row of the plan; unless empty, `url` and `fingerprints` of the inventory take the place of the row's."""
    chosen = as_url(url or row["url"]).rstrip("/") + "/"
    if has_credentials(chosen):
        raise StackError(
            "nvidia_repository_url contains credentials, which the output of every task would show, and a file that"
            " everybody on the node may read. Use a mirror that needs none, or put them into /etc/apt/auth.conf.d"
            " (for apt) and ~root/.netrc (for the key) on the node."
        )
    wanted = [re.sub(r"\s", "", text).upper() for text in (fingerprints or row["fingerprints"])]
    for text in wanted:
        if not re.fullmatch("[0-9A-F]{40}", text):
            raise StackError(
                f"{text!r} is no fingerprint of a repository's key: 40 hexadecimal digits are required, as `gpg"
                " --show-keys` prints them. Set nvidia_repository_fingerprints."
            )
    return SignedRepository(
        name=row["name"],
        url=chosen,
        places=frozenset({place_of(chosen), place_of(row["url"])}),
        key=row["key"],
        fingerprints=tuple(wanted),
        retired=tuple(text.upper() for text in row["retired_fingerprints"] or [] if text.upper() not in wanted),
    )


def run_command(argv: Sequence[str]) -> Completed:
    return run(argv, env=c_locale(DEBIAN_FRONTEND="noninteractive"))


def fetch_key(repository: SignedRepository) -> bytes:
    source = Source(repository.url, name="repository", settings="nvidia_repository_url")
    what = f"The key {repository.key}"
    return source.get(repository.url + repository.key, what=what, limit=_KEY_LIMIT).body


@dataclass
class Work:
    """What is to be changed, and what was found."""

    files: FileChanges
    run: RunCommand = run_command
    fetch: Callable[[SignedRepository], bytes] = fetch_key
    fetch_anew: bool = False  # even if the present key has the right fingerprint
    root: str = "/"
    keys: dict[str, bytes] = field(default_factory=dict)
    repaired: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def provide_key(self, path: str, repository: SignedRepository) -> Key:
        data = self.files.read(path)
        key = None if data is None or self.fetch_anew else _right_key(data, repository)
        if data is None or key is None:
            key = _checked_key(self.fetch(repository), repository)
            data = armour([key])
        self.files.write(path, data)
        self.keys[path] = data
        return key

    def drop_retired_keys(self, paths: Sequence[str], repository: SignedRepository) -> None:
        for path in paths if repository.retired else []:
            data = self.files.read(path) or b""
            if is_keybox(data):
                for fingerprint in repository.retired:
                    if bytes.fromhex(fingerprint) in data:
                        self.warnings.append(
                            f"{path} contains the retired key {fingerprint}, in a format of gpg's own that apt does not"
                            f" read: gpg --no-default-keyring --keyring {path} --delete-keys {fingerprint} removes it."
                        )
                continue
            try:
                keys = read_keys(data)
            except StackError as error:
                self.warnings.append(f"{path} was not searched for the retired key: {error.message}.")
                continue
            rest = [key for key in keys if key.fingerprint not in repository.retired]
            if len(rest) == len(keys):
                continue
            if not rest:
                self.files.remove(path)
            elif is_armoured(data):
                self.files.edit(path, armour(rest))
            else:
                self.files.edit(path, b"".join(key.packets for key in rest))
            removed = sorted({key.fingerprint for key in keys} - {key.fingerprint for key in rest})
            self.report(path, ", ".join(removed), "removed the retired key")

    def report(self, file: str, entry: str, action: str) -> None:
        self.repaired.append({"file": file, "entry": entry, "action": action})

    def names_in(self, directory: str, endings: tuple[str, ...]) -> Iterator[str]:
        try:
            names = sorted(os.listdir(self.root.rstrip("/") + directory))
        except FileNotFoundError:
            return
        for name in names:
            if name.endswith(endings) and not name.startswith("."):
                yield f"{directory}/{name}"


def run_when_unlocked(
    start: Callable[[], Completed], is_locked: Callable[[Completed], str], lock_timeout: float
) -> Completed:
    """The end of a command that does not wait for the package manager's lock itself. Raises BusyError."""
    deadline = time.monotonic() + lock_timeout
    while True:
        ended = start()
        holder = is_locked(ended)
        if not holder:
            return ended
        if time.monotonic() >= deadline:
            raise BusyError(
                f"The package manager is in use: {holder} Waited {lock_timeout:g} s. Run again when that has ended, or"
                " raise package_lock_timeout.",
                holder=holder,
            )
        time.sleep(_POLL_SECONDS)


def describe(data: bytes) -> str:
    """A file as a difference shows it: keys by fingerprint, everything else as it is."""
    try:
        return "".join(f"OpenPGP key {key.fingerprint or key.version}\n" for key in read_keys(data))
    except StackError:
        return data.decode("utf-8", "replace")


def _right_key(data: bytes, repository: SignedRepository) -> Key | None:
    try:
        return _checked_key(data, repository) if is_armoured(data) else None
    except StackError:
        return None


def _checked_key(data: bytes, repository: SignedRepository) -> Key:
    url = repository.url + repository.key
    wanted = " or ".join(repository.fingerprints)
    hint = (
        "If the key was exchanged, compare the new fingerprint with what its owner publishes elsewhere, and set"
        " nvidia_repository_fingerprints to it; if it was not, do not use this repository."
    )
    try:
        keys = read_keys(data)
    except StackError as error:
        raise StackError(f"{url} is not the key {wanted}: {error.message}. {hint}", url=url) from error
    found = [key.fingerprint or f"a key of version {key.version}" for key in keys]
    if len(keys) != 1:
        raise StackError(
            f"{url} must hold the key {wanted} alone, but contains {len(keys)}: {', '.join(found)}. Nothing was"
            f" trusted. {hint}",
            found=found,
        )
    if keys[0].fingerprint not in repository.fingerprints:
        raise StackError(f"{url} is {found[0]}, not {wanted}. Nothing was trusted. {hint}", found=found)
    return keys[0]
