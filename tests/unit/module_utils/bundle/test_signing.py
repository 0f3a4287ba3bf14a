"""By the real ssh-keygen and gpg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.bundle import signing
from ansible.module_utils.tensorflow_stack.errors import StackError

from tests.needs import require

TEXT = '{"schema": 1}\n'


def ssh_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "site", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/manifest.json").write_text(TEXT)
    return tmp_path / "bundle"


def signed_by_ssh(bundle: Path, tmp_path: Path) -> tuple[dict[str, bytes], Path]:
    require("openssh-client")
    key = ssh_key(tmp_path / "key")
    name = signing.sign(str(bundle), str(key))
    signers = tmp_path / "signers"
    signers.write_text(f"# the site\nsite@example.org {(tmp_path / 'key.pub').read_text()}")
    return {"ssh": (bundle / name).read_bytes()}, signers


def test_signed_by_a_key_of_ssh(bundle: Path, tmp_path: Path) -> None:
    signatures, signers = signed_by_ssh(bundle, tmp_path)
    signing.check_signature(TEXT.encode(), signatures, str(signers), where="here")
    with pytest.raises(StackError, match="The manifest of the bundle here is not signed by a key in"):
        signing.check_signature(TEXT.encode() + b" ", signatures, str(signers), where="here")
    ssh_key(tmp_path / "other")
    signers.write_text(f"site@example.org {(tmp_path / 'other.pub').read_text()}")
    with pytest.raises(StackError, match="the key that signed it is not among them"):
        signing.check_signature(TEXT.encode(), signatures, str(signers), where="here")
    with pytest.raises(StackError, match="is not signed, and stack_bundle_signers names keys of ssh"):
        signing.check_signature(TEXT.encode(), {}, str(signers), where="here")


def test_signed_by_a_key_of_gpg(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("gpg", "gpg-agent")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    made = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", "site", "ed25519"]
    subprocess.run(made, check=True, capture_output=True)
    listed = subprocess.check_output(["gpg", "--batch", "--with-colons", "--list-keys"], text=True)
    fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
    signers = tmp_path / "signers.asc"
    signers.write_bytes(subprocess.check_output(["gpg", "--armor", "--export", fingerprint]))
    try:
        signatures = {"gpg": (bundle / signing.sign(str(bundle), fingerprint)).read_bytes()}
        signing.check_signature(TEXT.encode(), signatures, str(signers), where="here")
        with pytest.raises(StackError, match="The manifest of the bundle here is not signed by a key in"):
            signing.check_signature(TEXT.encode() + b" ", signatures, str(signers), where="here")
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=False)


def test_another_kind_of_key_takes_the_old_signature_away(bundle: Path, tmp_path: Path) -> None:
    (bundle / "manifest.json.asc").write_text("old")
    signed_by_ssh(bundle, tmp_path)
    assert sorted(path.name for path in bundle.iterdir()) == ["manifest.json", "manifest.json.sig"]


def test_what_is_no_key_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="bundle_signing_key is 'abc', which is neither a file"):
        signing.sign(str(bundle), "abc")
    (tmp_path / "key").write_text("no key\n")
    with pytest.raises(StackError, match="could not be signed with .*key"):
        signing.sign(str(bundle), str(tmp_path / "key"))


def test_signers_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="stack_bundle_signers: .*nothing cannot be read: No such file"):
        signing.check_signature(b"", {}, str(tmp_path / "nothing"), where="here")
