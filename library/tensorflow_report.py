#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the report of one run on one node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_report
short_description: Write what a run did to one node as JSON
description:
  - Puts the results of planning, building and checking together and writes them to O(path), whose directory it makes.
  - Runs on the controller (C(delegate_to=localhost)). The report is about the run and no state of the node, so it is
    never a change.
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
    description: Result of M(tensorflow_stack_info); empty where it did not run.
    type: dict
    default: {}
  venv_result:
    description: Result of M(tensorflow_venv); empty where it did not run.
    type: dict
    default: {}
  check_result:
    description: Result of M(tensorflow_gpu_check); empty where it did not run.
    type: dict
    default: {}
  system_results:
    description: >-
      Results of the parts that work on the system, by name; what they did, drift and a reboot that is due are reported.
      Those that are empty or were skipped did not run.
    type: dict
    default: {}
  failed_task:
    description: Name of the task that failed; empty where none did.
    type: str
    default: ''
  failed_result:
    description: >-
      Result of the task that failed; empty where none did. Its message is the error of the report, and the module fails
      once that is written.
    type: dict
    default: {}
  proof_required:
    description: Fail, once the report is written, unless the verdict is what the plan asked for. Not in check mode.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Nothing is written.
  diff_mode:
    support: none
  idempotent:
    support: full
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
  delegate_to: localhost

- name: Report on what failed, in a rescue
  tensorflow_report:
    host: "{{ inventory_hostname }}"
    path: reports/{{ inventory_hostname }}.json
    release_result: "{{ tensorflow_release_result }}"
    failed_task: "{{ ansible_failed_task.name }}"
    failed_result: "{{ ansible_failed_result }}"
  delegate_to: localhost

- name: Report on what a check found
  tensorflow_report:
    host: "{{ inventory_hostname }}"
    path: reports/{{ inventory_hostname }}.json
    check_result: "{{ tensorflow_check_result }}"
  delegate_to: localhost
"""

RETURN = r"""
report:
  description: What was written; its schema is roles/stack_report/files/report.schema.json.
  returned: success
  type: dict
  sample: {host: localhost, release: 2.8.0, succeeded: true}
"""

import datetime
import json
import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.report import make_report


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "release_result": {"type": "dict", "default": {}},
            "venv_result": {"type": "dict", "default": {}},
            "check_result": {"type": "dict", "default": {}},
            "system_results": {"type": "dict", "default": {}},
            "failed_task": {"type": "str", "default": ""},
            "failed_result": {"type": "dict", "default": {}},
            "proof_required": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["host"] in (".", "..") or "/" in params["host"]:
        module.fail_json(msg=f"No report is written: the name of the host {params['host']!r} cannot be that of a file.")
    report = make_report(
        params["host"],
        release_result=params["release_result"],
        venv_result=params["venv_result"],
        check_result=params["check_result"],
        system_results=params["system_results"],
        failed_result=params["failed_result"],
        failed_task=params["failed_task"],
        proof_required=params["proof_required"] and not module.check_mode,
        written_at=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    if not module.check_mode:
        try:
            _write(params["path"], json.dumps(report, indent=2, sort_keys=True) + "\n")
        except OSError as error:
            module.fail_json(
                msg=f"The report {params['path']} cannot be written: {error.strerror}. "
                "Set stack_report_directory to a directory of yours."
            )
    if report["error"]:
        # What failed has said why; a verdict that is missing says so here.
        failed = (
            f"The task {params['failed_task']!r} failed, see above." if params["failed_result"] else report["error"]
        )
        module.fail_json(msg=failed + ("" if module.check_mode else f" The report is {params['path']}."))
    module.exit_json(changed=False, report=report)


def _write(path: str, text: str) -> None:
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".report-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    main()
