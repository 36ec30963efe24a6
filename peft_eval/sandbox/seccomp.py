"""A filter of system calls for bubblewrap: what a program never needs and what has broken out of sandboxes before.

Namespaces hide the host; the filter keeps programs from asking the kernel for new namespaces, mounts, other processes'
memory, keys, and memory that counts as nobody's. Numbers: Linux' asm/unistd_64.h and asm-generic/unistd.h; the layout
of the filter: linux/filter.h and linux/seccomp.h.
"""

from __future__ import annotations

import errno
import platform
import struct

# linux/bpf_common.h: load a word of the call's description; jump if equal, at least, any bit set; return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and CLONE_NEWTIME
_X32_CALLS = 0x40000000

# Audit architecture, and the numbers of the calls.
_X86_64 = {
    "clone": 56, "ptrace": 101, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "setns": 308,
    "unshare": 272, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249,
    "keyctl": 250, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "open_by_handle_at": 304,
    "memfd_create": 319, "shmget": 29, "init_module": 175, "finit_module": 313, "kexec_load": 246, "reboot": 169,
}  # fmt: skip
_AARCH64 = {
    "clone": 220, "ptrace": 117, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "setns": 268,
    "unshare": 97, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218,
    "keyctl": 219, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "open_by_handle_at": 265,
    "memfd_create": 279, "shmget": 194, "init_module": 105, "finit_module": 273, "kexec_load": 104, "reboot": 142,
}  # fmt: skip
# Newer calls have the same number everywhere.
_EVERYWHERE = {
    "clone3": 435, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "memfd_secret": 447, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
}  # fmt: skip
CALLS = {
    "x86_64": (0xC000003E, _X86_64 | _EVERYWHERE),
    "aarch64": (0xC00000B7, _AARCH64 | _EVERYWHERE),
}


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """Returns the filter as the kernel reads it, or None for a machine whose numbers are not here.

    Denied calls fail with EPERM; `clone3`, whose flags a filter cannot see, with ENOSYS, so that libc falls back to
    `clone`, which is denied for new namespaces alone.
    """
    machine = machine or platform.machine()
    if machine not in CALLS:
        return None
    architecture, calls = CALLS[machine]
    denied = [number for name, number in calls.items() if name not in ("clone", "clone3")]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32_CALLS), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    program += [(_EQUAL, 0, 1, calls["clone3"]), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for number in denied:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    program += [
        (_EQUAL, 0, 3, calls["clone"]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
