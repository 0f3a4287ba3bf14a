#!/usr/bin/python
"""Tell what was changed in a directory of environments."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_history
short_description: Tell what was changed in a directory of environments, when and by whom
version_added: "1.0.0"
description:
  - Reads the history that M(tensorflow_venv) writes, the links and the builds below O(root), and changes nothing.
  - Names the build to which M(tensorflow_venv) with C(state=previous) would switch, or says why there is none.
  - A change that no run recorded is listed as V(found), because the run was killed, an earlier version of this toolkit
    made it, or a person did.
options:
  root:
    description: Directory of all environments. If not set, the default for this user.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: none
    description: Returns what changed, or in check mode would change, if asked for differences.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Read the history
  tensorflow_history:
    root: /opt/tensorflow
  register: history_result

- name: Show it
  ansible.builtin.debug:
    msg: "{{ history_result.table }}"
"""

RETURN = r"""
root:
  description: Directory of all environments.
  returned: success
  type: str
  sample: /opt/tensorflow
current:
  description: The stable path to what was applied last. Null if somebody else made what is at that path.
  returned: success
  type: str
  sample: /opt/tensorflow/current
in_use:
  description: What was applied last. Null if there is nothing.
  returned: success
  type: dict
  contains:
    environment:
      description: Name of the environment.
      type: str
      sample: tensorflow-2.15.1
    build:
      description: Name of its build.
      type: str
      sample: tensorflow-2.15.1-1a2b3c4d5e6f-3
rollback:
  description: What a rollback would switch to, like RV(in_use). Null if there is nothing.
  returned: success
  type: dict
  sample: {environment: tensorflow-2.21.0, build: tensorflow-2.21.0-6f5e4d3c2b1a-1}
rollback_refused:
  description: Why there is nothing to roll back to. Null if there is.
  returned: success
  type: str
  sample: null
history:
  description: The changes, the latest first.
  returned: success
  type: list
  elements: dict
  contains:
    at:
      description: When, in UTC.
      type: str
      sample: "2026-11-26T16:11:00Z"
    action:
      description: V(build), V(repair), V(switch), V(rollback), V(remove), or V(found) for what no run recorded.
      type: str
      sample: build
    by:
      description: User and host of the controller. Null if unknown.
      type: str
      sample: ada@desk
    environment:
      description: The environment that was changed.
      type: str
      sample: tensorflow-2.15.1
    before:
      description: What was in use before, like RV(in_use). Null for nothing.
      type: dict
    after:
      description: What was in use afterwards, like RV(in_use). Null for nothing.
      type: dict
    verdict:
      description: Verdict of the last check that ran after this change and before the next one. Null for none.
      type: str
      sample: cpu_only_no_gpu
    kept:
      description: Whether the build in RV(history[].after) still exists.
      type: bool
      sample: true
    requirements:
      description: The requirements file of that build on the controller. Null for the release alone, or if unknown.
      type: str
      sample: null
    asked:
      description: The variables with which that build was made. Null if unknown.
      type: dict
      sample: {tensorflow_version: 2.15.1}
table:
  description: The same for a person, in lines of at most 80 columns.
  returned: success
  type: str
  sample: "In use: tensorflow-2.15.1 (build 3)"
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.environment.history_table import tell_history
from ..module_utils.tensorflow_stack.node.user import current_user, default_environments_root


def main() -> None:
    module = AnsibleModule(argument_spec={"root": {"type": "path"}}, supports_check_mode=True)
    with failing_by_message(module):
        root = module.params["root"] or default_environments_root(current_user(), os.environ)
        module.exit_json(changed=False, **tell_history(os.path.normpath(root)))


if __name__ == "__main__":
    main()
