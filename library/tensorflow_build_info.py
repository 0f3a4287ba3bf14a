#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what an environment that has to be built would be built from on this node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_build_info
short_description: Report whether an interpreter starts, and which wheels are cached
version_added: "1.0.0"
description:
  - Starts the interpreter, for at most 10 seconds, and asks it for its version.
  - Lists the wheels in uv's cache below the directory of all environments.
  - Changes nothing. M(tensorflow_stack_info) runs it if its plan builds an environment.
options:
  root:
    description: Directory of all environments.
    type: path
    required: true
  minor:
    description: Minor version of Python, such as V(3.10).
    type: str
    required: true
  python:
    description: Absolute path of the interpreter. If not set, none is started.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: none
    description: Returns what changed, or in check mode would change, if asked for differences.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Start the interpreter of a plan, and list the cached wheels
  tensorflow_build_info:
    root: /opt/tensorflow
    minor: "3.10"
    python: /usr/bin/python3.10

- name: Only list the cached wheels
  tensorflow_build_info:
    root: /opt/tensorflow
    minor: "3.10"
"""

RETURN = r"""
fault:
  description: Why the interpreter cannot be used; null if it starts and is of that version.
  returned: success
  type: str
  sample: "does not start: error while loading shared libraries: libpython3.10.so.1.0"
real_path:
  description: The path of the interpreter without symbolic links; null if O(python) is not set.
  returned: success
  type: str
  sample: /usr/bin/python3.10
cached:
  description: Distributions with a wheel for this Python in the cache, as C(name==version).
  returned: success
  type: list
  elements: str
  sample: [numpy==1.23.5]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.environment.interpreter import find_fault
from ..module_utils.tensorflow_stack.environment.root import check_program
from ..module_utils.tensorflow_stack.io.uv import cached_wheels


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "minor": {"type": "str", "required": True},
            "python": {"type": "path"},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        root, minor, python = (module.params[name] for name in ("root", "minor", "python"))
        fault = None
        if python:
            check_program(python)
            fault = find_fault(python, minor)
        module.exit_json(
            changed=False,
            fault=fault,
            real_path=os.path.realpath(python) if python else None,
            cached=sorted(
                f"{name}=={version}" for name, version in cached_wheels(os.path.join(root, ".cache", "uv"), minor)
            ),
        )


if __name__ == "__main__":
    main()
