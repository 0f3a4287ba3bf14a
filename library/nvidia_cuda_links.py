#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the machine-wide links to a CUDA."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_cuda_links
short_description: Keep an installation of CUDA from changing what the whole machine uses
version_added: "1.0.0"
description:
  - NVIDIA's packages point C(/usr/local/cuda) to the CUDA that they install, and add it to the directories that the
    loader searches for every program. This module records both before the installation and restores them afterwards.
  - In between, the record is in C(/etc/tensorflow-gpu-stack/cuda-links.json). If a run is killed there, the next
    O(state=recorded) restores them first.
options:
  prefix:
    description: Absolute path of the CUDA to install.
    type: path
    required: true
  state:
    description:
      - V(recorded) records them before the installation, V(restored) restores them after it.
      - V(linked) points C(/usr/local/cuda) to O(prefix), by an alternative.
    type: str
    choices: [recorded, restored, linked]
    required: true
attributes:
  check_mode:
    support: full
    description: In check mode V(restored) reports nothing, because nothing was installed that it could revert.
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
- name: Record the links to a CUDA
  nvidia_cuda_links:
    prefix: /usr/local/cuda-11.2
    state: recorded

- name: Restore the links to a CUDA
  nvidia_cuda_links:
    prefix: /usr/local/cuda-11.2
    state: restored

- name: Let /usr/local/cuda lead to CUDA 11.2
  nvidia_cuda_links:
    prefix: /usr/local/cuda-11.2
    state: linked
"""

RETURN = r"""
links:
  description: Links below C(/usr/local) that point to a CUDA, with their targets.
  returned: success
  type: dict
  sample: {/usr/local/cuda: /usr/local/cuda-11.8}
loader_files:
  description: Files of C(/etc/ld.so.conf.d) that add a CUDA to the directories of the loader.
  returned: success
  type: list
  elements: str
  sample: [/etc/ld.so.conf.d/000_cuda.conf]
put_back:
  description: Links and files that this run reverted, as they were before it.
  returned: success
  type: list
  elements: str
  sample: ["/usr/local/cuda -> /usr/local/cuda-11.2", /etc/ld.so.conf.d/988_cuda-11.conf]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.errors import StackError
from ..module_utils.tensorflow_stack.packages.cuda_links import CudaLinks


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["recorded", "restored", "linked"], "required": True},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        links = CudaLinks()
        act = {"recorded": links.record, "restored": links.restore, "linked": links.link}[module.params["state"]]
        try:
            change = act(module.params["prefix"], check=module.check_mode)
        except StackError:
            raise
        except OSError as error:
            module.fail_json(msg=f"The machine-wide links to a CUDA cannot be changed: {error}. Run as root.")
        module.exit_json(
            changed=change.before.lines != change.after.lines,
            links={path: link.resolved for path, link in change.after.links.items()},
            loader_files=sorted(change.after.loader_files),
            put_back=list(change.put_back),
            diff={"before": _text(change.before.lines), "after": _text(change.after.lines)},
        )


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
