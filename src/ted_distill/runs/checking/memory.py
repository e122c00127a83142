"""Memory: the most that a process has held, and how much the machine has."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_RESET_PEAK = "5"
"""What resets the peak of a process when it is written into its `clear_refs` (proc(5))."""
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Files with the limit of a group of processes, of version 2 and 1 of cgroups."""
_USED = ("memory.current", "memory.usage_in_bytes")
"""Files with what such a group holds."""
_FILES = ("total_inactive_file", "inactive_file")
"""Lines of `memory.stat` with the size of the file cache that the kernel frees when memory is short."""


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far, where that is possible: on a GPU, and for a process on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def peak(device: torch.device) -> int:
    """Bytes that were held at once since `reset_peak`: on the GPU, or by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if found := _own_peak():
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def release() -> None:
    """Give back what nothing uses any more, also to other processes on the GPU."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def there(device: torch.device) -> int:
    """Bytes of the GPU, or those that this process may have on this machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return min([psutil.virtual_memory().total, *_limits()])


def free(device: torch.device) -> int:
    """Bytes that no other process takes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    own = psutil.Process().memory_info().rss
    known = [psutil.virtual_memory().available + own]
    known += [limit - used + own for folder in _groups() if (limit := _number(folder, _LIMITS)) is not None
              if (used := _used(folder)) is not None]  # fmt: skip
    return max(0, min(known))


def cores() -> float | None:
    """Processors that the container lets this process use at once; None without such a limit."""
    found = []
    for folder in _groups():
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            found.append(int(quota) / int(period))
    return min(found, default=None)


def _limits() -> list[int]:
    """Limits of the container and of each group that this process is in; a word, or a very large number, is none."""
    found = [_number(folder, _LIMITS) for folder in _groups()]
    return [limit for limit in found if limit is not None]


def _groups() -> set[Path]:
    """The folders of the container and of each group that this process is in."""
    folders = {_CGROUP, _CGROUP / "memory"}
    with suppress(OSError):
        for line in _OWN_CGROUP.read_text(encoding="utf-8").splitlines():
            _, kinds, place = line.split(":", 2)
            root = _CGROUP / "memory" if "memory" in kinds.split(",") else _CGROUP
            own = root / place.strip("/")
            folders |= {own, *(parent for parent in own.parents if parent.is_relative_to(_CGROUP))}
    return folders


def _used(folder: Path) -> int | None:
    """What a group of processes holds, without the files that the kernel keeps in memory as long as there is room."""
    used = _number(folder, _USED)
    if used is None:
        return None
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, size = line.partition(" ")
            if name in _FILES:
                return max(0, used - int(size))
    return used


def _number(folder: Path, names: tuple[str, ...]) -> int | None:
    """What the first of these files that is there holds; None for a word."""
    for name in names:
        with suppress(OSError, ValueError):
            return int((folder / name).read_text(encoding="ascii"))
    return None


def _own_peak() -> int:
    """Bytes that this process held at once since `reset_peak`, which psutil does not know on Linux; 0 elsewhere."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):  # such as `VmHWM:  2048 kB`
                return 1024 * int(line.split()[1])
    return 0
