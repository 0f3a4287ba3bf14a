"""Throwaway keys, and what they sign."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.repositories.packages import ENVIRONMENT, run


class Key:
    """A key in a keyring of its own; lives as long as `open_key` does."""

    def __init__(self, home: str, name: str) -> None:
        self.environment = {**ENVIRONMENT, "GNUPGHOME": home}
        self.name = name
        rows = self.gpg("--with-colons", "--list-secret-keys").splitlines()
        self.fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr:"))

    def gpg(self, *arguments: str | Path) -> str:
        return run("gpg", "--batch", "--quiet", "--yes", *arguments, env=self.environment)

    def public(self) -> str:
        return self.gpg("--armor", "--export", self.fingerprint)

    def sign_release(self, release: Path) -> None:
        self.gpg("--digest-algo", "SHA512", "--clearsign", "--output", release.with_name("InRelease"), release)
        self.sign_detached(release, release.with_name("Release.gpg"))

    def sign_detached(self, path: Path, signature: Path) -> None:
        self.gpg("--armor", "--detach-sign", "--digest-algo", "SHA512", "--output", signature, path)

    def sign_rpms(self, paths: Sequence[Path]) -> None:
        gpg = shutil.which("gpg") or "gpg"  # rpm asks for its path
        macros = {"_gpg_name": self.fingerprint, "_gpg_digest_algo": "sha256", "__gpg": gpg}
        defines = [word for key, value in macros.items() for word in ("--define", f"{key} {value}")]
        halves = [half for half in (paths[::2], paths[1::2]) if half]
        with ThreadPoolExecutor(len(halves)) as pool:
            list(pool.map(lambda half: run("rpmsign", *defines, "--addsign", *half, env=self.environment), halves))


@contextlib.contextmanager
def open_key(directory: Path, name: str) -> Iterator[Key]:
    """The key of that name, made and kept in the directory when it is not there yet."""
    kept = directory / f"{name}.secret"
    # The agent's socket lies in the keyring, and its path may have 107 characters only.
    with TemporaryDirectory(prefix="gpg-", dir="/tmp") as home:
        environment = {**ENVIRONMENT, "GNUPGHOME": home}
        try:
            if kept.exists():
                run("gpg", "--batch", "--quiet", "--import", kept, env=environment)
            else:
                user = f"{name} <{name}@example.invalid>"
                unprotected = ["--passphrase", "", "--quick-generate-key", user, "rsa2048", "sign", "never"]
                run("gpg", "--batch", "--quiet", *unprotected, env=environment)
                directory.mkdir(parents=True, exist_ok=True)
                run("gpg", "--batch", "--armor", "--output", kept, "--export-secret-keys", env=environment)
            yield Key(home, name)
        finally:
            run("gpgconf", "--kill", "all", env=environment)
