from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.packages import cuda_links


class Machine:
    """/usr/local, /etc/ld.so.conf.d and an update-alternatives that knows what it needs to."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        for directory in ("usr/local", "etc/ld.so.conf.d", "etc/alternatives"):
            (root / directory).mkdir(parents=True)
        monkeypatch.setattr(cuda_links, "_ALTERNATIVES", str(root / "etc/alternatives"))
        monkeypatch.setattr(cuda_links, "_run", self.run)
        self.node = cuda_links.Node(root=str(root), note=str(root / "note.json"))
        self.choices: dict[str, list[str]] = {}

    def prefix(self, version: str) -> str:
        path = self.root / "usr/local" / f"cuda-{version}"
        path.mkdir(exist_ok=True)
        return str(path)

    def link(self, name: str) -> Path:
        return self.root / "usr/local" / name

    def loader_file(self, name: str, text: str) -> None:
        (self.root / "etc/ld.so.conf.d" / name).write_text(text)

    def run(self, command: list[str]) -> None:
        self.commands.append(command)
        if command[1:2] == ["--remove"]:
            _, _, name, prefix = command
            self.choices[name].remove(prefix)
            self._lead(name)
        elif command[1:2] == ["--install"]:
            _, _, _, name, prefix, _ = command
            self.choices.setdefault(name, []).append(prefix)
            self._lead(name)

    def _lead(self, name: str) -> None:
        """As in automatic mode: the newest one, and none without a choice. A plain link is replaced without a word."""
        alternative = self.root / "etc/alternatives" / name
        for path in (alternative, self.link(name)):
            if path.is_symlink():
                path.unlink()
        if self.choices[name]:
            alternative.symlink_to(sorted(self.choices[name])[-1])
            self.link(name).symlink_to(alternative)

    def install(self, version: str) -> None:
        """What NVIDIA's packages do when they are configured."""
        prefix = self.prefix(version)
        for name in ("cuda", "cuda-" + version.partition(".")[0]):
            if prefix not in self.choices.get(name, []):
                self.run(["update-alternatives", "--install", str(self.link(name)), name, prefix, "1"])
        self.loader_file("000_cuda.conf", "/usr/local/cuda/targets/x86_64-linux/lib\n")
        self.commands.clear()

    @property
    def leads(self) -> str | None:
        link = self.link("cuda")
        return os.path.basename(os.path.realpath(link)) if link.is_symlink() else None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def nothing(machine: Machine) -> None: ...


def plain_link(machine: Machine) -> None:
    machine.link("cuda").symlink_to(machine.prefix("10.2"))


def older_package(machine: Machine) -> None:
    machine.install("10.2")


def broken_link(machine: Machine) -> None:
    machine.link("cuda").symlink_to("/usr/local/cuda-9.0")


def file_of_an_operator(machine: Machine) -> None:
    machine.loader_file("operator.conf", f"{machine.prefix('10.2')}/lib64\n")


@pytest.mark.parametrize("before", [nothing, plain_link, older_package, broken_link, file_of_an_operator])
def test_installing_changes_nothing(machine: Machine, before: object) -> None:
    before(machine)  # type: ignore[operator]
    was = machine.node.look()
    prefix = machine.prefix("11.2")
    noted = machine.node.note(prefix, check=False)
    assert (noted.before, noted.after, noted.restored) == (was, was, ())
    machine.install("11.2")
    assert machine.node.look() != was
    restored = machine.node.restore(prefix, check=False)
    assert machine.node.look() == was == restored.after
    assert f"{machine.link('cuda')} -> {prefix}" in restored.restored
    assert not (machine.root / "note.json").exists()
    assert (["ldconfig"] in machine.commands) == (before is not older_package)


def test_killed_between(machine: Machine) -> None:
    plain_link(machine)
    was, prefix = machine.node.look(), machine.prefix("11.2")
    machine.node.note(prefix, check=False)
    machine.install("11.2")
    # The next run starts over: check mode says what the run then does.
    foreseen = machine.node.note(prefix, check=True)
    assert machine.leads == "cuda-11.2"
    noted = machine.node.note(prefix, check=False)
    assert foreseen == noted
    assert noted.after == was == machine.node.look()
    machine.install("11.2")
    machine.node.restore(prefix, check=False)
    assert machine.node.look() == was


def test_link_that_was_there_before_stays(machine: Machine) -> None:
    machine.install("11.2")
    was, prefix = machine.node.look(), machine.prefix("11.2")
    machine.node.note(prefix, check=False)
    assert machine.node.restore(prefix, check=False).restored == ()
    assert machine.node.look() == was
    assert machine.leads == "cuda-11.2"


def test_link_that_an_operator_makes_later_stays(machine: Machine) -> None:
    prefix = machine.prefix("11.2")
    machine.node.note(prefix, check=False)
    machine.node.restore(prefix, check=False)
    machine.link("cuda").symlink_to(prefix)
    assert machine.node.note(prefix, check=False).restored == ()
    machine.node.restore(prefix, check=False)
    assert machine.leads == "cuda-11.2"


def test_check_mode_writes_nothing(machine: Machine) -> None:
    prefix = machine.prefix("11.2")
    machine.node.note(prefix, check=True)
    assert not (machine.root / "note.json").exists()
    machine.node.restore(prefix, check=True)
    machine.node.lead(prefix, check=True)
    assert (machine.commands, machine.leads) == ([], None)


@pytest.mark.parametrize("before", [nothing, plain_link])
def test_lead(machine: Machine, before: object) -> None:
    before(machine)  # type: ignore[operator]
    prefix = machine.prefix("11.2")
    foreseen = machine.node.lead(prefix, check=True)
    assert machine.node.lead(prefix, check=False) == foreseen
    assert machine.leads == "cuda-11.2"
    assert machine.commands[0] == ["update-alternatives", "--install", str(machine.link("cuda")), "cuda", prefix, "112"]
    again = machine.node.lead(prefix, check=False)
    assert again.before == again.after


def test_directory_cannot_lead(machine: Machine) -> None:
    machine.link("cuda").mkdir()
    with pytest.raises(StackError, match="is no link and cannot lead to .*cuda_toolkit_global_link"):
        machine.node.lead(machine.prefix("11.2"), check=False)


def test_what_cannot_be_put_back_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    older_package(machine)
    prefix = machine.prefix("11.2")
    machine.node.note(prefix, check=False)
    machine.install("11.2")
    monkeypatch.setattr(cuda_links, "_run", lambda command: None)
    monkeypatch.setattr(cuda_links.os, "replace", lambda source, target: os.unlink(source))
    with pytest.raises(StackError, match="could not be put back.*It was .*cuda-10.2.*, it is .*cuda-11.2"):
        machine.node.restore(prefix, check=False)
    assert (machine.root / "note.json").exists(), "the next run tries again"


def test_damaged_note(machine: Machine) -> None:
    (machine.root / "note.json").write_text("{")
    with pytest.raises(StackError, match="Remove it and run again"):
        machine.node.note(machine.prefix("11.2"), check=False)
