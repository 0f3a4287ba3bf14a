#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the Jupyter kernel of an environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_jupyter_kernel
short_description: Have Jupyter find an environment
version_added: "1.0.0"
description:
  - Writes a kernelspec that starts the environment by its stable path, so that it stays valid when another build is
    switched to. Only the file C(kernel.json) is written.
  - The environment must contain C(ipykernel).
  - A kernelspec that this module did not make for the same environment is neither changed nor removed.
options:
  environment:
    description: Name of the environment.
    type: str
    required: true
  root:
    description: Directory of all environments.
    type: path
    required: true
  state:
    description: With V(absent), the kernelspec is removed; the environment need not exist any more.
    type: str
    choices: [present, absent]
    default: present
  directory:
    description:
      - Directory of kernelspecs.
      - If not set, it is C(/usr/local/share/jupyter/kernels) for root, so that all users have the kernel, and
        C(kernels) in the user's data directory of Jupyter (C(~/.local/share/jupyter)) for another user.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: full
    description: The file before and after.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Have Jupyter find TensorFlow 2.8.0
  tensorflow_jupyter_kernel:
    environment: tensorflow-2.8.0
    root: /opt/tensorflow

- name: Have the Jupyter of a hub find it
  tensorflow_jupyter_kernel:
    environment: tensorflow-2.8.0
    root: /opt/tensorflow
    directory: /opt/jupyterhub/share/jupyter/kernels

- name: Remove the kernel
  tensorflow_jupyter_kernel:
    environment: tensorflow-2.8.0
    root: /opt/tensorflow
    state: absent
"""

RETURN = r"""
kernelspec:
  description: Absolute path of the kernelspec.
  returned: success
  type: str
  sample: /usr/local/share/jupyter/kernels/tensorflow-2.8.0/kernel.json
message:
  description: The kernel and its file in two lines, or why there is none.
  returned: success
  type: str
  sample: "TensorFlow 2.8.0: the kernel of /opt/tensorflow/tensorflow-2.8.0"
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.environment import kernelspec


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "environment": {"type": "str", "required": True},
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "directory": {"type": "path"},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        directory = module.params["directory"] or kernelspec.default_directory(os.environ)
        apply = kernelspec.present if module.params["state"] == "present" else kernelspec.absent
        outcome = apply(module.params["root"], module.params["environment"], directory, check_mode=module.check_mode)
        module.exit_json(
            changed=outcome.changed,
            kernelspec=outcome.path,
            message=outcome.message,
            diff={
                "before": outcome.before,
                "after": outcome.after,
                "before_header": outcome.path,
                "after_header": outcome.path,
            },
        )


if __name__ == "__main__":
    main()
