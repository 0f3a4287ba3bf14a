#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what a machine adds to the report of a fault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_issue_info
short_description: Read the logs of this toolkit on a machine, and which names a report may not contain
version_added: "1.0.0"
description:
  - Reads the ends of the newest logs of builds, of failed checks and of faults of this toolkit, or of one log.
  - Reads the names of users, machines and home directories, which M(tensorflow_issue_report) takes out of the report.
  - The result is not redacted. It changes nothing.
options:
  root:
    description: Directory of all environments, as in M(gpu_node_info).
    type: path
  log:
    description: Absolute path of a log to read instead of those of the root.
    type: path
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
- name: Read what a report needs
  tensorflow_issue_info:
  register: issue_info
"""

RETURN = r"""
logs:
  description: The end of each log by the name of its file.
  returned: success
  type: dict
  sample: {tensorflow-2.8.0.log: "Resolved 39 packages"}
users:
  description: Names of people's accounts.
  returned: success
  type: list
  elements: str
  sample: [me]
hosts:
  description: Names of this machine.
  returned: success
  type: list
  elements: str
  sample: [gpu01]
homes:
  description: Home directories of who runs this.
  returned: success
  type: list
  elements: str
  sample: [/home/me]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.issue import collect
from ..module_utils.tensorflow_stack.node.user import current_user, default_environments_root


def main() -> None:
    module = AnsibleModule(
        argument_spec={"root": {"type": "path"}, "log": {"type": "path"}},
        supports_check_mode=True,
    )
    with failing_by_message(module):
        log, root = module.params["log"], module.params["root"]
        if log and not os.path.isabs(log):
            module.fail_json(msg=f"log is {log!r}: give an absolute path.")
        logs = (
            collect.ends_of([log])
            if log
            else collect.kept_logs(root or default_environments_root(current_user(), os.environ))
        )
        module.exit_json(changed=False, logs=logs, **collect.known_here()._asdict())


if __name__ == "__main__":
    main()
