#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what is wrong with a TensorFlow, or with what a log says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_doctor
short_description: Diagnose any TensorFlow and say what to do, whoever installed it
version_added: "1.0.0"
description:
  - Imports TensorFlow and computes, in a separate process with a time limit, reads the node (GPUs, driver, messages of
    the kernel, C(nvidia-smi), half-installed packages), and finds the causes in a table.
  - Reads the log of the environment's last build and that of its last failed check as well.
  - With O(log) or O(text) it reads only that text.
  - Changes nothing, and fails only if it cannot read; RV(healthy) says whether anything is wrong.
options:
  diagnoses:
    description: Rows of the table C(diagnoses.yml).
    type: list
    elements: dict
    required: true
  environment:
    description:
      - Name of an environment below O(root). Without it and without O(python), the environment applied last, or only
        the node if there is none.
    type: str
  root:
    description: Directory of all environments, as in M(gpu_node_info).
    type: path
  python:
    description:
      - Absolute path of a Python, or of the directory of a virtual environment, that this toolkit did not build.
      - It runs isolated, without C(PYTHONPATH) and without packages of the user's own site directory.
    type: path
  log:
    description:
      - Absolute path of a file with a log of TensorFlow, nvidia-smi, apt, dpkg, dnf, pip, uv or the kernel.
      - It may have any encoding, including UTF-16. Of more than 4 MiB the first MiB and the last 3 MiB are read.
    type: path
  text:
    description: The text of a log.
    type: str
  log_lines:
    description: Rows of the table C(log_lines.yml), which distinguish a healthy log from an unknown one.
    type: list
    elements: dict
    default: []
  expect_gpu:
    description:
      - Whether TensorFlow must use a GPU. The default is true if the node has one and the environment is not for the
        CPU.
    type: bool
  time_limit:
    description: Time limit in seconds for importing and computing.
    type: float
    default: 300
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    support: none
    description: Returns what changed, or in check mode would change, if asked for differences.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Examine the environment that was applied last
  tensorflow_doctor:
    diagnoses: "{{ rows }}"
  register: doctor_result

- name: Examine a virtual environment that somebody else made
  tensorflow_doctor:
    python: /home/me/venv
    diagnoses: "{{ rows }}"

- name: Say what a log tells
  tensorflow_doctor:
    log: /home/me/failed.log
    diagnoses: "{{ rows }}"
    log_lines: "{{ line_rows }}"
"""

RETURN = r"""
subject:
  description: What was examined.
  returned: success
  type: str
  sample: /opt/tensorflow/tensorflow-2.8.0/bin/python
healthy:
  description:
    - V(false) if the verdict is bad or, without a TensorFlow, if a cause was found.
    - For a log, V(true) only if it shows that TensorFlow computed, or if all its lines are known to be harmless.
  returned: success
  type: bool
  sample: false
verdict:
  description: Verdict as in M(tensorflow_gpu_check), whatever the release; null if no TensorFlow was tested.
  returned: success
  type: str
  sample: import_failed
reason:
  description: Reason of the verdict, in a sentence or two; for a log, how much was read and what it shows.
  returned: success
  type: str
  sample: "import: TypeError: Descriptors cannot be created directly."
causes:
  description: Causes as in M(tensorflow_gpu_check), first cause first.
  returned: success
  type: list
  elements: dict
  sample: []
versions:
  description: Versions of the relevant distributions and of the driver.
  returned: success
  type: dict
  sample: {numpy: 1.23.5, tensorflow: 2.8.0, driver: 550.163.01 (535.183.01 in the kernel)}
report:
  description: Observations as in M(tensorflow_gpu_check); null if no TensorFlow was tested.
  returned: success
  type: dict
  sample: null
log_tail:
  description: Last lines of TensorFlow's log; for a log without a known cause, up to five lines that look like faults.
  returned: success
  type: list
  elements: str
  sample: []
faults:
  description: Number of different lines of a log that look like faults.
  returned: success
  type: int
  sample: 0
lines:
  description: The complete result as text.
  returned: success
  type: list
  elements: str
  sample: ["healthy: /opt/tensorflow/tensorflow-2.8.0/bin/python (cpu_only_no_gpu)"]
"""

import dataclasses
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.check.doctor import describe, examine_log, examine_node
from ..module_utils.tensorflow_stack.check.log_text import Log, read_log, split_lines


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "diagnoses": {"type": "list", "elements": "dict", "required": True},
            "environment": {"type": "str"},
            "root": {"type": "path"},
            "python": {"type": "path"},
            "log": {"type": "path"},
            "text": {"type": "str"},
            "log_lines": {"type": "list", "elements": "dict", "default": []},
            "expect_gpu": {"type": "bool"},
            "time_limit": {"type": "float", "default": 300},
        },
        mutually_exclusive=[("environment", "python", "log", "text")],
        supports_check_mode=True,
    )
    with failing_by_message(module):
        rows, line_rows = module.params.pop("diagnoses"), module.params.pop("log_lines")
        path, text = module.params.pop("log"), module.params.pop("text")
        for name, value in (("python", module.params["python"]), ("log", path)):
            if value and not os.path.isabs(value):
                module.fail_json(msg=f"{name} is {value!r}: give an absolute path.")
        python = module.params["python"]
        if python and os.path.isdir(python):
            module.params["python"] = os.path.join(python, "bin", "python")
        if path or text is not None:
            examination = examine_log(rows, line_rows, read_log(path) if path else Log(split_lines(text)))
        else:
            examination = examine_node(rows, **module.params)
        module.exit_json(changed=False, lines=describe(examination), **dataclasses.asdict(examination))


if __name__ == "__main__":
    main()
