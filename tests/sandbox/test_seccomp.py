"""The filter's numbers are those of the kernel's headers; what it does is seen in test_attacks.py."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from peft_eval.sandbox.seccomp import CALLS, seccomp_filter

HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_of_calls(machine: str):
    header = next((Path(path) for path in HEADERS[machine] if Path(path).is_file()), None)
    if header is None:
        pytest.skip("no kernel headers (package linux-libc-dev)")
    numbers = dict(re.findall(r"#define __NR_(\w+)\s+(\d+)", header.read_text()))
    ours = CALLS[machine][1]
    assert {name: int(numbers[name]) for name in ours if name in numbers} == {n: ours[n] for n in ours if n in numbers}
    assert len(ours.keys() & numbers.keys()) >= len(ours) - 2


@pytest.mark.parametrize("machine", CALLS)
def test_every_jump_stays_within_the_program(machine: str):
    program = list(struct.iter_unpack("=HBBI", seccomp_filter(machine) or b""))
    assert program[-1] == (0x06, 0, 0, 0x7FFF0000)
    for place, (_, if_true, if_false, _) in enumerate(program):
        assert place + 1 + max(if_true, if_false) < len(program) or place == len(program) - 1


def test_an_unknown_machine_has_none():
    assert seccomp_filter("riscv64") is None
