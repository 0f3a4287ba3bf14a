#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible action: a directory with everything that plans need from outside. The work is in action_plugins."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_bundle
short_description: Make a bundle of everything that plans need, or check one
version_added: "1.0.0"
description:
  - Fetches the wheels of the plans' locks, the pinned uv, the controller's own tools, builds of Python and NVIDIA's
    archives into one directory of static files. Each file is compared with its sha256 from the lock or table. uv
    checks the builds of Python.
  - The directory has a package index (PEP 503 and 691), a manifest with the sha256, size, origin and license of each
    file, and a bill of materials (CycloneDX).
  - What exists already is kept, so that a run that was interrupted goes on. A bundle that is in the directory stays
    in it.
  - Runs on the controller, in Ansible's own process, and does not connect to any host. Run it once.
requirements:
  - cyclonedx-python-lib
  - packageurl-python
  - packaging
  - PyYAML
options:
  state:
    description: V(verified) compares every file of a bundle with its manifest, and changes nothing.
    type: str
    choices: [present, verified]
    default: present
  directory:
    description: Directory of the bundle. For O(state=verified) also a URL.
    type: str
    required: true
  results:
    description: Results of M(tensorflow_stack_info), one for each of O(hosts).
    type: list
    elements: dict
    default: []
  hosts:
    description: The hosts that were planned.
    type: list
    elements: str
    default: []
  older:
    description: Directory of an older bundle. Files that are the same are linked or copied from it.
    type: path
  pythons:
    description: Minor versions of Python to have builds of, besides those of the plans.
    type: list
    elements: str
    default: []
  index_url:
    description: Package index from which wheels are fetched; the public one if not set.
    type: str
  python_mirror:
    description: A mirror of python-build-standalone.
    type: str
  python_downloads:
    description: A list of builds of Python (JSON) that replaces the one inside uv.
    type: str
  redist_url:
    description: A mirror of NVIDIA's archives.
    type: str
  repository_url:
    description: A mirror of NVIDIA's package repository for the distribution and architecture of all hosts.
    type: str
  signing_key:
    description: >-
      Key that signs the manifest, the path of a private key of ssh or the fingerprint of a secret key of gpg. If it is
      not set, the manifest is not signed.
    type: str
  signers:
    description: >-
      For O(state=verified), file with the keys that may have signed it, allowed signers of ssh-keygen or public keys of
      gpg.
    type: path
  tables:
    description: Directory of the tables. Required for O(state=present).
    type: path
  tools_lock:
    description: Lock of the controller's tools. If it is not set, the bundle has none of them.
    type: path
  tools_pythons:
    description: Minor versions of Python for which the controller's tools are fetched; all that uv knows if empty.
    type: list
    elements: str
    default: []
  for_one_run:
    description: >-
      Fetch only what the plans change, without package repositories and a bill of materials. The result then has
      C(paths), for M(tensorflow_file_server).
    type: bool
    default: false
  tools_directory:
    description: Directory of the controller's tools, such as uv. Required for O(state=present).
    type: path
attributes:
  check_mode:
    support: full
    description: Says how much would be fetched.
  diff_mode:
    support: full
    description: The files of the bundle with the beginning of their sha256.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Fetch what the plans need
  tensorflow_bundle:
    directory: /srv/bundle
    results: "{{ ansible_play_hosts | map('extract', hostvars, 'tensorflow_release_result') | list }}"
    hosts: "{{ ansible_play_hosts }}"
    tables: roles/tensorflow_release/files/tables
    tools_lock: requirements/controller.txt
    tools_directory: .tools
  run_once: true

- name: Compare a bundle with its manifest
  tensorflow_bundle:
    state: verified
    directory: /mnt/bundle
    signers: /etc/stack/allowed_signers
  run_once: true
"""

RETURN = r"""
files:
  description: Number of files in the bundle.
  returned: success
  type: int
  sample: 202
bytes:
  description: Their size.
  returned: success
  type: int
  sample: 615000000
fetched_bytes:
  description: Bytes that were fetched.
  returned: success
  type: int
  sample: 615000000
reused_bytes:
  description: Bytes that were linked or copied from O(older).
  returned: success
  type: int
  sample: 0
paths:
  description: For O(for_one_run=true), the paths of the files that the plans need, and of their pages of the index.
  returned: success
  type: list
  elements: str
  sample: [simple/numpy/index.html, wheels/numpy-1.26.4-py3-none-any.whl]
lines:
  description: The same for a person.
  returned: success
  type: list
  elements: str
  sample: ["/srv/bundle: 202 files, 615 MB; fetched 615 MB, taken from an older bundle 0 MB"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.bundle.door import OPTIONS


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    module.fail_json(
        msg="The action plugin tensorflow_bundle was not found. Run the playbook with the ansible.cfg of the checkout "
        "(ANSIBLE_CONFIG)."
    )


if __name__ == "__main__":
    main()
