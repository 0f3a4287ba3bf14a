"""The driver's kernel side on trees of nodes, with the commands answered here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.tensorflow_stack.errors import StackError
from ansible.module_utils.tensorflow_stack.kernel.modules import ensure, give_back
from ansible.module_utils.tensorflow_stack.kernel.state import BLACKLIST, BLACKLIST_TEXT, ModuleRequest

from tests import nodes

CAPTURES = Path(__file__).parent / "captures"

VERSION = "535.309.01"
RELEASE = "6.1.0-56-amd64"
OLDER = "6.1.0-55-amd64"
REQUEST = ModuleRequest(version=VERSION, kind="proprietary")

DKMS_CONF = (
    f'PACKAGE_NAME="nvidia-current"\nPACKAGE_VERSION="{VERSION}"\n'
    'BUILT_MODULE_NAME[0]="nvidia"\nDEST_MODULE_NAME[0]="$PACKAGE_NAME"\n'
)
NO_MODULE = "modinfo: ERROR: Module {} not found.\n"
NOUVEAU = f"usr/lib/modules/{RELEASE}/kernel/drivers/gpu/drm/nouveau/nouveau.ko\n"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def modinfo(version: str = VERSION, kind: str = "proprietary", signer: str | None = None) -> str:
    text = f"filename:       /lib/modules/x/updates/dkms/nvidia.ko\nversion:        {version}\n"
    text += "license:        {}\n".format("NVIDIA" if kind == "proprietary" else "Dual MIT/GPL")
    return text + (f"signer:         {signer}\n" if signer else "")


class Node:
    """A Debian 12 with one kernel and the sources of the driver; its commands do what the real ones do to files.

    `answers` is what dkms status, modinfo and lsinitramfs say, `effects` what the others change, both by command line.
    """

    def __init__(self, root: Path) -> None:
        self.root = nodes.build(
            {
                "directories": ["/sys/module", "/lib/modules", "/run/systemd/system"],
                "links": {"/lib": "usr/lib", "/sbin": "usr/sbin"},
                "files": {
                    "/etc/machine-id": "2d2532498ea5954984db1b7668be543a\n",
                    "/proc/sys/kernel/random/boot_id": "3a705692-f858-4c9e-982c-58b548ddb6dc\n",
                    "/proc/sys/kernel/osrelease": f"{RELEASE}\n",
                    "/usr/bin/apt-get": "",
                    "/usr/bin/lsinitramfs": "",
                    "/usr/src/nvidia-current-535.309.01/dkms.conf": DKMS_CONF,
                },
            },
            root,
        )
        self.answers: dict[str, str] = {"/usr/sbin/dkms status": ""}
        self.effects: dict[str, Callable[[], str]] = {}
        self.ran: list[str] = []
        self.add_kernel(RELEASE)

    def add_kernel(self, release: str, *, headers: bool = True) -> None:
        self.write(f"/boot/vmlinuz-{release}")
        self.write(f"/boot/initrd.img-{release}")
        self.write(f"/lib/modules/{release}/modules.dep")
        if headers:
            self.write(f"/usr/src/linux-headers-{release}/Makefile")
        self.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{release}"] = "etc\netc/modprobe.d\n"
        for name in ("nvidia-current", "nvidia"):
            self.answers[f"/sbin/modinfo -k {release} {name}"] = NO_MODULE.format(name)
        self.effects[f"/usr/sbin/update-initramfs -u -k {release}"] = lambda: self.rebuild(release)
        command = f"/usr/sbin/dkms install --force -m nvidia-current -v {VERSION} -k {release}"
        self.effects[command] = lambda: self.install(release)

    def install(self, release: str, text: str = "") -> str:
        self.answers["/usr/sbin/dkms status"] += f"nvidia-current/{VERSION}, {release}, x86_64: installed\n"
        self.answers[f"/sbin/modinfo -k {release} nvidia-current"] = text or modinfo()
        return "DKMS: install completed.\n"

    def rebuild(self, release: str) -> str:
        place = self.write(f"/boot/initrd.img-{release}")
        os.utime(place, (4102444800, 4102444800))
        self.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{release}"] += BLACKLIST[1:] + "\n"
        return f"update-initramfs: Generating /boot/initrd.img-{release}\n"

    def load(self, version: str = VERSION, kind: str = "proprietary") -> str:
        self.write("/sys/module/nvidia/version", version + "\n")
        name = "NVIDIA UNIX Open Kernel Module for x86_64" if kind == "open" else "NVIDIA UNIX x86_64 Kernel Module"
        self.write("/proc/driver/nvidia/version", f"NVRM version: {name}  {version}  Sun May 12 19:39:15 UTC 2024\n")
        return ""

    def settle(self) -> None:
        """Everything right: a run finds nothing to do."""
        self.write(BLACKLIST, BLACKLIST_TEXT)
        self.install(RELEASE)
        self.rebuild(RELEASE)
        self.load()

    def write(self, path: str, text: str = "") -> Path:
        nodes.build({"files": {path: text}}, self.root)
        return self.root / path[1:]

    def run(self, command: Sequence[str]) -> str:
        line = " ".join(command)
        if line in self.answers:
            return self.answers[line]
        self.ran.append(line)
        return self.effects[line]()

    def ensure(self, request: ModuleRequest = REQUEST, *, check: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = ensure(request, check=check, root=str(self.root), run=self.run)
        return result


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.effects["/sbin/modprobe nvidia"] = node.load
    return node


FRESH_ACTIONS = [
    f"write {BLACKLIST}",
    f"build nvidia {VERSION} for {RELEASE}",
    f"rebuild the initramfs of {RELEASE}",
    f"load nvidia {VERSION}",
]


def test_fresh_node_needs_no_reboot(node: Node) -> None:
    result = node.ensure()
    assert result["changed"] is True
    assert result["actions"] == FRESH_ACTIONS
    assert node.ran == [
        f"/usr/sbin/dkms install --force -m nvidia-current -v {VERSION} -k {RELEASE}",
        f"/usr/sbin/update-initramfs -u -k {RELEASE}",
        "/sbin/modprobe nvidia",
    ]
    assert result["kernels"] == [
        {"release": RELEASE, "dkms": "installed", "module_version": VERSION, "in_initramfs": True}
    ]
    assert (result["loaded"], result["reboot_required"], result["reboot_reasons"]) == (VERSION, False, [])
    assert result["machine"] == {
        "machine_id": "2d2532498ea5954984db1b7668be543a",
        "boot_id": "3a705692-f858-4c9e-982c-58b548ddb6dc",
    }
    assert (node.root / BLACKLIST[1:]).read_text() == BLACKLIST_TEXT
    assert {"blacklist nouveau", "blacklist nova_core"} < set(BLACKLIST_TEXT.splitlines())
    assert (node.root / BLACKLIST[1:]).stat().st_mode & 0o777 == 0o644


def test_check_mode_says_what_the_run_does_and_changes_nothing(node: Node) -> None:
    checked = node.ensure(check=True)
    assert node.ran == []
    assert not (node.root / BLACKLIST[1:]).exists()
    assert checked == node.ensure()


def test_second_run_finds_nothing_to_do(node: Node) -> None:
    node.ensure()
    node.ran.clear()
    result = node.ensure()
    assert (result["changed"], result["actions"], result["diff"], node.ran) == (False, [], [], [])


def test_diff_shows_the_file_and_the_kernels(node: Node) -> None:
    file, kernels = node.ensure(check=True)["diff"]
    assert (file["before_header"], file["before"], file["after"]) == (BLACKLIST, "", BLACKLIST_TEXT)
    assert kernels["before"].splitlines() == [
        f"{RELEASE}: module none",
        f"{RELEASE}: initramfs without the blacklist",
        "loaded: none",
    ]
    assert kernels["after"].splitlines() == [
        f"{RELEASE}: module {VERSION}",
        f"{RELEASE}: initramfs with the blacklist",
        f"loaded: {VERSION}",
    ]


# --- Kernels ---------------------------------------------------------------------------------------


def test_every_kernel_gets_its_module(node: Node) -> None:
    node.settle()
    node.add_kernel(OLDER)
    result = node.ensure()
    assert result["actions"] == [f"build nvidia {VERSION} for {OLDER}"]
    assert [(kernel["release"], kernel["dkms"]) for kernel in result["kernels"]] == [
        (OLDER, "installed"),
        (RELEASE, "installed"),
    ]


PLANNED = replace(REQUEST, kernels=[RELEASE])


def test_kernel_that_was_installed_after_the_plan_gets_its_module(node: Node) -> None:
    """As one that the driver's packages depend on."""
    node.settle()
    node.add_kernel(OLDER)
    result = node.ensure(PLANNED)
    assert f"build nvidia {VERSION} for {OLDER}" in result["actions"]
    assert [row["release"] for row in result["kernels"]] == [OLDER, RELEASE]


def test_kernel_that_was_installed_after_the_plan_without_headers(node: Node) -> None:
    node.settle()
    node.add_kernel(OLDER, headers=False)
    with pytest.raises(StackError, match=f"install linux-headers-{OLDER}, .* after the plan was made.* run again"):
        node.ensure(PLANNED)
    with pytest.raises(StackError, match=f"install linux-headers-{OLDER}, or remove that kernel[.]"):
        node.ensure(replace(REQUEST, kernels=[OLDER, RELEASE]))


def test_planned_kernel_that_is_gone_needs_nothing(node: Node) -> None:
    node.settle()
    assert node.ensure(replace(REQUEST, kernels=["5.10.0-28-amd64", RELEASE]))["changed"] is False


def test_planned_kernel_without_an_image_gets_its_module(node: Node) -> None:
    node.settle()
    node.add_kernel(OLDER)
    (node.root / f"boot/vmlinuz-{OLDER}").unlink()
    assert node.ensure(PLANNED)["changed"] is False
    assert f"build nvidia {VERSION} for {OLDER}" in node.ensure(replace(REQUEST, kernels=[OLDER, RELEASE]))["actions"]


def test_directory_that_a_purge_left_is_no_kernel(node: Node) -> None:
    node.settle()
    node.write("/lib/modules/5.10.0-28-amd64/modules.dep")
    assert [kernel["release"] for kernel in node.ensure()["kernels"]] == [RELEASE]


def test_headers_of_a_kernel_that_was_never_installed_ask_for_no_module(node: Node) -> None:
    """As of another flavour: the plan asks for no headers of it, and a build that fails would fail the run."""
    node.settle()
    node.write("/lib/modules/6.1.0-56-rt-amd64/modules.dep")
    node.write("/usr/src/linux-headers-6.1.0-56-rt-amd64/Makefile")
    result = node.ensure()
    assert [kernel["release"] for kernel in result["kernels"]] == [RELEASE]
    assert result["changed"] is False


def test_module_of_another_version_is_built_anew(node: Node) -> None:
    node.settle()
    node.answers[f"/sbin/modinfo -k {RELEASE} nvidia-current"] = modinfo("470.256.02")
    assert node.ensure()["actions"] == [f"build nvidia {VERSION} for {RELEASE}"]


def test_module_that_is_built_and_not_installed(node: Node) -> None:
    node.settle()
    node.answers["/usr/sbin/dkms status"] = f"nvidia-current/{VERSION}, {RELEASE}, x86_64: built\n"
    assert node.ensure()["actions"] == [f"build nvidia {VERSION} for {RELEASE}"]


def test_old_form_of_dkms_status(node: Node) -> None:
    node.settle()
    node.answers["/usr/sbin/dkms status"] = f"nvidia-current, {VERSION}, {RELEASE}, x86_64: installed\n"
    assert node.ensure()["kernels"][0]["dkms"] == "installed"


def test_prebuilt_module_needs_no_dkms(node: Node) -> None:
    node.settle()
    (node.root / "usr/src/nvidia-current-535.309.01/dkms.conf").unlink()
    del node.answers["/usr/sbin/dkms status"]
    node.answers[f"/sbin/modinfo -k {RELEASE} nvidia"] = modinfo(signer="Debian Secure Boot CA")
    assert node.ensure()["kernels"] == [
        {"release": RELEASE, "dkms": None, "module_version": VERSION, "in_initramfs": True}
    ]


def test_headers_that_are_missing(node: Node) -> None:
    node.add_kernel(OLDER, headers=False)
    with pytest.raises(StackError) as raised:
        node.ensure()
    assert raised.value.message == (
        f"NVIDIA's proprietary kernel module {VERSION} is not in place. Kernel {OLDER}: it has no module, and its"
        f" headers are missing: install linux-headers-{OLDER}, or remove that kernel."
    )
    assert node.ran == []
    assert not (node.root / BLACKLIST[1:]).exists()


def test_no_source_and_no_module(node: Node) -> None:
    (node.root / "usr/src/nvidia-current-535.309.01/dkms.conf").unlink()
    with pytest.raises(StackError, match=f"no package installed a source of {VERSION} for DKMS"):
        node.ensure()


def test_module_of_the_other_kind(node: Node) -> None:
    node.settle()
    with pytest.raises(StackError, match="is the proprietary one; install the open kernel modules, or set nvidia_dri"):
        node.ensure(replace(REQUEST, kind="open"))


def test_no_kernel_at_all(node: Node) -> None:
    (node.root / f"lib/modules/{RELEASE}/modules.dep").unlink()
    (node.root / f"lib/modules/{RELEASE}").rmdir()
    for request in (REQUEST, PLANNED):
        with pytest.raises(StackError, match="No kernel is installed"):
            node.ensure(request)


def test_build_that_fails(node: Node) -> None:
    log = (CAPTURES / "dkms2.8.make.log").read_text().replace("5.10.0-46-amd64", RELEASE)

    def fail() -> str:
        node.write(f"/var/lib/dkms/nvidia-current/{VERSION}/build/make.log", log)
        return "Error! Bad return status for module build on kernel\n"

    node.effects[f"/usr/sbin/dkms install --force -m nvidia-current -v {VERSION} -k {RELEASE}"] = fail
    with pytest.raises(StackError) as raised:
        node.ensure()
    assert (
        f"Kernel {RELEASE}: it has no module after DKMS built it (this kernel is not for this driver); set"
        " nvidia_driver_version to one that supports this kernel, or remove the kernel."
    ) in raised.value.message
    assert raised.value.details["stderr"].splitlines() == log.splitlines()


def test_log_of_another_kernel_is_not_shown(node: Node) -> None:
    node.write(f"/var/lib/dkms/nvidia-current/{VERSION}/build/make.log", f"DKMS make.log for kernel {OLDER} (x86_64)\n")
    node.effects[f"/usr/sbin/dkms install --force -m nvidia-current -v {VERSION} -k {RELEASE}"] = lambda: "Error! X\n"
    with pytest.raises(StackError, match=r"after DKMS built it \(Error! X\)"):
        node.ensure()


def test_packages_that_are_still_to_come(node: Node) -> None:
    (node.root / "usr/src/nvidia-current-535.309.01/dkms.conf").unlink()
    (node.root / f"usr/src/linux-headers-{RELEASE}/Makefile").unlink()
    request = replace(REQUEST, pending=True, services=["nvidia-fabricmanager"])
    result = node.ensure(request, check=True)
    assert result["actions"] == [action for action in FRESH_ACTIONS if not action.startswith("build")]
    assert result["kernels"][0]["module_version"] == VERSION
    assert result["services"] == ["nvidia-fabricmanager"]


# --- Initramfs -------------------------------------------------------------------------------------


def test_initramfs_that_still_holds_nouveau_is_rebuilt(node: Node) -> None:
    node.settle()
    node.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{RELEASE}"] = NOUVEAU
    assert node.ensure()["actions"] == [f"rebuild the initramfs of {RELEASE}"]


def test_initramfs_without_nouveau_is_left(node: Node) -> None:
    node.settle()
    node.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{RELEASE}"] = "etc\n"
    result = node.ensure()
    assert (result["changed"], result["kernels"][0]["in_initramfs"]) == (False, False)


def test_initramfs_that_is_older_than_the_blacklist(node: Node) -> None:
    """A run was ended between the two: the name is inside, and not what is in the file now."""
    node.settle()
    node.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{RELEASE}"] += NOUVEAU
    os.utime(node.root / f"boot/initrd.img-{RELEASE}", (0, 0))
    assert node.ensure()["actions"] == [f"rebuild the initramfs of {RELEASE}"]


def test_initramfs_that_stays_as_it_was(node: Node) -> None:
    node.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{RELEASE}"] += NOUVEAU
    node.effects[f"/usr/sbin/update-initramfs -u -k {RELEASE}"] = lambda: "update-initramfs is disabled.\n"
    with pytest.raises(StackError) as raised:
        node.ensure()
    assert (
        f"initrd.img-{RELEASE} still contains nouveau.ko without {BLACKLIST} after it was rebuilt"
        in raised.value.message
    )
    assert f"(/usr/sbin/update-initramfs -u -k {RELEASE})" in raised.value.message
    assert raised.value.details["stderr"] == "update-initramfs is disabled."


def test_dracut(node: Node) -> None:
    (node.root / "usr/bin/lsinitramfs").unlink()
    (node.root / f"boot/initrd.img-{RELEASE}").unlink()
    node.write("/usr/bin/lsinitrd")
    image = f"/boot/initramfs-{RELEASE}.img"
    node.write(image)
    node.answers[f"/usr/bin/lsinitrd {image}"] = "-rw-r--r-- 1 root root 9 Jul  5 12:00 etc/modprobe.d/x.conf\n"

    def rebuild() -> str:
        os.utime(node.root / image[1:], (4102444800, 4102444800))
        node.answers[f"/usr/bin/lsinitrd {image}"] += f"-rw-r--r-- 1 root root 9 Jul  5 12:00 {BLACKLIST[1:]}\n"
        return ""

    node.effects[f"/usr/bin/dracut --force {image} {RELEASE}"] = rebuild
    assert node.ensure()["kernels"][0]["in_initramfs"] is True


def test_kernel_without_initramfs(node: Node) -> None:
    (node.root / f"boot/initrd.img-{RELEASE}").unlink()
    result = node.ensure()
    assert result["actions"] == [action for action in FRESH_ACTIONS if "initramfs" not in action]
    assert result["kernels"][0]["in_initramfs"] is None


# --- Loading, reboot, Secure Boot ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nouveau", "nova_core"])
def test_nouveau_in_the_way(node: Node, name: str) -> None:
    node.write(f"/sys/module/{name}/refcnt", "1\n")
    result = node.ensure()
    assert "/sbin/modprobe nvidia" not in node.ran
    assert result["reboot_required"] is True
    assert result["reboot_reasons"] == [f"{name} is loaded and uses the GPU; it is disabled from the next boot on"]


def test_older_module_is_loaded(node: Node) -> None:
    node.settle()
    node.load("470.256.02")
    result = node.ensure()
    assert (result["changed"], result["loaded"]) == (False, "470.256.02")
    assert result["reboot_reasons"] == [f"kernel module 470.256.02 is loaded, the libraries have version {VERSION}"]


def test_module_of_the_other_kind_is_loaded(node: Node) -> None:
    node.settle()
    node.load(kind="open")
    assert node.ensure()["reboot_reasons"] == ["the open kernel module is loaded, the proprietary one is installed"]


def test_running_kernel_has_nothing(node: Node) -> None:
    node.write("/proc/sys/kernel/osrelease", "6.18.44-other\n")
    result = node.ensure()
    assert "/sbin/modprobe nvidia" not in node.ran
    assert result["reboot_reasons"] == [
        "the running kernel 6.18.44-other has neither headers nor modules here, so nothing can be loaded into it; the"
        f" driver is built for {RELEASE}"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service\n",
            "Key was rejected by service. Secure Boot refuses its signature. Sign it with a key that",
        ),
        (
            "modprobe: ERROR: could not insert 'nvidia_current': Required key not available\n",
            "Required key not available. Secure Boot refuses its signature.",
        ),
        (
            "modprobe: ERROR: could not insert 'nvidia': No such device\n",
            "No such device. The kernel's messages are in dmesg.",
        ),
        ("", "modprobe nvidia did not load the module: it printed nothing."),
    ],
)
def test_module_that_is_not_loaded(node: Node, text: str, said: str) -> None:
    node.effects["/sbin/modprobe nvidia"] = lambda: text
    with pytest.raises(StackError) as raised:
        node.ensure()
    assert said in raised.value.message


def secure(node: Node) -> None:
    nodes.build({"bytes": {SECURE_BOOT: "0600000001"}}, node.root)


def test_unsigned_module_under_secure_boot_is_refused_before_a_change(node: Node) -> None:
    secure(node)
    node.install(RELEASE)
    with pytest.raises(StackError, match=f"Secure Boot is on and the NVIDIA module {VERSION} is not signed"):
        node.ensure()
    assert node.ran == []
    assert not (node.root / BLACKLIST[1:]).exists()


def test_module_that_dkms_does_not_sign_is_refused_after_its_build(node: Node) -> None:
    secure(node)
    with pytest.raises(StackError, match=f"is not signed .kernel {RELEASE}."):
        node.ensure()


def test_signed_module_under_secure_boot(node: Node) -> None:
    secure(node)
    signed = modinfo(signer="DKMS module signing key")
    command = f"/usr/sbin/dkms install --force -m nvidia-current -v {VERSION} -k {RELEASE}"
    node.effects[command] = lambda: node.install(RELEASE, signed)
    assert node.ensure()["loaded"] == VERSION


# --- What is only read ----------------------------------------------------------------------------


def test_processes_that_hold_the_gpu(node: Node) -> None:
    node.settle()
    for number, command, targets in (
        (4711, "python3\0train.py\0", ["/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/null"]),
        (12, "bash\0", ["/dev/pts/0"]),
        (900, "nvidia-persistenced\0--user\0nvpd\0", ["/dev/nvidiactl"]),
    ):
        node.write(f"/proc/{number}/cmdline", command)
        links = {f"/proc/{number}/fd/{index}": target for index, target in enumerate(targets)}
        nodes.build({"links": links}, node.root)
    assert node.ensure()["processes"] == [
        {"pid": 900, "command": "nvidia-persistenced --user nvpd", "devices": ["/dev/nvidiactl"]},
        {"pid": 4711, "command": "python3 train.py", "devices": ["/dev/nvidia-uvm", "/dev/nvidia0"]},
    ]


def test_services_that_have_a_unit(node: Node) -> None:
    node.settle()
    request = replace(REQUEST, services=["nvidia-persistenced", "nvidia-fabricmanager"])
    assert node.ensure(request)["services"] == []
    node.write("/lib/systemd/system/nvidia-fabricmanager.service")
    assert node.ensure(request)["services"] == ["nvidia-fabricmanager"]
    assert node.ensure(REQUEST)["services"] == []


def test_no_services_without_systemd(node: Node) -> None:
    node.settle()
    node.write("/lib/systemd/system/nvidia-persistenced.service")
    (node.root / "run/systemd/system").rmdir()
    assert node.ensure(replace(REQUEST, services=["nvidia-persistenced"]))["services"] == []


# --- Given back ---------------------------------------------------------------------------------------


def take_out(node: Node, release: str) -> str:
    node.answers[f"/usr/bin/lsinitramfs /boot/initrd.img-{release}"] = "etc/modprobe.d\n"
    return ""


def test_nouveau_has_the_gpu_again(node: Node) -> None:
    node.settle()
    node.add_kernel(OLDER)
    node.effects[f"/usr/sbin/update-initramfs -u -k {RELEASE}"] = lambda: take_out(node, RELEASE)
    said = give_back(check=True, root=str(node.root), run=node.run)
    assert (node.root / BLACKLIST[1:]).exists() and node.ran == []
    done = give_back(check=False, root=str(node.root), run=node.run)
    assert said == done
    assert done["actions"] == [f"remove {BLACKLIST}", f"rebuild the initramfs of {RELEASE}"]  # the older one has none
    assert not (node.root / BLACKLIST[1:]).exists() and done["reboot_required"] is False
    assert [row["in_initramfs"] for row in done["kernels"]] == [False, False]
    assert [row["after"] for row in done["diff"]] == [""]
    assert give_back(check=False, root=str(node.root), run=node.run)["changed"] is False


def test_killed_before_the_initramfs_was_rebuilt(node: Node) -> None:
    node.settle()
    (node.root / BLACKLIST[1:]).unlink()
    node.effects[f"/usr/sbin/update-initramfs -u -k {RELEASE}"] = lambda: take_out(node, RELEASE)
    done = give_back(check=False, root=str(node.root), run=node.run)
    assert done["actions"] == [f"rebuild the initramfs of {RELEASE}"]


def test_initramfs_that_keeps_the_blacklist(node: Node) -> None:
    node.settle()
    with pytest.raises(StackError, match=f"initrd.img-{RELEASE} still contains {BLACKLIST}"):
        give_back(check=False, root=str(node.root), run=node.run)
