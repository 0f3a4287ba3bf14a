# SPDX-License-Identifier: Apache-2.0
"""A connection to a node that is not there: it answers with what the module returned on a real one."""

from __future__ import annotations

DOCUMENTATION = r"""
name: captured
short_description: Runs on this machine and keeps what a module returned, or answers with that
description:
  - With C(captured_mode=keep) a command runs on this machine, as with the connection C(local), and the first answer
    of M(gpu_node_info) is kept. With C(captured_mode=answer) no command runs, and the kept answer is returned.
  - Another command than that module is an error of a node that only answers, so that nothing is made up.
options:
  mode:
    description: Keep what a module returned here, or answer with it.
    type: str
    choices: [keep, answer]
    required: true
    vars:
      - name: captured_mode
  file:
    description: File with the answer.
    type: path
    required: true
    vars:
      - name: captured_file
extends_documentation_fragment:
  - connection_pipelining
author:
  - TensorFlow GPU Stack contributors
"""

from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection.local import Connection as Local

_MODULE = b"gpu_node_info"


class Connection(Local):  # type: ignore[misc]  # ansible-core has no types
    transport = "captured"

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        path, is_reading = Path(self.get_option("file")), _MODULE in (in_data or b"")
        if self.get_option("mode") == "keep":
            code, stdout, stderr = super().exec_command(cmd, in_data, sudoable)
            if is_reading and code == 0 and not path.exists():
                path.write_bytes(stdout)
            return code, stdout, stderr
        if not is_reading:
            raise AnsibleConnectionFailure(f"This node only answers what a node returned; it cannot run {cmd}.")
        return 0, path.read_bytes(), b""
