#!/usr/bin/python
# Copyright: TensorFlow GPU Stack contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: what the environments of a root take on disk."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tensorflow_cache
short_description: Show what the environments take on disk, and remove cached wheels that no build contains
version_added: "1.0.0"
description:
  - Lists uv's cache, the builds, the downloaded Pythons and the tools of a root, with the space that the removal of
    each would free. Files that builds and cache share are counted only for the root.
  - With O(prune), removes the cached wheels and installed packages of which no build has the version, and has
    C(uv cache prune) remove what nothing in the cache refers to. The wheels of all builds stay, so that a
    damaged build can be repaired without a network.
  - Builds and Pythons are never removed.
options:
  root:
    description: Directory of all environments.
    type: path
    required: true
  prune:
    description: Remove what no build contains.
    type: bool
    default: false
  limit:
    description: >-
      Megabytes that the cache may take, not counting what builds share with it. If it takes no more, O(prune) removes
      nothing. V(0) for no limit.
    type: int
    default: 0
  uv:
    description: The pinned uv, a row of the table C(uv). Required if O(prune).
    type: dict
  index_url:
    description: Package index from which uv itself is downloaded; the public one if not set.
    type: str
attributes:
  check_mode:
    support: full
    description: Lists the wheels that would be removed. What C(uv cache prune) would free besides is not known.
  diff_mode:
    support: full
    description: The cached wheels that no build contains, before and after.
  idempotent:
    support: full
    description: Run again in the same state of the node, it changes nothing.
author:
  - TensorFlow GPU Stack contributors
"""

EXAMPLES = r"""
- name: Show what the environments take
  tensorflow_cache:
    root: /opt/tensorflow

- name: Remove cached wheels that no build contains
  tensorflow_cache:
    root: /opt/tensorflow
    prune: true
    uv: "{{ uv_record }}"
"""

RETURN = r"""
places:
  description: Each directory, what it is, and the bytes that its removal would free.
  returned: success
  type: list
  elements: dict
  sample: [{path: /opt/tensorflow/.cache, what: wheels and installed packages that no build shares, bytes: 1900000000}]
superfluous:
  description: >-
    Cached wheels that no build contains, as C(name==version), and installed ones, by their paths below O(root). With
    O(prune) they were removed.
  returned: success
  type: list
  elements: str
  sample: [tensorflow==2.15.1]
cache_bytes:
  description: Bytes that the cache takes afterwards, not counting what builds share with it.
  returned: success
  type: int
  sample: 1900000000
freed_bytes:
  description: Bytes that were freed.
  returned: success
  type: int
  sample: 1800000000
lines:
  description: The same for a person.
  returned: success
  type: list
  elements: str
  sample: [" 1900 MB  /opt/tensorflow/.cache/uv (wheels in uv's cache that no build shares)"]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.tensorflow_stack.boundary import failing_by_message
from ..module_utils.tensorflow_stack.environment import cache
from ..module_utils.tensorflow_stack.io.uv import ensure_uv


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "prune": {"type": "bool", "default": False},
            "limit": {"type": "int", "default": 0},
            "uv": {"type": "dict"},
            "index_url": {"type": "str"},
        },
        required_if=[("prune", True, ("uv",))],
        supports_check_mode=True,
    )
    with failing_by_message(module):
        root, limit = module.params["root"], module.params["limit"] * 1000000
        is_pruned = module.params["prune"] and cache.is_over(root, limit)
        if is_pruned and not module.check_mode and os.path.isdir(os.path.join(root, ".cache", "uv")):
            uv = ensure_uv(
                directory=os.path.join(root, ".tools"), record=module.params["uv"], index_url=module.params["index_url"]
            )
            outcome = cache.prune(root, uv)
        else:
            outcome = cache.plan_prune(root)
        names = sorted({f"{wheel.name}=={wheel.version}" for wheel in outcome.wheels})
        names += [f"{os.path.relpath(path, root)} (installed)" for path in outcome.packages]
        text = "".join(f"{name}\n" for name in names)
        module.exit_json(
            changed=is_pruned and bool(names or outcome.freed_bytes),
            places=[place._asdict() for place in outcome.places],
            superfluous=names,
            cache_bytes=outcome.cache_bytes,
            freed_bytes=outcome.freed_bytes,
            lines=[
                *_lines(outcome, is_pruned=is_pruned and not module.check_mode),
                *_about_limit(outcome, limit, is_pruned=is_pruned),
            ],
            diff={"before": text, "after": "" if is_pruned else text},
        )


def _lines(outcome: cache.CacheOutcome, *, is_pruned: bool) -> list[str]:
    lines = [f"{place.bytes / 1e6:7,.0f} MB  {place.path} ({place.what})" for place in outcome.places]
    found = f"{len(outcome.wheels)} wheels and {len(outcome.packages)} installed packages that no build contains"
    if is_pruned:
        return [*lines, f"{outcome.freed_bytes / 1e6:7,.0f} MB  freed ({found})"]
    if not outcome.wheels and not outcome.packages:
        return [*lines, "there is nothing to prune"]
    return [*lines, f"make cache PRUNE=1 removes {found}"]


def _about_limit(outcome: cache.CacheOutcome, limit: int, *, is_pruned: bool) -> list[str]:
    if not limit:
        return []
    line = f"the cache takes {outcome.cache_bytes / 1e6:,.0f} MB, and tensorflow_cache_limit is {limit / 1e6:,.0f} MB"
    if is_pruned and outcome.cache_bytes > limit:
        # Without them a damaged build could not be repaired without a network.
        line += "; the rest are wheels of builds, which make remove or a smaller tensorflow_keep would free"
    return [line]


if __name__ == "__main__":
    main()
