"""What a package manager has to do for a component. Its answers are judged by what is installed, not by exit codes."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping

from .model import ClosurePlan, InstalledPackage, PackageRequest, StreamChange
from .record import PackagesRecord


class Solution(abc.ABC):
    """A plan with what the package manager needs to do it."""

    def __init__(self, plan: ClosurePlan) -> None:
        self.plan = plan

    @abc.abstractmethod
    def download(self) -> None:
        """Fetch every file before anything changes. Raises StackError if one is missing or damaged."""

    @abc.abstractmethod
    def apply(self) -> str:
        """Do the one transaction; returns what the package manager and the packages' scripts printed."""


class PackageManager(abc.ABC):
    # --- What is installed ----------------------------------------------------------------------------

    @abc.abstractmethod
    def installed(self) -> dict[str, InstalledPackage]: ...

    @abc.abstractmethod
    def is_interrupted(self) -> bool:
        """Whether the package manager was killed and refuses to work until that is repaired."""

    @abc.abstractmethod
    def foreign_holds(self, state: Mapping[str, InstalledPackage], our_holds: Iterable[str]) -> dict[str, str]:
        """Packages that somebody else holds, with the command that lifts each hold."""

    @abc.abstractmethod
    def enabled_stream(self, module: str) -> str | None:
        """Of a module of dnf."""

    # --- What is to be done ---------------------------------------------------------------------------

    @abc.abstractmethod
    def compare(self, left: str, right: str) -> int:
        """-1, 0 or 1, as the package manager orders two versions."""

    @abc.abstractmethod
    def solve(
        self,
        request: PackageRequest,
        state: Mapping[str, InstalledPackage],
        *,
        recorded: Mapping[str, str],
        needs_unpacking: Iterable[str],
    ) -> Solution:
        """The closure and the one transaction that leads to it. Raises RefusedError."""

    @abc.abstractmethod
    def solve_removal(self, names: Iterable[str], stream: StreamChange | None) -> Solution:
        """What has to be removed with these packages, and the stream that is enabled instead."""

    @abc.abstractmethod
    def needed_by_others(self, candidates: Iterable[str], state: Mapping[str, InstalledPackage]) -> set[str]:
        """Those of the candidates without which another installed package would lack what it depends on."""

    # --- Having it done -------------------------------------------------------------------------------

    @abc.abstractmethod
    def heal(self) -> str:
        """Finish what an interrupted run left half done; returns what was printed."""

    @abc.abstractmethod
    def hold(self, *, place: Iterable[str], lift: Iterable[str]) -> None:
        """Hold packages at their versions, and lift holds, apart from those that `hold_files` make."""

    @abc.abstractmethod
    def hold_files(self, records: Mapping[str, PackagesRecord], component: str) -> dict[str, str | None]:
        """The files that hold what is recorded, with their text; None for one that must not exist."""

    @abc.abstractmethod
    def explain(self, output: str) -> str:
        """Why packages are not as planned, from what was printed."""
