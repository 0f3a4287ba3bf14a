#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the program of a node's health check."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_health
short_description: Install the program that looks at driver and libraries
version_added: "1.0.0"
description:
  - Writes the part of this toolkit that looks at the driver and the CUDA libraries as one file. Python runs it without
    Ansible and without the checkout. The role tensorflow_health has a timer run it.
  - Needs root and systemd.
options:
  path:
    description: Absolute path of the file. Its directory is created.
    type: path
    required: true
  state:
    description: With V(absent), the file is removed.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: none
    description: The file is an archive.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Install the program
  tensorflow_health:
    path: /usr/local/lib/tensorflow-gpu-stack/tensorflow_health.pyz
"""

RETURN = r"""
python:
  description: The Python that runs this module, and is to run the program.
  returned: success
  type: str
  sample: /usr/bin/python3
"""

import sys

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.health import program


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        apply = program.present if module.params["state"] == "present" else program.absent
        changed = apply(module.params["path"], check_mode=module.check_mode)
        module.exit_json(changed=changed, python=sys.executable)


if __name__ == "__main__":
    main()
