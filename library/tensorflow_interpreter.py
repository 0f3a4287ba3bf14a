#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a Python interpreter for an environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_interpreter
short_description: Install the Python interpreter of a plan
version_added: "1.0.0"
description:
  - Makes sure that an interpreter of a minor version runs at a path. With O(source=uv), uv downloads a build below
    O(root). Otherwise the interpreter must exist; if it does not, the error says what is missing.
options:
  time_limit:
    type: float
    default: 7200
    description: Seconds that each program may run for that the module starts; then it is stopped, and the module fails.
  path:
    description: Absolute path of the interpreter.
    type: path
    required: true
  minor:
    description: Minor version of Python, such as V(3.10).
    type: str
    required: true
  source:
    description: The source in the plan.
    type: str
    choices: [found, distro, uv]
    required: true
  root:
    description: Directory of all environments; downloaded builds are in its directory C(.pythons).
    type: path
    required: true
  uv:
    description: The pinned uv, a row of the table C(uv). Required if O(source=uv) and a build must be downloaded.
    type: dict
  index_url:
    description: Package index from which uv itself is downloaded; the public one if not set.
    type: str
  mirror:
    description: A mirror from which uv downloads builds, with the layout of the releases of python-build-standalone.
    type: str
  downloads:
    description: A list of builds (JSON, URL or path) that replaces the one inside uv.
    type: str
  places:
    description: Hosts from which uv downloads builds by itself, for the message if it cannot.
    type: list
    elements: str
    default: []
  archives:
    description: >-
      By minor, the sha256 that the archive of a build must have, as C(python_archives) of the plan's C(uv). A list of
      O(downloads) has its own.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Can run in check mode, and then says what it would do without doing it.
  diff_mode:
    support: full
    description: Returns what changed, or in check mode would change, if asked for differences.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Provide Python 3.10 from a mirror inside the house
  tensorflow_interpreter:
    path: /opt/tensorflow/.pythons/cpython-3.10-linux-x86_64-gnu/bin/python3.10
    minor: "3.10"
    source: uv
    root: /opt/tensorflow
    uv: "{{ uv_record }}"
    mirror: https://mirror.example.org/python-build-standalone

- name: Make sure that the interpreter runs
  tensorflow_interpreter:
    path: /usr/bin/python3.9
    minor: "3.9"
    source: distro
    root: /opt/tensorflow

- name: Make sure that one that was found still runs
  tensorflow_interpreter:
    path: /opt/python3.8/bin/python3.8
    minor: "3.8"
    source: found
    root: /opt/tensorflow
"""

RETURN = r"""
interpreter:
  description: Absolute path of the interpreter.
  returned: success
  type: str
  sample: /usr/bin/python3.9
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.environment import interpreter
from ..module_utils.tensorflow_stack.environment.own_pythons import check_python
from ..module_utils.tensorflow_stack.environment.root import check_program, check_root
from ..module_utils.tensorflow_stack.errors import BuildError
from ..module_utils.tensorflow_stack.io.commands import limit_programs
from ..module_utils.tensorflow_stack.io.uv import ensure_uv


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "time_limit": {"type": "float", "default": 7200},
            "path": {"type": "path", "required": True},
            "minor": {"type": "str", "required": True},
            "source": {"type": "str", "choices": ["found", "distro", "uv"], "required": True},
            "root": {"type": "path", "required": True},
            "uv": {"type": "dict"},
            "index_url": {"type": "str"},
            "mirror": {"type": "str"},
            "downloads": {"type": "str"},
            "places": {"type": "list", "elements": "str", "default": []},
            "archives": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        limit_programs(module.params["time_limit"], "python_interpreter_time_limit")
        path, minor = module.params["path"], module.params["minor"]
        check_program(path)
        if module.params["source"] == "uv":
            check_root(module.params["root"])
            check_python(module.params["root"], path)
        missing = not interpreter.runs_as(path, minor)
        # A package is the package manager's change, which came before.
        changed = missing and module.params["source"] == "uv"
        if missing and not module.check_mode:
            _provide(module)
        line = f"Python {minor} at {path}\n"
        module.exit_json(changed=changed, interpreter=path, diff={"before": "" if changed else line, "after": line})


def _provide(module: AnsibleModule) -> None:
    params = module.params
    if params["source"] != "uv":
        raise BuildError(
            f"Python {params['minor']} was planned at {params['path']} (source: {params['source']}), but none starts "
            "there. Install it, or set python_source to auto."
        )
    os.umask(0o022)
    root = params["root"]
    uv = ensure_uv(directory=os.path.join(root, ".tools"), record=params["uv"], index_url=params["index_url"])
    interpreter.fetch(
        params["path"],
        params["minor"],
        root=root,
        uv=uv,
        mirror=params["mirror"],
        downloads=params["downloads"],
        places=params["places"],
        archives=params["archives"],
        log=os.path.join(root, ".builds", "python.log"),
    )


if __name__ == "__main__":
    main()
