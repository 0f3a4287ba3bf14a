"""The rows of the tables about nodes: what they are, and what their systems have to have."""

from __future__ import annotations

from typing import NamedTuple


class BaseSystem(NamedTuple):
    """The release of a distribution that others say they are built on, by its codename."""

    codename: str
    os: str
    version_id: str
    source: tuple[str, ...]


class Glibc(NamedTuple):
    """The oldest glibc that the wheels of some releases run on."""

    releases: str
    glibc: str
    source: tuple[str, ...]


class NodeKindMeaning(NamedTuple):
    """What a kind of node means for a plan; module_utils' node/kind.py tells the kinds."""

    aspect: str  # container, platform, system, driver
    kind: str
    name: str
    recognised_by: str
    driver: str  # own, libraries, kept
    packages: str  # own, none
    keeper: str  # who decides on the driver
    instead: str  # what to do if the driver has to change
    source: tuple[str, ...]
