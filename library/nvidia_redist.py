#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: NVIDIA's archives as a tree at a versioned prefix."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_redist
short_description: Unpack NVIDIA's archives of CUDA or cuDNN into a versioned prefix
version_added: "1.0.0"
description:
  - Downloads NVIDIA's archives, checks each against its sha256 before it is unpacked, and unpacks them into one tree at
    O(prefix), completely or not at all. The single top directory of an archive is stripped; its license is written to
    C(share/doc/<component>).
  - The tree is unpacked next to O(prefix) and renamed in one step; a repaired or replaced tree is exchanged with the
    new one. Trees at other prefixes are not touched, and nothing outside O(prefix) is changed to refer to it.
  - If names or sizes of files differ from those that were unpacked, the tree is unpacked again.
options:
  component:
    description: The component of the archives, and the name of its record in C(/etc/tensorflow-gpu-stack).
    type: str
    choices: [cuda, cudnn]
    required: true
  prefix:
    description: Absolute path of the tree, a separate directory for each version.
    type: path
    required: true
  version:
    description: Version of the component. Required when O(state=present).
    type: str
  url:
    description: Base URL (http, https or file) of the archives and the manifest. Required when O(state=present).
    type: str
  archives:
    description: The archives to unpack. One of O(archives) and O(manifest) is required when O(state=present).
    type: list
    elements: dict
    suboptions:
      component:
        description: NVIDIA's name of its content, such as V(cuda_cudart).
        type: str
        required: true
      version:
        description: Version of its content.
        type: str
        required: true
      relative_path:
        description: Path below O(url).
        type: str
        required: true
      sha256:
        description: Hash of the archive. An archive without a hash is refused.
        type: str
      bytes:
        description: Size of the archive, if known.
        type: int
  manifest:
    description: Path below O(url) of a manifest of NVIDIA's, from which the archives are taken.
    type: str
  manifest_sha256:
    description: Hash of the manifest. Required with O(manifest).
    type: str
  manifest_components:
    description: Components of the manifest to unpack. If empty, all that it has for this machine.
    type: list
    elements: str
    default: []
  manifest_variant:
    description: The variant that cuDNN 9 has below the platform, such as V(cuda12).
    type: str
  environment_roots:
    description: Roots of environments. A tree is not removed while one of their environments uses it.
    type: list
    elements: path
    default: []
  force:
    description: Remove a tree although an environment or a process uses it.
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait for another run at the same prefix.
    type: int
    default: 300
  state:
    description: Whether the tree must exist.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
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
- name: Lay cuDNN from a mirror inside the house
  nvidia_redist:
    component: cudnn
    version: 8.1.0.77
    prefix: /opt/nvidia/cudnn-8.1.0.77-cuda11
    url: https://mirror.example.org/nvidia/cudnn
    archives:
      - component: cudnn
        version: 8.1.0.77
        relative_path: v8.1.0/cudnn-11.2-linux-x64-v8.1.0.77.tgz
        sha256: dbe82faf071d91ba9bcf00480146ad33f462482dfee56caf4479c1b8dabe3ecb

- name: Lay the runtime libraries that a manifest names
  nvidia_redist:
    component: cuda
    version: 11.8.0
    prefix: /opt/nvidia/cuda-11.8
    url: file:///srv/nvidia/cuda
    manifest: redistrib_11.8.0.json
    manifest_sha256: "{{ manifest_sha256 }}"
    manifest_components: [cuda_cudart, libcublas, libcufft, libcurand, libcusolver, libcusparse]

- name: Remove a tree that no environment uses any more
  nvidia_redist:
    component: cuda
    prefix: /opt/nvidia/cuda-11.2
    environment_roots: [/opt/tensorflow]
    state: absent
"""

RETURN = r"""
pending:
  description: In check mode, whether something would change, so that its result cannot be checked yet.
  returned: success
  type: bool
  sample: false
action:
  description: What was done, or would be done in check mode.
  returned: success
  type: str
  sample: install
prefix:
  description: Absolute path of the tree.
  returned: success
  type: str
  sample: /opt/nvidia/cuda-11.2
version:
  description: Version of the component; null if it was removed.
  returned: success
  type: str
  sample: 11.2.2
archives:
  description: The archives of the tree.
  returned: success
  type: list
  elements: dict
  sample: [{component: cuda_cudart, version: 11.2.152, relative_path: cuda_cudart/a.tar.xz, sha256: 2f1e..., bytes: 9}]
drift:
  description: Differences between the files and those that were unpacked, before this run.
  returned: success
  type: list
  elements: str
  sample: ["lib/libcudart.so.11.2.152 is missing"]
bytes_to_fetch:
  description: Bytes of the archives that had to be downloaded, as far as known.
  returned: success
  type: int
  sample: 861000000
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.archives import redist
from ..module_utils.tensorflow_stack.archives.manifest import Archive, check_archive
from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.records.component import LIBRARIES

_ARCHIVE = {
    "component": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "relative_path": {"type": "str", "required": True},
    "sha256": {"type": "str"},
    "bytes": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "component": {"type": "str", "choices": [component.name for component in LIBRARIES], "required": True},
            "prefix": {"type": "path", "required": True},
            "version": {"type": "str"},
            "url": {"type": "str"},
            "archives": {"type": "list", "elements": "dict", "options": _ARCHIVE},
            "manifest": {"type": "str"},
            "manifest_sha256": {"type": "str"},
            "manifest_components": {"type": "list", "elements": "str", "default": []},
            "manifest_variant": {"type": "str"},
            "environment_roots": {"type": "list", "elements": "path", "default": []},
            "force": {"type": "bool", "default": False},
            "lock_timeout": {"type": "int", "default": 300},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("version", "url")), ("state", "present", ("archives", "manifest"), True)],
        required_by={"manifest": ("manifest_sha256",)},
        mutually_exclusive=[("archives", "manifest")],
        supports_check_mode=True,
    )
    with failing_by_message(module):
        # What root lays, everybody reads.
        os.umask(0o022)
        archives: list[Archive] = []
        if module.params["state"] == "present":
            archives, outcome = _present(module)
        else:
            outcome = _absent(module)
        module.exit_json(
            changed=outcome.changed,
            pending=module.check_mode and outcome.changed,
            action=outcome.action,
            prefix=module.params["prefix"],
            version=module.params["version"] if module.params["state"] == "present" else None,
            archives=[archive.row for archive in archives],
            drift=list(outcome.drift),
            bytes_to_fetch=outcome.bytes_to_fetch,
            diff={
                "before": _lines(outcome.before) + "".join(f"# {text}\n" for text in outcome.drift),
                "after": _lines(outcome.after),
            },
        )


def _present(module: AnsibleModule) -> tuple[list[Archive], redist.TreeOutcome]:
    params = module.params
    source = redist.open_source(params["url"])
    if params["manifest"]:
        archives = redist.fetch_manifest(
            source,
            params["manifest"],
            sha256=params["manifest_sha256"],
            components=params["manifest_components"],
            variant=params["manifest_variant"],
        )
    else:
        archives = [check_archive(row) for row in params["archives"]]
    wish = redist.WantedTree(params["component"], params["version"], params["prefix"], tuple(archives))
    if module.check_mode:
        return archives, redist.plan_present(wish)
    return archives, redist.apply_present(wish, source=source, lock_timeout=params["lock_timeout"])


def _absent(module: AnsibleModule) -> redist.TreeOutcome:
    params = module.params
    roots, force = params["environment_roots"], params["force"]
    if module.check_mode:
        return redist.plan_absent(params["component"], params["prefix"], roots=roots, force=force)
    return redist.apply_absent(
        params["component"], params["prefix"], lock_timeout=params["lock_timeout"], roots=roots, force=force
    )


def _lines(rows: tuple[str, ...]) -> str:
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    main()
