"""The options of `tensorflow_stack_info`, and what they are for each of several environments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of tensorflow_stack_info, as an argument spec.
OPTIONS: dict[str, dict[str, Any]] = {
    "release": {"type": "str", "default": "newest"},
    "requirements": {"type": "path"},
    "node": {"type": "dict"},
    "environments_root": {"type": "path"},
    "environment": {"type": "str"},
    "policy": {
        "type": "dict",
        # Not a default of {}: ansible-core fills in those of the suboptions, in the one dictionary that is here.
        "apply_defaults": True,
        "options": {
            "gpu": {"type": "str", "choices": ["auto", "required", "none"], "default": "auto"},
            "driver_source": {
                "type": "str",
                "choices": ["auto", "found", "distro", "nvidia_repo"],
                "default": "auto",
            },
            "driver_version": {"type": "str", "default": ""},
            "kernel_modules": {"type": "str", "choices": ["auto", "open", "proprietary"], "default": "auto"},
            "allow_downgrade": {"type": "bool", "default": False},
            "cuda_source": {
                "type": "str",
                "choices": ["auto", "found", "wheels", "nvidia_repo", "distro", "redist"],
                "default": "auto",
            },
            "cudnn_source": {
                "type": "str",
                "choices": ["auto", "found", "wheels", "nvidia_repo", "redist"],
                "default": "auto",
            },
            "python": {"type": "str", "default": ""},
            "python_mirror": {"type": "str", "default": ""},
            "python_source": {"type": "str", "choices": ["auto", "found", "distro", "uv"], "default": "auto"},
            "additions": {"type": "str", "choices": ["keep", "stop", "drop"], "default": "keep"},
            "ignored_gpus": {"type": "list", "elements": "str", "default": []},
            "source_builds": {"type": "list", "elements": "str", "default": []},
        },
    },
    "image": {"type": "str"},
    "packages": {"type": "str", "default": ""},
    "packages_removed": {"type": "str", "default": ""},
    "tables": {"type": "path", "required": True},
    "shipped_locks": {"type": "path", "required": True},
    "locks": {"type": "path", "required": True},
    "cached": {"type": "list", "elements": "str", "default": []},
    "enforced": {"type": "bool", "default": True},
    "in_use": {"type": "bool", "default": True},
    "refuse_in_use": {"type": "bool", "default": False},
    "environments": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "version": {"type": "str"},
            "requirements": {"type": "path"},
            "environment": {"type": "str"},
            "image": {"type": "str"},
            "python": {"type": "str"},
            "gpu": {"type": "str", "choices": ["auto", "required", "none"]},
            "cuda_source": {"type": "str", "choices": ["auto", "found", "wheels", "nvidia_repo", "distro", "redist"]},
            "cudnn_source": {"type": "str", "choices": ["auto", "found", "wheels", "nvidia_repo", "redist"]},
        },
    },
    "check_names": {"type": "bool", "default": False},
    "report": {"type": "path"},
    "bundle": {"type": "str"},
    "bundle_signers": {"type": "path"},
    "tools_directory": {"type": "path"},
}
# What an item of `environments` overrides; its other keys override those of the policy.
_OVERRIDDEN = {"version": "release", "requirements": "requirements", "environment": "environment", "image": "image"}


def each_environment(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The options of each environment that is planned. The last one is to be in use."""
    items = options["environments"] or [{}]
    found = []
    for number, item in enumerate(items, 1):
        given = {key: value for key, value in item.items() if value}
        found.append(
            {
                **options,
                **{_OVERRIDDEN[key]: value for key, value in given.items() if key in _OVERRIDDEN},
                "policy": {
                    **(options["policy"] or {}),
                    **{key: value for key, value in given.items() if key not in _OVERRIDDEN},
                },
                "in_use": options["in_use"] and number == len(items),
            }
        )
    return found
