"""What a node would pull and run as root is refused unless somebody vouches for it, before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.playbooks import ANSIBLE_PLAYBOOK, REPOSITORY, run_playbook

pytestmark = pytest.mark.integration

SIGNER = "admin@example.org ssh-ed25519 AAAA"
GOOD = {"repository": "https://git.example.org/stack.git", "version": "v1", "ssh_signers": [SIGNER]}
REFUSED = {
    "unsigned_tag": {**GOOD, "ssh_signers": []},
    "unsigned_branch": {**GOOD, "ssh_signers": [], "version": "main", "verify": "commit"},
    "short_commit": {**GOOD, "ssh_signers": [], "version": "09af50b", "verify": "commit"},
    "no_repository": {**GOOD, "repository": ""},
    "option_of_git": {**GOOD, "repository": "--upload-pack=reboot"},
    "command": {**GOOD, "version": "v1;reboot"},
    "line_of_a_unit": {**GOOD, "version": "v1\nExecStart=/sbin/reboot"},
    "specifier": {**GOOD, "repository": "https://git.example.org/%n.git"},
}
WITH_CREDENTIALS = {
    "password": {**GOOD, "repository": "https://admin:s3cret@git.example.org/stack.git"},
    "token": {**GOOD, "repository": "https://s3cret@git.example.org/stack.git"},
    "password_of_ssh": {**GOOD, "repository": "ssh://git:s3cret@git.example.org/stack.git"},
}


def test_what_nobody_vouched_for_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3.9.2; exit 1\n")
    old.chmod(0o755)
    asked = {**REFUSED, **WITH_CREDENTIALS, "old_python": {**GOOD, "python": str(old)}}
    hosts = {
        name: {f"tensorflow_pull_{key}": value for key, value in settings.items()} for name, settings in asked.items()
    }
    common = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
    # In check mode, so that a mistake here installs nothing on the machine that tests.
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), "playbooks/pull.yml", "--check"]
    run = run_playbook(command, directory=REPOSITORY)
    assert run.code == 2
    assert set(run.recap) == asked.keys()
    for name, counts in run.recap.items():
        assert (counts["failed"], counts["changed"]) == (1, 0), name
    assert run.output.count("tensorflow_pull_gpg_keys to the keys that may sign it.") == len(REFUSED), run.output
    assert run.output.count("tensorflow_pull_repository contains credentials, which the unit,") == len(WITH_CREDENTIALS)
    assert "s3cret" not in run.output
    assert (
        f"ansible-core needs a newer Python than {old} of this node (3.9.2). Set tensorflow_pull_python" in run.output
    )
