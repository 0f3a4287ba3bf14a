#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: which processes use the GPUs or an environment of a node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_processes_info
short_description: List the processes that use the GPUs or an environment of a node
version_added: "1.0.0"
description:
  - A process uses the GPUs if it has a device file of NVIDIA's open. Services of the driver and of its monitoring are
    left out, because no user waits for their work.
  - A process uses an environment if it was started from one of its builds or has a file of one mapped.
  - Reads files in C(/proc), and ends nothing. M(tensorflow_stack_info) runs it if its plan changes what may be in use.
options:
  gpu:
    description: Look for processes that use the GPUs.
    type: bool
    default: false
  environment:
    description: Absolute path of an environment. If not set, none is looked for.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: none
    description: Returns what changed, or in check mode would change, if asked for differences.
notes:
  - A user who is not root sees only processes of their own.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Find who uses the GPUs
  gpu_processes_info:
    gpu: true
  register: users

- name: Find who uses an environment
  gpu_processes_info:
    environment: /opt/tensorflow/tensorflow-2.15.1
"""

RETURN = r"""
gpu:
  description: Processes that use the GPUs; empty if O(gpu) is false.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 4711, program: python3 train.py, user: ada, slurm_job: 42}]
environment:
  description: Processes that use the environment; empty if O(environment) is not set.
  returned: success
  type: list
  elements: dict
  sample: [{pid: 812, program: jupyter-lab, user: bob, slurm_job: null}]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.node.files import NodeFiles
from ..module_utils.tensorflow_stack.node.processes import find_users


def main() -> None:
    module = AnsibleModule(
        argument_spec={"gpu": {"type": "bool", "default": False}, "environment": {"type": "path"}},
        supports_check_mode=True,
    )
    with failing_by_message(module):
        module.exit_json(changed=False, **find_users(NodeFiles("/"), **module.params))


if __name__ == "__main__":
    main()
