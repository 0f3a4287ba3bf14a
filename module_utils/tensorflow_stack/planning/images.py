"""An image instead of a build: what it makes of a wish, and why it is not what a node needs. Pure.

An image is taken for an environment that is planned as without it, and that it has to be: of the same lock,
interpreter and libraries. So a build of this environment and its image can replace each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..records.image import ImageManifest
from .asked import Wish
from .node import Environment, NodeFacts
from .stack import Policy, Refusal

# Of a wish without one.
_NO_RELEASE = ("", "newest")
_SET = "Pack it again (make image) where this is planned the same, or leave tensorflow_image out to have it built."


@dataclass(frozen=True)
class Image:
    """An image that tensorflow_image names; `source` is its path or URL."""

    source: str
    manifest: ImageManifest
    mounts: Mapping[str, bool]  # what the node can mount it with: systemd, squashfs, verity

    def as_dict(self) -> dict[str, Any]:
        """For the plan."""
        manifest = self.manifest
        return {
            "source": self.source,
            "sha256": manifest.sha256,
            "bytes": manifest.bytes,
            "verity_sha256": manifest.verity_sha256,
            "verity_bytes": manifest.verity_bytes,
            "root_hash": manifest.root_hash,
            "protection": "dm-verity" if self.mounts.get("verity") else "compared",
        }


def read_image(given: Mapping[str, Any] | None, node: Mapping[str, Any]) -> Image | None:
    """Of the options of `tensorflow_stack_info`, whose caller has read the manifest."""
    if given is None:
        return None
    fields = {key: value for key, value in given.items() if key != "source"}
    return Image(given["source"], ImageManifest(**fields), node.get("images") or {})


def with_image(wish: Wish, image: Image | None) -> Wish:
    """The wish for the environment in an image; for what was applied, an image is not asked."""
    if image is None or wish.release == "current":
        return wish
    manifest = image.manifest
    return replace(
        wish,
        release=manifest.release if wish.release in _NO_RELEASE else wish.release,
        environment=wish.environment or manifest.name,
        policy=_policy(wish.policy, manifest),
    )


def _policy(policy: Policy, manifest: ImageManifest) -> Policy:
    """Its Python comes from where it came when the image was built."""
    source = policy.python_source
    if source == "auto":
        is_uv = manifest.python.startswith(f"{manifest.root}/.pythons/")
        is_distro = manifest.python == f"/usr/bin/python{manifest.minor}"
        source = "uv" if is_uv else "auto" if is_distro else "found"
    return replace(policy, python=policy.python or manifest.minor, python_source=source)


def interpreters_for(node: NodeFacts, image: Image | None) -> NodeFacts:
    """The node with no other Python than that of the image. One of the root's own is named by the link to it."""
    if image is None:
        return node
    path = image.manifest.python
    own = f"{node.root}/.pythons/"
    rows = [row for row in node.interpreters if row.path == path]
    if not rows and path.startswith(own):
        rows = [
            replace(row, path=path)
            for row in node.interpreters
            if row.minor == image.manifest.minor and row.path.startswith(own)
        ][-1:]
    return replace(node, interpreters=tuple(rows))


def refuse_image(
    image: Image, made: Mapping[str, Any], lock_sha256: str | None, node: NodeFacts
) -> tuple[Refusal, ...]:
    """Why the image is not the environment that is planned, or cannot be mounted here."""
    manifest, planned = image.manifest, made["environment"]
    lacking = [name for name in ("systemd", "squashfs") if not image.mounts.get(name)]
    if lacking or not node.is_root:
        found = "a run that is not root's" if not node.is_root else f"a node without {' and '.join(lacking)}"
        return (_refuse(f"root, systemd and squashfs to mount {image.source}", found),)
    pairs = (
        ("the release", made["release"], manifest.release),
        ("the path", planned["path"], f"{manifest.root}/{manifest.name}"),
        ("the Python", made["python"]["path"], manifest.python),
        ("the lock", lock_sha256 or "not made yet", manifest.lock_sha256),
        ("the identity, with CUDA and GPUs,", planned["digest"], manifest.digest),
    )
    differing = next((pair for pair in pairs if pair[1] != pair[2]), None)
    if differing is None:
        return ()
    what, wanted, found = differing
    return (_refuse(f"an image in which {what} is {wanted}", f"{found} in {image.source}"),)


def refuse_changes(current: Environment, root: str) -> tuple[Refusal, ...]:
    """What somebody wants to add to an image."""
    return (
        Refusal(
            "environment",
            found=f"{root}/{current.name}, which is a read-only image",
            wanted="an environment to which packages can be added",
            set="Leave tensorflow_image out and set tensorflow_environment to a name for an environment beside it, "
            "with the packages in a file that tensorflow_requirements names; or add them where the image is packed, "
            "and pack it again (make image).",
        ),
    )


def _refuse(wanted: str, found: str) -> Refusal:
    return Refusal("image", found=found, wanted=wanted, set=_SET)
