#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what leads the whole machine to one CUDA."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_global_links
short_description: Keep an installation of CUDA from changing what the whole machine uses
description:
  - NVIDIA's packages let C(/usr/local/cuda) lead to the CUDA that they bring, and the loader of every program search
    it. This module notes both before, and puts them back afterwards.
  - Between the two the note is in C(/etc/tensorflow-gpu-stack/cuda-links.json). If a run is killed there, the next
    O(state=noted) puts back first.
options:
  prefix:
    description: Absolute path of the CUDA that is installed.
    type: path
    required: true
  state:
    description:
      - V(noted) is for before, V(restored) for after the installation.
      - V(leading) lets C(/usr/local/cuda) lead to O(prefix), by an alternative.
    type: str
    choices: [noted, restored, leading]
    required: true
attributes:
  check_mode:
    support: full
    description: V(restored) says nothing in check mode, since nothing was installed that it could put back.
  diff_mode:
    support: full
  idempotent:
    support: full
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Note what leads to a CUDA
  nvidia_global_links:
    prefix: /usr/local/cuda-11.2
    state: noted

- name: Put back what led to a CUDA
  nvidia_global_links:
    prefix: /usr/local/cuda-11.2
    state: restored

- name: Let /usr/local/cuda lead to CUDA 11.2
  nvidia_global_links:
    prefix: /usr/local/cuda-11.2
    state: leading
"""

RETURN = r"""
links:
  description: Links below C(/usr/local) that lead to a CUDA, and where to.
  returned: success
  type: dict
  sample: {/usr/local/cuda: /usr/local/cuda-11.8}
loader_files:
  description: Files of C(/etc/ld.so.conf.d) that let the loader of every program search a CUDA.
  returned: success
  type: list
  elements: str
  sample: [/etc/ld.so.conf.d/000_cuda.conf]
put_back:
  description: What there was before this run and is no more.
  returned: success
  type: list
  elements: str
  sample: ["/usr/local/cuda -> /usr/local/cuda-11.2", /etc/ld.so.conf.d/988_cuda-11.conf]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.errors import StackError
from ..module_utils.tensorflow_stack.packages.cuda_links import Node


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["noted", "restored", "leading"], "required": True},
        },
        supports_check_mode=True,
    )
    node = Node()
    act = {"noted": node.note, "restored": node.restore, "leading": node.lead}[module.params["state"]]
    try:
        outcome = act(module.params["prefix"], check=module.check_mode)
    except StackError as error:
        module.fail_json(msg=error.message, **error.details)
    except OSError as error:
        module.fail_json(msg=f"What leads this machine to a CUDA cannot be changed: {error}. Run as root.")
    module.exit_json(
        changed=outcome.before.lines != outcome.after.lines,
        links={path: leads for path, (_, leads) in outcome.after.links.items()},
        loader_files=sorted(outcome.after.loader_files),
        put_back=list(outcome.restored),
        diff={"before": _text(outcome.before.lines), "after": _text(outcome.after.lines)},
    )


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
