#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the package repositories of a plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_repository
short_description: Add the package repositories of a plan
version_added: "1.0.0"
description:
  - For NVIDIA's repository, downloads the key, checks its fingerprint, and writes the key and one entry that trusts
    only this key. Other entries of the same repository are disabled, because apt refuses two with different keys. Keys
    that NVIDIA retired are removed.
  - For Debian's own repositories, adds components in a separate entry with the URLs and keys of the existing ones.
  - The index is refreshed if something was written, or if it is missing or old. The result is judged by the index that
    exists afterwards. If it is unavailable or not signed by the key, every file is restored.
  - Files are replaced as a whole and never written through a link.
options:
  time_limit:
    type: float
    default: 7200
    description: Seconds that each program may run for that the module starts; then it is stopped, and the module fails.
  repositories:
    description: The repositories of the plan, in order.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description: NVIDIA's repository, or more components of the distribution's own ones (Debian).
        type: str
        choices: [nvidia, distribution]
        required: true
      manager:
        description: The package manager that reads it.
        type: str
        choices: [apt, dnf]
        default: apt
      name:
        description: Name of the entry and of the files, for O(repositories[].kind=nvidia).
        type: str
      url:
        description: URL of the repository, including its distribution and architecture.
        type: str
      key:
        description: Name of the key's file below O(repositories[].url).
        type: str
      fingerprints:
        description: Fingerprints of the keys that may sign, 40 hexadecimal digits each.
        type: list
        elements: str
      retired_fingerprints:
        description: Fingerprints of keys to remove from the node.
        type: list
        elements: str
      components:
        description: Components of the distribution, for O(repositories[].kind=distribution).
        type: list
        elements: str
  url:
    description: A mirror of NVIDIA's repository, instead of O(repositories[].url).
    type: str
    default: ""
  fingerprints:
    description: Fingerprints instead of O(repositories[].fingerprints), for a mirror that signs its index itself.
    type: list
    elements: str
    default: []
  refresh_after:
    description: Maximum age of the index in seconds. An older one is refreshed although nothing was written.
    type: int
    default: 86400
  lock_timeout:
    description: Seconds to wait for the package manager's lock.
    type: int
    default: 300
attributes:
  check_mode:
    support: full
    description: >-
      The key is downloaded and checked, but nothing is written. Only a refresh detects that an installed key with the
      right fingerprint was renewed, or that an index is not signed by it.
  diff_mode:
    support: full
    description: Returns what changed, or in check mode would change, if asked for differences.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Provide what the plan needs
  nvidia_repository:
    repositories: "{{ tensorflow_release_result.plan.repositories }}"

- name: Provide NVIDIA's repository from a mirror that signs with a key of its own
  nvidia_repository:
    repositories: "{{ tensorflow_release_result.plan.repositories }}"
    url: https://mirror.example.org/cuda/debian12/x86_64/
    fingerprints: ["0123456789ABCDEF0123456789ABCDEF01234567"]

- name: Add Debian's components for NVIDIA's driver
  nvidia_repository:
    repositories:
      - kind: distribution
        components: [contrib, non-free]
"""

RETURN = r"""
pending:
  description: In check mode, whether something would change, so that its result cannot be checked yet.
  returned: success
  type: bool
repaired:
  description: Conflicting entries and keys that were disabled or removed.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description: The file, or V(rpm's keys).
      type: str
    entry:
      description: The entry, or the fingerprint of the key.
      type: str
    action:
      description: What was done, and why.
      type: str
  sample:
    - file: /etc/apt/sources.list.d/cuda.list
      entry: deb https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/ /
      action: disabled, the same repository is in /etc/apt/sources.list.d/nvidia-cuda-debian12.sources, with its own key
refreshed:
  description: Whether the index was refreshed. This alone is no change.
  returned: success
  type: bool
diff:
  description: Content of each changed file before and after; keys by fingerprint.
  returned: success
  type: list
  elements: dict
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.errors import StackError
from ..module_utils.tensorflow_stack.io.commands import limit_programs
from ..module_utils.tensorflow_stack.io.files import FileChanges
from ..module_utils.tensorflow_stack.repositories.apt import AptRepositories
from ..module_utils.tensorflow_stack.repositories.common import VerificationError, Work, repository
from ..module_utils.tensorflow_stack.repositories.dnf import DnfRepositories


def main() -> None:
    nvidia = ["name", "url", "key", "fingerprints"]
    row = {
        "kind": {"type": "str", "choices": ["nvidia", "distribution"], "required": True},
        "manager": {"type": "str", "choices": ["apt", "dnf"], "default": "apt"},
        "name": {"type": "str"},
        "url": {"type": "str"},
        "key": {"type": "str", "no_log": False},
        "fingerprints": {"type": "list", "elements": "str"},
        "retired_fingerprints": {"type": "list", "elements": "str"},
        "components": {"type": "list", "elements": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "time_limit": {"type": "float", "default": 7200},
            "repositories": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": row,
                "required_if": [("kind", "nvidia", nvidia), ("kind", "distribution", ["components"])],
            },
            "url": {"type": "str", "default": ""},
            "fingerprints": {"type": "list", "elements": "str", "default": []},
            "refresh_after": {"type": "int", "default": 86400},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        limit_programs(module.params["time_limit"], "package_time_limit")
        result = _provide(module)
        module.exit_json(**result)


def _provide(module: AnsibleModule) -> dict[str, Any]:
    work = Work(FileChanges())
    manager = _plan(module, work)
    refresh = manager.is_changed or manager.refreshed_at() < time.time() - module.params["refresh_after"]
    if refresh and not module.check_mode:
        try:
            manager.apply(lock_timeout=module.params["lock_timeout"])
        except VerificationError as error:
            work, manager = _plan_with_renewed_keys(module, work, error)
            manager.apply(lock_timeout=module.params["lock_timeout"])
    for warning in work.warnings:
        module.warn(warning)
    return {
        "changed": manager.is_changed,
        "pending": module.check_mode and manager.is_changed,
        "repaired": work.repaired,
        "refreshed": refresh,
        "diff": manager.diff(),
    }


def _plan(module: AnsibleModule, work: Work) -> AptRepositories | DnfRepositories:
    rows = module.params["repositories"]
    is_dnf = any(row["manager"] == "dnf" for row in rows)
    manager: AptRepositories | DnfRepositories = DnfRepositories(work) if is_dnf else AptRepositories(work)
    for row in rows:
        if row["kind"] == "nvidia":
            manager.add(repository(row, url=module.params["url"], fingerprints=module.params["fingerprints"]))
        elif isinstance(manager, AptRepositories):
            manager.add_components(row["components"])
    return manager


def _plan_with_renewed_keys(
    module: AnsibleModule, before: Work, error: VerificationError
) -> tuple[Work, AptRepositories | DnfRepositories]:
    """A key that is there may have expired and been renewed since. Raises `error` where none was."""
    work = Work(FileChanges(), fetch_anew=True)
    try:
        manager = _plan(module, work)
    except StackError:
        raise error from None
    if work.keys == before.keys:
        raise error
    return work, manager


if __name__ == "__main__":
    main()
