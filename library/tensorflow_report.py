#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the report of one run on one node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_report
short_description: Write what a run did to one node as JSON
version_added: "1.0.0"
description:
  - Combines the results of planning, building and checking and writes them to O(path). Creates its directory.
  - Runs on the controller, in Ansible's own process, and does not connect to the host. The report describes the
    run, not the state of the node, so it is never a change.
options:
  host:
    description: Name of the node in the inventory.
    type: str
    required: true
  path:
    description: File to write.
    type: path
    required: true
  release_result:
    description: Result of M(tensorflow_stack_info); empty if it did not run.
    type: dict
    default: {}
  kept:
    description:
      - The RV(tensorflow_stack_info#module:kept) of the plan, for a build and a check that did not run because nothing
        was to do.
    type: dict
    default: {}
  venv_result:
    description: Result of M(tensorflow_venv); empty if it did not run.
    type: dict
    default: {}
  check_result:
    description: Result of M(tensorflow_gpu_check); empty if it did not run.
    type: dict
    default: {}
  system_results:
    description: >-
      Results of the roles that change the system, by name. The report has their actions, drift and a required reboot.
      Empty and skipped results mean that a role did not run.
    type: dict
    default: {}
  failed_task:
    description: Name of the task that failed; empty if none did.
    type: str
    default: ''
  failed_result:
    description: >-
      Result of the task that failed; empty if none did. Its message is the error of the report, and the module fails
      after it has written the report.
    type: dict
    default: {}
  proof_required:
    description: After writing the report, fail unless the verdict is the plan's. Not in check mode.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Nothing is written.
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
- name: Report on the node
  tensorflow_report:
    host: "{{ inventory_hostname }}"
    path: reports/{{ inventory_hostname }}.json
    release_result: "{{ tensorflow_release_result }}"
    venv_result: "{{ tensorflow_venv_result }}"
    check_result: "{{ tensorflow_check_result }}"

- name: Report on what failed, in a rescue
  tensorflow_report:
    host: "{{ inventory_hostname }}"
    path: reports/{{ inventory_hostname }}.json
    release_result: "{{ tensorflow_release_result }}"
    failed_task: "{{ ansible_failed_task.name }}"
    failed_result: "{{ ansible_failed_result }}"

- name: Report on what a check found
  tensorflow_report:
    host: "{{ inventory_hostname }}"
    path: reports/{{ inventory_hostname }}.json
    check_result: "{{ tensorflow_check_result }}"
"""

RETURN = r"""
report:
  description: The report; its schema is roles/stack_report/files/report.schema.json.
  returned: success
  type: dict
  sample: {host: localhost, release: 2.8.0, succeeded: true}
use:
  description: >-
    Three lines on what is ready, how to use it and how to go back; empty unless the run proved an environment.
  returned: success
  type: list
  elements: str
  sample:
    - "ready: TensorFlow 2.8.0 (cpu), /opt/tensorflow/tensorflow-2.8.0/bin/python"
path:
  description: Path of the report, if another task of the run failed and said why; empty in check mode.
  returned: failure
  type: str
  sample: /srv/stack/reports/localhost.json
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.report import OPTIONS, Asked, leave_report, use_lines


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS,
        supports_check_mode=True,
    )
    with failing_by_message(module):
        report, failed = leave_report(module.params, check_mode=module.check_mode)
        if failed:
            module.fail_json(msg=failed)
        module.exit_json(changed=False, report=report, use=use_lines(report or {}, module.params, Asked()))


if __name__ == "__main__":
    main()
