"""FSDP2 on CPU processes: accelerate shards weights on GPUs alone, and ignores a plugin on CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType


@contextmanager
def sharded_on_cpus() -> Iterator[None]:
    """Within this context, accelerate takes CPU processes for GPUs where it decides whether to shard."""
    made = AcceleratorState.__init__

    def make(self: AcceleratorState, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        plugin = kwargs.get("fsdp_plugin")
        if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = plugin
            if self._mixed_precision != "no":
                plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = make
    try:
        yield
    finally:
        AcceleratorState.__init__ = made
