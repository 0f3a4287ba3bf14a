"""The kernel side of the NVIDIA driver: nouveau kept out, one right module for every kernel, loaded if it can be."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, Sequence

from ..errors import StackError
from ..io.files import FileChanges
from ..node.files import NodeFiles
from ..node.processes import gpu_processes
from .state import (
    BLACKLIST,
    Kernel,
    KernelSide,
    ModuleRequest,
    RunText,
    blacklist_file,
    is_wanted,
    read_services,
    read_state,
    run_command,
)
from .texts import DkmsSource, ModuleFile, first_error, last_lines, parse_modinfo

# The kernel's words for a module whose signature it does not take, by version of the kernel.
_SIGNATURE_REFUSALS = ("Key was rejected by service", "Required key not available")
_SECURE_BOOT_HELP = (
    "Sign it with a key that the machine trusts (mokutil --import, then confirm at the console during the next boot),"
    " use the distribution's signed modules, or set nvidia_driver_source to found and keep the present driver."
)


@dataclass(frozen=True)
class KernelActions:
    """What has to be done, in this order; empty when all is right."""

    write_blacklist: bool
    build: list[Kernel]
    rebuild: list[Kernel]
    load: bool

    def texts(self, request: ModuleRequest) -> list[str]:
        return [
            *([f"write {BLACKLIST}"] if self.write_blacklist else []),
            *(f"build nvidia {request.version} for {kernel.release}" for kernel in self.build),
            *(f"rebuild the initramfs of {kernel.release}" for kernel in self.rebuild),
            *([f"load nvidia {request.version}"] if self.load else []),
        ]


def ensure(request: ModuleRequest, *, check: bool, root: str = "/", run: RunText = run_command) -> dict[str, Any]:
    """Bring the kernel side to what is requested; the result of nvidia_kernel_module. Raises StackError."""
    before = read_state(request, root, run)
    _refuse(before, request)
    actions = plan_actions(before, request)
    diff = _diff(before, actions, request, root)
    after = _foresee(before, actions, request)
    if not check and actions.texts(request):
        output = _apply(before, actions, request, root, run)
        after = read_state(request, root, run)
        _judge(after, actions, request, output, root)
    return _result(after, request, actions.texts(request), reboot_reasons(after, request), diff, root)


def give_back(*, check: bool, root: str = "/", run: RunText = run_command) -> dict[str, Any]:
    """Enable nouveau again from the next boot on; a result as that of `ensure`. Raises StackError."""
    request = ModuleRequest(version="", kind="")
    state = read_state(request, root, run)
    changes = FileChanges(root)
    if changes.read(BLACKLIST) is not None:
        changes.remove(BLACKLIST)
    rebuild = [kernel for kernel in state.kernels if kernel.listed]
    actions = [
        *([f"remove {BLACKLIST}"] if changes else []),
        *(f"rebuild the initramfs of {kernel.release}" for kernel in rebuild),
    ]
    diff = changes.diff(bytes.decode)
    # As it is on disk afterwards: nowhere.
    after = replace(
        state, kernels=[replace(one, blacklisted=None if one.blacklisted is None else False) for one in state.kernels]
    )
    if not check and actions:
        with changes.written():
            pass
        output = {one.release: run(state.tool.rebuild(one)) for one in rebuild if state.tool}
        after = read_state(request, root, run)
        for kernel in after.kernels:
            if kernel.listed:
                raise StackError(
                    f"{kernel.initramfs} still contains {BLACKLIST} after it was rebuilt, so nouveau stays disabled."
                    " Rebuild it by hand to find the cause.",
                    stderr=last_lines(output.get(kernel.release, "")),
                )
    return _result(after, request, actions, [], diff, root)


def _result(
    state: KernelSide,
    request: ModuleRequest,
    actions: list[str],
    reasons: list[str],
    diff: list[dict[str, str]],
    root: str,
) -> dict[str, Any]:
    files = NodeFiles(root)
    return {
        "changed": bool(actions),
        "actions": actions,
        "kernels": [kernel.row() for kernel in state.kernels],
        "loaded": state.loaded,
        "reboot_required": bool(reasons),
        "reboot_reasons": reasons,
        "processes": gpu_processes(files),
        "services": read_services(files, request),
        "machine": {
            "machine_id": files.text("/etc/machine-id", "machine"),
            "boot_id": files.text("/proc/sys/kernel/random/boot_id", "machine"),
        },
        "diff": diff,
    }


# --- Judging ---------------------------------------------------------------------------------------


def plan_actions(state: KernelSide, request: ModuleRequest) -> KernelActions:
    write = not state.is_blacklisted
    build = [] if request.pending else [kernel for kernel in state.kernels if not _is_right(kernel, request)]
    rebuild = [kernel for kernel in state.kernels if kernel.blacklisted is False and (write or kernel.nouveau)]
    runs_known_kernel = state.running in [kernel.release for kernel in state.kernels]
    load = state.loaded is None and not state.in_the_way and runs_known_kernel
    return KernelActions(write_blacklist=write, build=build, rebuild=rebuild, load=load)


def _foresee(state: KernelSide, actions: KernelActions, request: ModuleRequest) -> KernelSide:
    """The state after the actions, and with `pending` after the packages."""
    kernels = []
    for kernel in state.kernels:
        if kernel in actions.build or (request.pending and not _is_right(kernel, request)):
            module = ModuleFile(version=request.version, kind=request.kind, signer=None)
            kernel = replace(kernel, dkms="installed", module=module)
        if kernel.release in [rebuilt.release for rebuilt in actions.rebuild]:
            kernel = replace(kernel, blacklisted=True)
        kernels.append(kernel)
    return replace(state, kernels=kernels, loaded=request.version if actions.load else state.loaded)


def _is_right(kernel: Kernel, request: ModuleRequest) -> bool:
    # Without a word of DKMS it is a package's own module, which is as good.
    is_installed = kernel.dkms is None or kernel.dkms.startswith("installed")
    return is_installed and kernel.module is not None and is_wanted(kernel.module, request)


def _refuse(state: KernelSide, request: ModuleRequest) -> None:
    """Raises for what can be told before anything is changed."""
    _refuse_unsigned(state, request)
    if request.pending:
        return
    if not state.kernels:
        raise StackError(
            "No kernel is installed: /lib/modules has none that this node runs or can boot. Install the distribution's"
            " kernel, or on a node that runs in a container, use the driver of its host."
        )
    hopeless = {kernel.release: _hopeless(kernel, state, request) for kernel in state.kernels}
    _fail({release: why for release, why in hopeless.items() if why}, state, request)


def _hopeless(kernel: Kernel, state: KernelSide, request: ModuleRequest) -> str | None:
    """Why no build can help this kernel."""
    if _is_right(kernel, request):
        return None
    module = kernel.module
    if module and module.version == request.version and module.kind != request.kind:
        return (
            f"its module {module.version} is the {module.kind} one; install the {request.kind} kernel modules, or set"
            f" nvidia_driver_kernel_modules to {module.kind}"
        )
    if not state.sources:
        return (
            f"{_found(kernel)}, and no package installed a source of {request.version} for DKMS; install the package of"
            " its kernel modules for this kernel"
        )
    if kernel.headers is None:
        is_new = request.kernels is not None and kernel.release not in request.kernels
        return (
            f"{_found(kernel)}, and its headers are missing: install {state.header_package.format(kernel.release)}, or"
            " remove that kernel"
            + ("; it was installed after the plan was made, and a new plan asks for them: run again" if is_new else "")
        )
    return None


def _found(kernel: Kernel) -> str:
    return f"its module is {kernel.module.version}" if kernel.module else "it has no module"


def _refuse_unsigned(state: KernelSide, request: ModuleRequest) -> None:
    unsigned = [
        kernel.release
        for kernel in state.kernels
        if kernel.module and is_wanted(kernel.module, request) and not kernel.module.signer
    ]
    if state.secure_boot and unsigned:
        raise StackError(
            f"Secure Boot is on and the NVIDIA module {request.version} is not signed (kernel {', '.join(unsigned)}),"
            f" so the kernel will not load it. {_SECURE_BOOT_HELP}"
        )


def _fail(reasons: dict[str, str], state: KernelSide, request: ModuleRequest, **details: Any) -> None:
    if reasons:
        text = "; ".join(f"kernel {release}: {why}" for release, why in reasons.items())
        raise StackError(
            f"NVIDIA's {request.kind} kernel module {request.version} is not in place. {text[0].upper()}{text[1:]}.",
            kernels=[kernel.row() for kernel in state.kernels],
            **details,
        )


def _judge(
    state: KernelSide, actions: KernelActions, request: ModuleRequest, output: dict[str, str], root: str
) -> None:
    """Raises unless what was to be done is so now."""
    _refuse_unsigned(state, request)
    reasons, logs = {}, []
    for kernel in state.kernels:
        if not _is_right(kernel, request):
            log = _make_log(NodeFiles(root), state.sources, kernel.release) or output.get(kernel.release, "")
            logs.append(last_lines(log))
            error = first_error(log) or last_lines(log, 1) or "it printed nothing"
            reasons[kernel.release] = (
                f"{_found(kernel)} after DKMS built it ({error});"
                " set nvidia_driver_version to one that supports this kernel, or remove the kernel"
            )
    _fail(reasons, state, request, stderr="\n".join(logs))
    for kernel in state.kernels:
        if kernel.nouveau and not kernel.blacklisted:
            raise StackError(
                f"{kernel.initramfs} still contains {os.path.basename(kernel.nouveau[0])} without {BLACKLIST} after "
                "it was"
                f" rebuilt, so nouveau would use the GPU after a boot. Rebuild it by hand"
                f" ({' '.join(state.tool.rebuild(kernel)) if state.tool else 'no tool for it is installed'}) and see "
                "why.",
                stderr=last_lines(output.get("initramfs " + kernel.release, "")),
            )
    if actions.load and state.loaded is None:
        text = last_lines(output.get("load", ""))
        is_refused = any(words in text for words in _SIGNATURE_REFUSALS)
        raise StackError(
            f"modprobe nvidia did not load the module: {text or 'it printed nothing'}. "
            + (
                f"Secure Boot refuses its signature. {_SECURE_BOOT_HELP}"
                if is_refused
                else "The kernel's messages are in dmesg."
            ),
            stderr=text,
        )


def _make_log(files: NodeFiles, sources: Sequence[DkmsSource], release: str) -> str | None:
    for source in sources:
        directory = f"/var/lib/dkms/{source.name}/{source.version}"
        # DKMS writes it in build, and moves it once the build has succeeded.
        for path in [f"{directory}/build/make.log", *files.glob(f"{directory}/{release}/*/log/make.log", "dkms")]:
            text = files.text(path, "dkms")
            if text and f" {release} " in text.partition("\n")[0]:  # its first line says for which kernel
                return text
    return None


def reboot_reasons(state: KernelSide, request: ModuleRequest) -> list[str]:
    reasons = [f"{name} is loaded and uses the GPU; it is disabled from the next boot on" for name in state.in_the_way]
    if state.loaded and state.loaded != request.version:
        reasons.append(f"kernel module {state.loaded} is loaded, the libraries have version {request.version}")
    elif state.loaded_kind and state.loaded_kind != request.kind:
        reasons.append(f"the {state.loaded_kind} kernel module is loaded, the {request.kind} one is installed")
    releases = [kernel.release for kernel in state.kernels]
    if not state.loaded and state.running not in releases:
        reasons.append(
            f"the running kernel {state.running} has neither headers nor modules here, so nothing can be loaded into"
            f" it; the driver is built for {', '.join(releases) or 'none'}"
        )
    return reasons


# --- Applying --------------------------------------------------------------------------------------


def _apply(
    state: KernelSide, actions: KernelActions, request: ModuleRequest, root: str, run: RunText
) -> dict[str, str]:
    """Do it; what the commands printed, by kernel."""
    output = {}
    with blacklist_file(root).written():
        pass
    for kernel in actions.build:
        for source in state.sources:
            command = ["/usr/sbin/dkms", "install", "--force", "-m", source.name, "-v", source.version]
            output[kernel.release] = run([*command, "-k", kernel.release])
            module = parse_modinfo(run(["/sbin/modinfo", "-k", kernel.release, source.module]))
            if module and is_wanted(module, request):
                break
    for kernel in actions.rebuild:
        if state.tool:
            output["initramfs " + kernel.release] = run(state.tool.rebuild(kernel))
    if actions.load:
        output["load"] = run(["/sbin/modprobe", "nvidia"])
    return output


def _diff(state: KernelSide, actions: KernelActions, request: ModuleRequest, root: str) -> list[dict[str, str]]:
    before, after = [], []
    for kernel in actions.build:
        before.append(f"{kernel.release}: module {kernel.module.version if kernel.module else 'none'}\n")
        after.append(f"{kernel.release}: module {request.version}\n")
    for kernel in actions.rebuild:
        before.append(f"{kernel.release}: initramfs without the blacklist\n")
        after.append(f"{kernel.release}: initramfs with the blacklist\n")
    if actions.load:
        before.append("loaded: none\n")
        after.append(f"loaded: {request.version}\n")
    kernels = {
        "before_header": "kernels",
        "after_header": "kernels",
        "before": "".join(before),
        "after": "".join(after),
    }
    return [*blacklist_file(root).diff(bytes.decode), *([kernels] if after else [])]
