"""Repositories of dnf: one file each, with its own key; sections in its way disabled; refreshed and judged."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import time
from typing import Iterator

from ..errors import StackError
from ..io.commands import Completed
from .common import SignedRepository, VerificationError, Work, describe, run_when_unlocked
from .openpgp import read_keys
from .yum_repos import disable, is_at, read_sections, section

_SECTIONS_DIRECTORY = "/etc/yum.repos.d"
_KEYS_DIRECTORY = "/etc/pki/rpm-gpg"
_CACHES = ("/var/cache/dnf", "/var/cache/libdnf5")
_LOCKED = 200  # what dnf ends with when exit_on_lock is set


class DnfRepositories:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._repositories: list[SignedRepository] = []
        self._imported = _imported_keys(work)
        self._to_import: dict[str, str] = {}  # fingerprint to the key's file
        self._to_erase: list[str] = []

    def add(self, repository: SignedRepository) -> None:
        work = self._work
        key_path = f"{_KEYS_DIRECTORY}/{repository.name}"
        own_path = f"{_SECTIONS_DIRECTORY}/{repository.name}.repo"
        key = work.provide_key(key_path, repository)
        if key.fingerprint not in self._imported.values():
            self._to_import[key.fingerprint] = key_path
        reason = f"the same repository is in {own_path}, with its own key"
        for path in work.names_in(_SECTIONS_DIRECTORY, (".repo",)):
            text = (work.files.read(path) or b"").decode("utf-8", "surrogateescape")
            found = [
                section
                for section in read_sections(path, text)
                if path != own_path and (section.name == repository.name or is_at(section, set(repository.places)))
            ]
            if found:
                work.files.edit(path, disable(text, found, reason).encode("utf-8", "surrogateescape"))
            for other in found:
                work.report(path, f"[{other.name}] {other.options.get('baseurl', '')}", "disabled, " + reason)
        options = {
            "name": repository.name,
            "baseurl": repository.url,
            "enabled": "1",
            "gpgcheck": "1",
            "repo_gpgcheck": "1",
            "gpgkey": "file://" + key_path,
        }
        work.files.write(own_path, section(repository.name, options).encode())
        keys = [path for path in work.names_in(_KEYS_DIRECTORY, ("",)) if path != key_path]
        work.drop_retired_keys(keys, repository)
        for package, fingerprint in self._imported.items():
            if fingerprint in repository.retired and package not in self._to_erase:
                self._to_erase.append(package)
                work.report("rpm's keys", fingerprint, f"removed the retired key ({package})")
        self._repositories.append(repository)

    @property
    def is_changed(self) -> bool:
        return bool(self._work.files or self._to_import or self._to_erase)

    def diff(self) -> list[dict[str, str]]:
        files = self._work.files.diff(describe)
        erased = {self._imported[package] for package in self._to_erase}
        before, after = set(self._imported.values()), (set(self._imported.values()) - erased) | set(self._to_import)
        if before == after:
            return files
        texts = ["".join(f"OpenPGP key {key}\n" for key in sorted(keys)) for keys in (before, after)]
        header = {"before_header": "rpm's keys", "after_header": "rpm's keys"}
        return [*files, {**header, "before": texts[0], "after": texts[1]}]

    def refreshed_at(self) -> float:
        """When the oldest of the indexes was last compared with its repository; 0 if one does not exist."""
        return min((self._refreshed(repository) for repository in self._repositories), default=time.time())

    def apply(self, *, lock_timeout: float) -> None:
        """Change everything, or nothing if an index is not as it has to be afterwards."""
        with self._work.files.written(), self._trusted_by_rpm():
            for repository in self._repositories:
                self._refresh(repository, lock_timeout)
            for package in self._to_erase:
                self._work.run(["rpm", "--erase", "--allmatches", package])
        left = sorted(set(self._to_erase) & set(_imported_keys(self._work)))
        if left:
            raise StackError(f"rpm still trusts the retired {' and '.join(left)}. Run `rpm --erase {' '.join(left)}`.")

    @contextlib.contextmanager
    def _trusted_by_rpm(self) -> Iterator[None]:
        """Import the keys, and erase them again if the body fails."""
        try:
            for fingerprint, path in self._to_import.items():
                ended = self._work.run(["rpmkeys", "--import", path])
                if fingerprint not in _imported_keys(self._work).values():
                    raise StackError(
                        f"rpm did not accept the key {fingerprint} from {path}, and printed"
                        f" '{' '.join(ended.lines)}'. Check the crypto policy of the node.",
                        rc=ended.code,
                    )
            yield
        except BaseException:
            for package, fingerprint in _imported_keys(self._work).items():
                if fingerprint in self._to_import:
                    self._work.run(["rpm", "--erase", package])
            raise

    def _refresh(self, repository: SignedRepository, lock_timeout: float) -> None:
        started = time.time() - 1
        for place in self._caches(repository):
            # dnf keeps on trusting what it once took for this repository.
            shutil.rmtree(os.path.join(place, "pubring"), ignore_errors=True)
        command = ["dnf", "--assumeyes", "--refresh", "--disablerepo=*", f"--enablerepo={repository.name}"]
        command += [f"--setopt={repository.name}.skip_if_unavailable=0", "--setopt=exit_on_lock=1", "makecache"]
        ended = run_when_unlocked(lambda: self._work.run(command), _lock_holder, lock_timeout)
        if ended.code or self._refreshed(repository) < started:
            errors = [line for line in ended.lines if re.match(r"Error|  - |.*[Ee]rror:", line)]
            raise VerificationError(
                f"The repository {repository.url} cannot be used: {'; '.join(errors) or 'dnf fetched no list of it'}."
                " The node's repositories and keys are unchanged. If it is not reachable from the node, set"
                " nvidia_repository_url to a mirror that is; if it is signed by another key that you trust, set"
                " nvidia_repository_fingerprints to that one's.",
                cmd=command,
                rc=ended.code,
                stderr="\n".join(ended.lines),
            )

    def _refreshed(self, repository: SignedRepository) -> float:
        """dnf gives the list of packages the time when it found that it is still the repository's."""
        lists = [path for place in self._caches(repository) for path in glob.glob(place + "/repodata/*primary.xml*")]
        return max((os.stat(path).st_mtime for path in lists), default=0)

    def _caches(self, repository: SignedRepository) -> list[str]:
        name = glob.escape(repository.name) + "-" + "[0-9a-f]" * 16
        return [path for cache in _CACHES for path in glob.glob(f"{self._work.root.rstrip('/')}{cache}/{name}")]


def _imported_keys(work: Work) -> dict[str, str]:
    """rpm's names of the keys it trusts, and their fingerprints: the names have only the last eight digits."""
    lines = work.run(["rpm", "-q", "gpg-pubkey", "--qf", "%{NAME}-%{VERSION}-%{RELEASE}\n%{DESCRIPTION}\n"]).lines
    found: dict[str, str] = {}
    block: list[str] = []
    name = ""
    for line in lines:
        if line.startswith("gpg-pubkey-"):
            name, block = line, []
        block.append(line)
        if line.startswith("-----END PGP"):
            with contextlib.suppress(StackError):
                found[name] = read_keys("\n".join([*block[1:], ""]).encode())[0].fingerprint
    return found


def _lock_holder(ended: Completed) -> str:
    return " ".join(ended.lines) or "dnf says that it is locked." if ended.code == _LOCKED else ""
