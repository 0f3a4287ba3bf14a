#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a proven environment as one image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_image
short_description: Pack a proven environment as one image that nodes mount
version_added: "1.0.0"
description:
  - Packs the build in use as a read-only squashfs, and writes its hash tree for dm-verity and a manifest to the same
    directory. A key of the site can sign the manifest. M(tensorflow_venv) mounts the image on nodes instead of building
    there.
  - Only a build that is whole and that M(tensorflow_gpu_check) has proven on this machine is packed. Nothing of it is
    changed.
  - Runs on the machine that has the environment, with the Python of the controller.
requirements:
  - Python 3.10 or newer
  - mksquashfs 4.4 or newer (squashfs-tools)
  - veritysetup (cryptsetup)
options:
  root:
    description: Directory of all environments, at the path that it has on the nodes.
    type: path
    required: true
  environment:
    description: Name of the environment; the one applied last if not set.
    type: str
  directory:
    description: Directory for the image.
    type: path
    required: true
  signing_key:
    description: Path of a private key of ssh, or fingerprint of a secret key of gpg, to sign the manifest with.
    type: str
  time_limit:
    description: Seconds that each program may run for.
    type: float
    default: 7200
attributes:
  check_mode:
    support: full
    description: Looks at the environment and the image, and packs nothing.
  diff_mode:
    support: full
    description: The environment in the image before and after.
  idempotent:
    support: full
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Pack the environment applied last
  tensorflow_image:
    root: /opt/tensorflow
    directory: /srv/images
    signing_key: /root/.ssh/site
"""

RETURN = r"""
image:
  description: Path of the image, for tensorflow_image.
  returned: success
  type: str
  sample: /srv/images/tensorflow-2.8.0-1a2b3c4d5e6f.squashfs
build:
  description: The build that was packed.
  returned: success
  type: str
  sample: tensorflow-2.8.0-1a2b3c4d5e6f-1
bytes:
  description: Size of the image; null in check mode if it has yet to be packed.
  returned: success
  type: int
  sample: 610000000
root_hash:
  description: Root hash of dm-verity; null in check mode if the image has yet to be packed.
  returned: success
  type: str
  sample: 4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076
is_signed:
  description: Whether the manifest is signed.
  returned: success
  type: bool
  sample: true
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.bundle.images import read_image
from ..module_utils.tensorflow_stack.bundle.signing import kind_of_key, name_signatures, sign
from ..module_utils.tensorflow_stack.environment.packing import pack
from ..module_utils.tensorflow_stack.io.commands import limit_programs
from ..module_utils.tensorflow_stack.records.image_note import MANIFEST_SUFFIX, SUFFIX


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "environment": {"type": "str"},
            "directory": {"type": "path", "required": True},
            "signing_key": {"type": "str", "no_log": False},
            "time_limit": {"type": "float", "default": 7200},
        },
        supports_check_mode=True,
    )
    with failing_by_message(module):
        limit_programs(module.params["time_limit"], "tensorflow_image_time_limit")
        os.umask(0o022)
        key, directory = module.params["signing_key"], module.params["directory"]
        wanted = kind_of_key(key, "image_signing_key") if key else None
        outcome = pack(module.params["root"], module.params["environment"], directory, check_mode=module.check_mode)
        stem = os.path.basename(outcome.path)[: -len(SUFFIX)]
        signatures = name_signatures(os.path.join(directory, stem + MANIFEST_SUFFIX))
        is_signed = any(map(os.path.isfile, signatures.values())) and not outcome.changed
        has_to_sign = bool(wanted) and (outcome.changed or not os.path.isfile(signatures[str(wanted)]))
        if has_to_sign and not module.check_mode:
            sign(directory, key, stem + MANIFEST_SUFFIX)
        # As nodes will read it.
        manifest = None if module.check_mode and outcome.changed else read_image(outcome.path, signers=None)
        line = f"{outcome.build}{', signed' if is_signed or has_to_sign else ''}\n"
        before = f"{outcome.build}{', signed' if is_signed else ''}\n" if not outcome.changed else ""
        module.exit_json(
            changed=outcome.changed or has_to_sign,
            image=outcome.path,
            build=outcome.build,
            bytes=manifest["bytes"] if manifest else None,
            root_hash=manifest["root_hash"] if manifest else None,
            is_signed=is_signed or has_to_sign,
            diff={"before": before, "after": line, "before_header": outcome.path, "after_header": outcome.path},
        )


if __name__ == "__main__":
    main()
