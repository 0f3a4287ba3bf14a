from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import run_playbook
import shell_environment
from tensorflow_stack.errors import StackError

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = [".venv/bin/ansible-playbook", "-i", "inventories/workstation", "playbooks/plan.yml"]


def command_line(playbook: str, given: dict[str, str], **exported: str) -> list[str]:
    return run_playbook.command_line(playbook, run_playbook.settings(playbook, given, exported))


def test_nothing_is_passed_that_is_not_set() -> None:
    assert command_line("plan", {}) == PLAIN


@pytest.mark.parametrize("name", [*run_playbook.FRONT, "tensorflow_version", "cuda_source"])
def test_an_empty_value_is_refused(name: str) -> None:
    with pytest.raises(StackError, match=f"^{name}= is empty, so nothing was done. Give it a value"):
        command_line("plan", {name: ""})


def test_an_empty_variable_of_the_environment_sets_nothing() -> None:
    assert command_line("plan", {}, TENSORFLOW="", cuda_source="") == PLAIN


def test_values_travel_as_json() -> None:
    given = {"TENSORFLOW": "2.10", "ENVIRONMENT": """a 'b' "c" $d\r\n"""}
    command = command_line("plan", given)
    assert command[:-1] == [*PLAIN, "-e"]
    assert json.loads(command[-1]) == {"tensorflow_version": "2.10", "tensorflow_environment": given["ENVIRONMENT"]}


@pytest.mark.parametrize("text", ["{{ 1 }}", "{% if 1 %}", "{# x #}", "{", "a{{\n"])
def test_a_value_is_no_template(text: str) -> None:
    command = command_line("remove", {"ENVIRONMENT": text, "remove_system": "cuda"})
    assert json.loads(command[-1]) == {
        "tensorflow_environment": {"__ansible_unsafe": text},
        "remove_system": ["cuda"],
    }
    assert json.loads(command_line("plan", {"tensorflow_lock_pythons": text})[-1]) == {
        "tensorflow_lock_pythons": [{"__ansible_unsafe": text.strip()}]
    }


def test_paths_are_seen_from_where_make_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    command = command_line("plan", {"REQUIREMENTS": "my pins.txt", "tensorflow_root": "~/tf"})
    assert json.loads(command[-1]) == {
        "tensorflow_requirements": str(tmp_path / "my pins.txt"),
        "tensorflow_root": "/home/me/tf",
    }


def test_check_and_inventory() -> None:
    command = command_line("plan", {"CHECK": "1", "INVENTORY": "inventories/fleet"})
    assert command == [PLAIN[0], "-i", "inventories/fleet", PLAIN[3], "--check", "--diff"]


@pytest.mark.parametrize("value", ["0", "no", "No", "off", "false", "FALSE"])
def test_check_can_be_switched_off(value: str) -> None:
    assert command_line("plan", {"CHECK": value}) == PLAIN


def test_every_variable_of_an_inventory_is_taken_by_its_type() -> None:
    given = {"nvidia_driver_reboot": "true", "tensorflow_keep": "3", "cuda_source": "wheels"}
    extra = json.loads(command_line("workstation", given)[-1])
    assert extra == {"nvidia_driver_reboot": True, "tensorflow_keep": 3, "cuda_source": "wheels"}


@pytest.mark.parametrize(
    ("playbook", "name", "meant"),
    [
        ("plan", "TENSORFLW", "Did you mean TENSORFLOW?"),
        ("plan", "VERSION", "Did you mean TENSORFLOW?"),
        ("workstation", "tensorflow", "Did you mean TENSORFLOW?"),
        ("plan", "Tensorflow", "Did you mean TENSORFLOW?"),
        ("plan", "RELEASE", "Did you mean TENSORFLOW?"),
        ("plan", "REQUIREMENT", "Did you mean REQUIREMENTS?"),
        ("plan", "tensorflow_verison", "Did you mean tensorflow_version?"),
        ("plan", "PYTHON", "Did you mean tensorflow_python?"),
        ("plan", "JOBS", "It takes TENSORFLOW, "),
        ("plan", "x;id", "It takes TENSORFLOW, "),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(playbook: str, name: str, meant: str) -> None:
    with pytest.raises(StackError, match=f"make {playbook} has no variable {name}[.]") as caught:
        command_line(playbook, {name: "2.8.0"})
    assert meant in caught.value.message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"LOG": "x"}, "LOG is for make doctor"),
        ({"remove_system": "cuda"}, "remove_system is for make remove"),
        ({"TENSORFLOW": "2.8.0", "tensorflow_version": "2.9.0"}, "set the same"),
        ({"CHECK": "perhaps"}, "CHECK is 'perhaps', but must be true or false"),
        ({"TENSORFLOW": "\udcff"}, "is not UTF-8"),
    ],
)
def test_what_make_cannot_mean(given: dict[str, str], message: str) -> None:
    with pytest.raises(StackError, match=message):
        command_line("plan", given)


def test_of_the_environment_counts_what_is_ours_alone() -> None:
    exported = {"TENSORFLOW": "2.8.0", "cuda_source": "wheels", "ROOT": "/srv/root", "CHECK": "1", "doctor_log": "/log"}
    extra = {"tensorflow_version": "2.8.0", "cuda_source": "wheels"}
    assert command_line("plan", {}, **exported) == [*PLAIN, "-e", json.dumps(extra)]
    assert run_playbook.notes("plan", {}, exported) == [
        "TENSORFLOW=2.8.0 from the environment",
        "cuda_source=wheels from the environment",
        "ignored in the environment, because only make's command line may set it: ROOT, CHECK",
    ]


@pytest.mark.parametrize("name", ["TENSORFLOW", "tensorflow_version"])
def test_what_is_given_wins_over_the_environment(name: str) -> None:
    given, exported = {name: "2.9.0"}, {"TENSORFLOW": "2.8.0"}
    assert json.loads(command_line("plan", given, **exported)[-1]) == {"tensorflow_version": "2.9.0"}
    assert run_playbook.notes("plan", given, exported) == []


def test_remove_takes_a_release_for_the_environment_of_its_name() -> None:
    assert json.loads(command_line("remove", {"TENSORFLOW": "2.15.1"})[-1]) == {
        "tensorflow_environment": "tensorflow-2.15.1"
    }


def test_nothing_is_removed_for_a_name_of_the_environment() -> None:
    exported = {"TENSORFLOW": "2.8.0", "remove_system": "driver", "ENVIRONMENT": "production"}
    assert command_line("remove", {}, **exported) == [*PLAIN[:3], "playbooks/remove.yml"]
    assert "TENSORFLOW" in run_playbook.notes("remove", {}, exported)[-1]


def test_a_bare_removal_means_what_was_applied_last_on_this_machine() -> None:
    applied = {"remove_applied": True}
    assert json.loads(command_line("remove", {})[-1]) == applied
    assert json.loads(command_line("remove", {"ROOT": "/srv/x"})[-1]) == {**applied, "tensorflow_root": "/srv/x"}
    assert command_line("remove", {"INVENTORY": "/srv/fleet"}) == [*PLAIN[:2], "/srv/fleet", "playbooks/remove.yml"]
    assert json.loads(command_line("remove", {"remove_system": "cuda"})[-1]) == {"remove_system": ["cuda"]}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="none"),
        pytest.param({"LC_ALL": "C"}, id="C"),
        pytest.param({"LC_ALL": "POSIX"}, id="POSIX"),
        pytest.param({"LANG": "C"}, id="LANG"),
        pytest.param({"LANG": "xx_XX.UTF-8"}, id="not installed"),
        pytest.param({"LC_ALL": "en_US.ISO-8859-1"}, id="another encoding"),
        pytest.param({"LC_CTYPE": "UTF-8"}, id="of a Mac, by ssh"),
        pytest.param({"LC_ALL": "", "LANG": "C.UTF-8"}, id="UTF-8"),
    ],
)
def test_the_locale_is_one_that_ansible_takes(values: dict[str, str]) -> None:
    program = "import os, run_playbook, shell_environment\n"
    program += "os.environ['LC_ALL'] = shell_environment.utf8_locale() or os.environ.get('LC_ALL', '')\n"
    program += "import locale; locale.setlocale(locale.LC_ALL, ''); print(locale.getlocale()[1])"
    environ = {name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**environ, **values},
        cwd=REPOSITORY / "scripts",
        capture_output=True,
        text=True,
    )
    assert ended.stdout == "UTF-8\n", ended.stderr


def test_a_machine_without_a_utf8_locale_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_environment, "UTF8_LOCALES", ("xx_XX.UTF-8",))
    monkeypatch.setenv("LC_ALL", "C")
    try:
        with pytest.raises(StackError, match="needs a UTF-8 locale, and this machine has none of xx_XX.UTF-8"):
            shell_environment.utf8_locale()
    finally:
        monkeypatch.undo()
        shell_environment.utf8_locale()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of make's part of the checkout, whose ansible-playbook says what it was given and ends as $ENDS says."""
    for name in ("Makefile", "scripts/run_playbook.py", "scripts/shell_environment.py", "playbooks/variables.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    shutil.copytree(REPOSITORY / "module_utils", tmp_path / "module_utils")
    for name in ("plan", "remove", "workstation"):
        (tmp_path / "playbooks" / f"{name}.yml").touch()
    # It says that something was set up.
    bootstrap = "import pathlib\ndef main(_): pathlib.Path(__file__).with_name('ran').touch()\n"
    (tmp_path / "scripts" / "bootstrap.py").write_text(bootstrap)
    playbook = tmp_path / ".venv" / "bin" / "ansible-playbook"
    playbook.parent.mkdir(parents=True)
    playbook.write_text('#!/bin/sh\nfor word; do echo "$word"; done\nexit "${ENDS:-0}"\n')
    playbook.chmod(0o755)
    return tmp_path


def run(checkout: Path, command: list[str], **exported: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=checkout, env={**environ, **exported}, capture_output=True, text=True)


def make(checkout: Path, *words: str, **exported: str) -> subprocess.CompletedProcess[str]:
    return run(checkout, ["make", *words], **exported)


def test_make_passes_its_variables(checkout: Path) -> None:
    pins = checkout / 'it\'s "my" pins.txt'
    ended = make(checkout, "workstation", "TENSORFLOW=2.8.0", f"REQUIREMENTS={pins}")
    words = ended.stdout.splitlines()
    assert words[:4] == ["-i", "inventories/workstation", "playbooks/workstation.yml", "-e"]
    assert json.loads(words[4]) == {"tensorflow_version": "2.8.0", "tensorflow_requirements": str(pins)}
    assert ended.stderr.startswith("+ .venv/bin/ansible-playbook -i inventories/workstation playbooks/work")


def test_make_knows_what_stands_on_its_command_line(checkout: Path) -> None:
    exported = {"ENVIRONMENT": "production", "ROOT": "/srv/root", "CHECK": "1", "TENSORFLOW": "2.4.0"}
    ended = make(checkout, "workstation", "TENSORFLOW=2.8.0", **exported)
    assert json.loads(ended.stdout.splitlines()[-1]) == {"tensorflow_version": "2.8.0"}
    ended = make(checkout, "-e", "plan", **exported)
    assert json.loads(ended.stdout.splitlines()[-1]) == {"tensorflow_version": "2.4.0"}
    assert "TENSORFLOW=2.4.0 from the environment\n" in ended.stderr
    assert make(checkout, "-e", "remove", **exported).stdout.splitlines() == PLAIN[1:3] + ["playbooks/remove.yml"]


@pytest.mark.parametrize("word", ["TENSORFLW=2.8.0", "SCENARIO=x", "it's=1", "a;id=1"])
def test_make_does_nothing_for_a_variable_that_is_not_known(checkout: Path, word: str) -> None:
    ended = make(checkout, "plan", word)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"make plan has no variable {word.partition('=')[0]}." in ended.stderr
    assert not (checkout / "scripts" / "ran").exists()


def test_help_fits_the_screen() -> None:
    lines = run_playbook.help_lines(80)
    assert max(map(len, lines)) <= 80
    assert "  lock             Make or refresh the locks of a release" in lines
    assert "  ROOT=            directory of all environments (tensorflow_root)" in lines
    assert len(lines) > len(run_playbook.help_lines(None))


@pytest.mark.parametrize(
    "values",
    [{"PYTHONHOME": "/nonexistent"}, {"PYTHONSAFEPATH": "1"}, {"PYTHONPATH": "{}"}],
    ids=lambda values: [*values][0],
)
def test_what_the_shell_says_to_every_python_does_not_count(checkout: Path, values: dict[str, str]) -> None:
    (checkout / "json.py").write_text("raise SystemExit('another json')\n")
    program = checkout / ".venv" / "bin" / "ansible-playbook"
    program.write_text("#!/bin/sh\nenv | grep ^PYTHON\nexit 0\n")
    ended = make(checkout, "plan", **{name: text.format(checkout) for name, text in values.items()})
    assert (ended.returncode, ended.stdout) == (0, ""), ended
    told = [name for name in values if name != "PYTHONSAFEPATH"]
    said = " ".join(ended.stderr.split())
    assert said.count("because the tools have packages of their own: ") == len(told)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HOME", "{}/none/at/all", "Permission denied"),
        ("HOME", "{}/file", "Not a directory"),
        ("ANSIBLE_HOME", "{}/file", "Not a directory"),
        ("ANSIBLE_LOCAL_TEMP", "{}/file/tmp", "Not a directory"),
    ],
)
def test_without_a_place_for_temporary_files_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    path = value.format(tmp_path)
    monkeypatch.setenv(name, path)
    if reason == "Permission denied":  # which root never sees
        monkeypatch.setattr(os, "makedirs", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, reason)))
    with pytest.raises(StackError) as caught:
        shell_environment.check_temporary_files(os.environ)
    below = {"HOME": "/.ansible/tmp", "ANSIBLE_HOME": "/tmp", "ANSIBLE_LOCAL_TEMP": ""}[name]
    assert caught.value.message == (
        f"Ansible cannot write its temporary files to {path}{below}: {reason}. Set {name} to a directory that you may "
        "write and that has free space. Nothing was done."
    )


def test_a_full_disk_of_temporary_files_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: io.BytesIO() if dir else Full())
    place = tempfile.gettempdir()
    with pytest.raises(StackError, match=f"temporary files to {place}: No space left on device. Set TMPDIR to"):
        shell_environment.check_temporary_files({"HOME": place})


def test_tags_of_the_environment_do_not_have_a_part_of_a_playbook_end_well(checkout: Path) -> None:
    environ = {"ANSIBLE_RUN_TAGS": "foo", "ANSIBLE_SKIP_TAGS": "always"}
    (checkout / ".venv" / "bin" / "ansible-playbook").write_text("#!/bin/sh\nenv\n")
    ended = make(checkout, "plan", **environ)
    assert ended.returncode == 0 and not any(name in ended.stdout for name in environ)
    assert "a part of a playbook proves nothing: ANSIBLE_RUN_TAGS, ANSIBLE_SKIP_TAGS +" in " ".join(
        ended.stderr.split()
    )


@pytest.mark.parametrize("name", ["ANSIBLE_TIMEOUT", "ANSIBLE_FORKS"])
def test_a_value_that_ansible_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(StackError, match=f"^{name}=x in the environment is no value that Ansible takes .*Unset it"):
        shell_environment.check_ansible_settings({name: "x"})


def test_values_that_ansible_takes_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shell_environment.check_ansible_settings({"ANSIBLE_TIMEOUT": "20", "ANSIBLE_OTHER": "x"})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("without one nothing is started"))
    shell_environment.check_ansible_settings({"HOME": "/root"})


@pytest.mark.parametrize(("ends", "is_said"), [("0", False), ("2", False), ("99", True), ("130", True)])
def test_a_rollback_that_is_stopped_says_that_it_may_have_switched(checkout: Path, ends: str, is_said: bool) -> None:
    (checkout / "playbooks" / "rollback.yml").touch()
    ended = run(checkout, [sys.executable, "scripts/run_playbook.py", "rollback"], ENDS=ends)
    assert ended.returncode == int(ends)
    assert ("may have switched already. make history shows what is in use" in " ".join(ended.stderr.split())) is is_said


@pytest.mark.parametrize(
    ("name", "is_said"),
    [("", False), ("default", False), ("ansible.builtin.minimal", False), ("stack_screen", False), ("json", True)],
)
def test_a_screen_that_ansible_may_not_have_is_named(name: str, is_said: bool) -> None:
    lines = shell_environment.callback_notes({"ANSIBLE_STDOUT_CALLBACK": name})
    assert bool(lines) is is_said
    if is_said:
        assert lines[0].startswith(
            "ANSIBLE_STDOUT_CALLBACK=json: not part of ansible-core. If Ansible does not load it,"
        )


@pytest.mark.parametrize("playbook", ["plan", "workstation"])
def test_tools_that_cannot_be_started(checkout: Path, playbook: str) -> None:
    (checkout / ".venv" / "bin" / "ansible-playbook").chmod(0o644)  # as if mounted noexec
    ended = run(checkout, [sys.executable, "scripts/run_playbook.py", playbook])
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    path = checkout / ".venv" / "bin" / "ansible-playbook"
    assert f"run_playbook: {path} cannot be started: Permission denied." in " ".join(ended.stderr.split())


def test_an_error_fits_the_screen(checkout: Path) -> None:
    lines = make(checkout, "plan", "TENSORFLW=2.8.0", COLUMNS="80").stderr.splitlines()
    assert max(map(len, lines)) <= 80 and lines[1] == "  Nothing was done."


def test_other_targets_know_their_own_variables(checkout: Path) -> None:
    ended = make(checkout, "help", "SCENARO=x", "JOBS=2")
    assert ended.returncode == 2
    assert "make help has no variable SCENARO" in ended.stderr
    assert make(checkout, "help", "JOBS=2", "PYTHON=python3").returncode == 0


@pytest.mark.parametrize(
    ("playbook", "ends", "code", "says"),
    [
        ("plan", "0", 0, ""),
        ("plan", "2", 3, "a node is refused or could not be planned"),
        ("plan", "4", 4, "a node could not be reached, or the playbook could not be loaded"),
        ("plan", "1", 1, ""),
        ("workstation", "2", 2, ""),
    ],
)
def test_exit_codes(checkout: Path, playbook: str, ends: str, code: int, says: str) -> None:
    command = [sys.executable, "scripts/run_playbook.py", playbook, "TENSORFLOW=2.8.0"]
    ended = run(checkout, command, ENDS=ends)
    assert ended.returncode == code
    assert json.loads(ended.stdout.splitlines()[-1]) == {"tensorflow_version": "2.8.0"}
    assert says in ended.stderr.splitlines()[-1]
    assert (checkout / "scripts" / "ran").exists()


def test_a_playbook_that_is_not_there(checkout: Path) -> None:
    ended = run(checkout, [sys.executable, "scripts/run_playbook.py", "plam"])
    assert ended.returncode == 2
    assert "make has no target plam. Did you mean make plan? Nothing was done." in ended.stderr


@pytest.mark.parametrize(("name", "meant"), [("paln", "plan"), ("install", "workstation"), ("uninstall", "remove")])
def test_a_target_that_is_none_is_refused_with_the_nearest(checkout: Path, name: str, meant: str) -> None:
    ended = make(checkout, name, "TENSORFLOW=2.15.1")
    assert ended.returncode == 2
    said = " ".join(ended.stderr.split())
    assert said.startswith(
        f"run_playbook: make has no target {name}. Did you mean make {meant}? Nothing was done. make help lists all."
    )


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("https://bundle.example/b", "https://bundle.example/b"),
        ("/mnt/bundle", "/mnt/bundle"),
        ("bundle", os.path.abspath("bundle")),
    ],
)
def test_a_bundle_is_a_url_or_a_directory_from_which_tools_are_installed_as_well(given: str, place: str) -> None:
    found = run_playbook.settings("workstation", {"BUNDLE": given}, {})
    assert found == {"stack_bundle_url": place}
    assert run_playbook.tools_options("workstation", found) == ["--bundle", place]


def test_a_bundle_that_is_made_is_not_installed_from(tmp_path: Path) -> None:
    found = run_playbook.settings("bundle", {"BUNDLE": str(tmp_path)}, {})
    assert found == {"bundle_directory": str(tmp_path)}
    assert run_playbook.tools_options("bundle", found) == ["--group", "bundle"]


def test_a_bundle_that_is_neither_is_refused() -> None:
    with pytest.raises(StackError, match="stack_bundle_url is 'ftp://x', .*file URL, or an absolute path"):
        run_playbook.settings("workstation", {"stack_bundle_url": "ftp://x"}, {})
    with pytest.raises(StackError, match="BUNDLE is 'ftp://x', but must be an http, https or file URL"):
        run_playbook.settings("workstation", {"BUNDLE": "ftp://x"}, {})
