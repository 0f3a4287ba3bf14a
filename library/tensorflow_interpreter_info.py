#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: whether a Python interpreter starts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_interpreter_info
short_description: Report whether a Python interpreter starts
description:
  - Starts the interpreter, for at most 10 seconds, and asks it for its version.
  - Changes nothing.
options:
  path:
    description: Absolute path of the interpreter.
    type: path
    required: true
  minor:
    description: The expected minor version of Python, such as V(3.10).
    type: str
    required: true
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Start the interpreter of a plan
  tensorflow_interpreter_info:
    path: /usr/bin/python3.10
    minor: "3.10"
"""

RETURN = r"""
fault:
  description: Why the interpreter cannot be used; null if it starts and is of that version.
  returned: success
  type: str
  sample: "does not start: error while loading shared libraries: libpython3.10.so.1.0"
real_path:
  description: Its path without symbolic links.
  returned: success
  type: str
  sample: /usr/bin/python3.10
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.environment.interpreter import find_fault
from ..module_utils.tensorflow_stack.environment.root import check_program
from ..module_utils.tensorflow_stack.errors import StackError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "minor": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        check_program(path)
        fault = find_fault(path, module.params["minor"])
    except StackError as error:
        module.fail_json(msg=error.message, **error.details)
    module.exit_json(changed=False, fault=fault, real_path=os.path.realpath(path))


if __name__ == "__main__":
    main()
