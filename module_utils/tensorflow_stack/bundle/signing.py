"""Signs the manifest of a bundle or an image with a key of the site, and checks that somebody trusted signed it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Sequence

from ..errors import StackError
from ..io.commands import c_locale, run
from ..io.writing import write_bytes
from .manifest import MANIFEST, SIGNATURES

# Of ssh-keygen: what a signature is for, so that one of something else counts for nothing here.
_NAMESPACE = "tensorflow-gpu-stack-bundle"
_FINGERPRINT = re.compile("(0x)?[0-9A-Fa-f]{40}")


def name_signatures(manifest: str) -> dict[str, str]:
    """By kind, the files beside a manifest that may have its signature."""
    return {kind: manifest + name[len(MANIFEST) :] for kind, name in SIGNATURES.items()}


def kind_of_key(key: str, setting: str = "bundle_signing_key") -> str:
    """`gpg` for a fingerprint, `ssh` for the path of a private key."""
    if _FINGERPRINT.fullmatch(key):
        return "gpg"
    if os.path.isfile(key):
        return "ssh"
    raise StackError(
        f"{setting} is {key!r}, which is neither a file with a private key of ssh nor the fingerprint (40 "
        "hexadecimal digits) of a secret key of gpg."
    )


def sign(directory: str, key: str, manifest: str = MANIFEST) -> str:
    """Sign a manifest in `directory`; the name of the signature. One by another kind of key is removed."""
    kind = kind_of_key(key)
    name = name_signatures(manifest)[kind]
    path, target = os.path.join(directory, manifest), os.path.join(directory, name)
    remove_signatures(directory, manifest)
    if kind == "ssh":
        command = ["ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", _NAMESPACE, path]
    else:
        command = ["gpg", "--batch", "--yes", "--armor", "--local-user", key, "--output", target, "--detach-sign", path]
    done = run(command, env=c_locale(), timeout=120)
    if done.code or not os.path.isfile(target):
        raise StackError(
            f"{path} could not be signed with {key}: {_last(done.output)}. A key with a passphrase "
            "has to be in an agent.",
            cmd=command,
        )
    os.chmod(target, 0o644)
    return name


def remove_signatures(directory: str, manifest: str = MANIFEST) -> None:
    """They are of another manifest than the one that was written just now."""
    for name in name_signatures(manifest).values():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))


def check_signature(
    manifest: bytes, signatures: dict[str, bytes], signers: str, *, where: str, what: str = "bundle"
) -> None:
    """Raises StackError unless one that the file `signers` has signed these bytes.

    `signers` is a file of allowed signers of ssh-keygen, or of public keys of gpg; `signatures` are by kind.
    """
    kind = _kind_of_signers(signers)
    if kind not in signatures:
        found = f"only by {' and '.join(sorted(signatures))}" if signatures else "not signed"
        raise StackError(
            f"The {what} {where} is {found}, and stack_bundle_signers names keys of {kind}. Have it signed (make "
            f"{what} {what}_signing_key=...), or set stack_bundle_signers to the keys that sign it."
        )
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: os.path.join(scratch, name) for name in ("manifest", "signature")}
        write_bytes(paths["manifest"], manifest)
        write_bytes(paths["signature"], signatures[kind])
        check = _check_by_ssh if kind == "ssh" else _check_by_gpg
        fault = check(paths, signers, scratch, manifest)
    if fault:
        raise StackError(
            f"The manifest of the {what} {where} is not signed by a key in {signers}: {fault}. Nothing was changed. "
            f"Get the {what} again from where it was made."
        )


def _check_by_ssh(paths: dict[str, str], signers: str, scratch: str, manifest: bytes) -> str | None:
    found = run(["ssh-keygen", "-Y", "find-principals", "-s", paths["signature"], "-f", signers], timeout=60)
    names = found.output.split("\n")[0].strip()
    if found.code or not names:
        return "the key that signed it is not among them"
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", names.split(",")[0], "-n", _NAMESPACE]
    done = run([*command, "-s", paths["signature"]], stdin=manifest.decode("utf-8", "surrogateescape"), timeout=60)
    return _last(done.output) if done.code else None


def _check_by_gpg(paths: dict[str, str], signers: str, scratch: str, manifest: bytes) -> str | None:
    return find_gpg_fault(signers, [paths["signature"], paths["manifest"]], scratch)


def find_gpg_fault(keys: str, signed: Sequence[str], home: str) -> str | None:
    """Why gpg does not take `signed` for signed by one of the keys in a file: a signature and its file, or one of both.

    `home` is an empty directory.
    """
    gpg = ["gpg", "--batch", "--homedir", home]
    imported = run([*gpg, "--quiet", "--import", keys], env=c_locale(), timeout=60)
    if imported.code:
        return f"gpg cannot read them ({_last(imported.output)})"
    done = run([*gpg, "--status-fd", "1", "--verify", *signed], env=c_locale(), timeout=60)
    good = re.search(r"^\[GNUPG:\] VALIDSIG ", done.output, re.M)
    return None if good and not done.code else _last(done.output)


def _kind_of_signers(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            head = stream.read(1 << 16)
    except OSError as error:
        raise StackError(f"stack_bundle_signers: {path} cannot be read: {error.strerror}.") from error
    is_ssh = re.search(rb"^[^#\n]*\b(ssh|ecdsa|sk-ssh|sk-ecdsa)-", head, re.M) and b"BEGIN PGP" not in head
    return "ssh" if is_ssh else "gpg"


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip() and "[GNUPG:]" not in line]
    return lines[-1].rstrip(".") if lines else "it said nothing"
