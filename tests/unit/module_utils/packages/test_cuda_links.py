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
        self.cuda_links = cuda_links.CudaLinks(root=str(root), record=str(root / "record.json"))
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
    was = machine.cuda_links.read()
    prefix = machine.prefix("11.2")
    recorded = machine.cuda_links.record(prefix, check=False)
    assert (recorded.before, recorded.after, recorded.put_back) == (was, was, ())
    machine.install("11.2")
    assert machine.cuda_links.read() != was
    restored = machine.cuda_links.restore(prefix, check=False)
    assert machine.cuda_links.read() == was == restored.after
    assert f"{machine.link('cuda')} -> {prefix}" in restored.put_back
    assert not (machine.root / "record.json").exists()
    assert (["ldconfig"] in machine.commands) == (before is not older_package)


def test_killed_between(machine: Machine) -> None:
    plain_link(machine)
    was, prefix = machine.cuda_links.read(), machine.prefix("11.2")
    machine.cuda_links.record(prefix, check=False)
    machine.install("11.2")
    # The next run starts over: check mode says what the run then does.
    foreseen = machine.cuda_links.record(prefix, check=True)
    assert machine.leads == "cuda-11.2"
    recorded = machine.cuda_links.record(prefix, check=False)
    assert foreseen == recorded
    assert recorded.after == was == machine.cuda_links.read()
    machine.install("11.2")
    machine.cuda_links.restore(prefix, check=False)
    assert machine.cuda_links.read() == was


def test_link_that_was_there_before_stays(machine: Machine) -> None:
    machine.install("11.2")
    was, prefix = machine.cuda_links.read(), machine.prefix("11.2")
    machine.cuda_links.record(prefix, check=False)
    assert machine.cuda_links.restore(prefix, check=False).put_back == ()
    assert machine.cuda_links.read() == was
    assert machine.leads == "cuda-11.2"


def test_link_that_an_operator_makes_later_stays(machine: Machine) -> None:
    prefix = machine.prefix("11.2")
    machine.cuda_links.record(prefix, check=False)
    machine.cuda_links.restore(prefix, check=False)
    machine.link("cuda").symlink_to(prefix)
    assert machine.cuda_links.record(prefix, check=False).put_back == ()
    machine.cuda_links.restore(prefix, check=False)
    assert machine.leads == "cuda-11.2"


def test_check_mode_writes_nothing(machine: Machine) -> None:
    prefix = machine.prefix("11.2")
    machine.cuda_links.record(prefix, check=True)
    assert not (machine.root / "record.json").exists()
    machine.cuda_links.restore(prefix, check=True)
    machine.cuda_links.link(prefix, check=True)
    assert (machine.commands, machine.leads) == ([], None)


@pytest.mark.parametrize("before", [nothing, plain_link])
def test_link(machine: Machine, before: object) -> None:
    before(machine)  # type: ignore[operator]
    prefix = machine.prefix("11.2")
    foreseen = machine.cuda_links.link(prefix, check=True)
    assert machine.cuda_links.link(prefix, check=False) == foreseen
    assert machine.leads == "cuda-11.2"
    assert machine.commands[0] == ["update-alternatives", "--install", str(machine.link("cuda")), "cuda", prefix, "112"]
    again = machine.cuda_links.link(prefix, check=False)
    assert again.before == again.after


def test_directory_cannot_lead(machine: Machine) -> None:
    machine.link("cuda").mkdir()
    with pytest.raises(StackError, match="is not a link and cannot point to .*cuda_toolkit_global_link"):
        machine.cuda_links.link(machine.prefix("11.2"), check=False)


def test_what_cannot_be_put_back_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    older_package(machine)
    prefix = machine.prefix("11.2")
    machine.cuda_links.record(prefix, check=False)
    machine.install("11.2")
    monkeypatch.setattr(cuda_links, "_run", lambda command: None)
    monkeypatch.setattr(cuda_links.os, "replace", lambda source, target: os.unlink(source))
    with pytest.raises(StackError, match="could not be restored.*They were .*cuda-10.2.*, they are .*cuda-11.2"):
        machine.cuda_links.restore(prefix, check=False)
    assert (machine.root / "record.json").exists(), "the next run tries again"


def test_damaged_record(machine: Machine) -> None:
    (machine.root / "record.json").write_text("{")
    with pytest.raises(StackError, match="Remove it and run again"):
        machine.cuda_links.record(machine.prefix("11.2"), check=False)
