"""Memory kept between steps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from ted_distill.fast.memory import keep_freed_memory

FAULTS = """
import resource, sys, torch
from ted_distill.fast.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
step = lambda: [torch.ones(10_000_000) for _ in range(3)]  # 40 MB each: more than glibc ever keeps
for _ in range(20):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.long
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are not told")
def test_steps_that_keep_their_memory_meet_no_new_pages() -> None:
    faults = {}
    for how in ("keep", "give back"):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    huge_pages = 5 * 3 * 40_000_000 // (1 << 21)
    assert faults["give back"] > huge_pages // 2
    assert faults["keep"] < faults["give back"] // 10


def test_an_allocator_that_cannot_be_told_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
