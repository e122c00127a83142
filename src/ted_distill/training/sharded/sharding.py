"""Weights that are split over processes (FSDP2), beside a whole module of the same shape.

The module that the stages know stays as transformers made it: it is what is saved, read and fingerprinted, by the code
that does so in one process. What is trained is its twin, whose weights accelerate shards. The whole module has weights
only while it is saved or read, on the main process; in between it has stand-ins, which have a shape and take no memory.

All functions that move weights are called by all processes at once: their shards are gathered or dealt out together.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed import all_reduce, broadcast
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ...method.shapes import block_lists

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_WRAPPED = re.compile(r"(_orig_mod|_checkpoint_wrapped_module)\.")


def twin_of(module: AnyModule, keep: list[Any]) -> AnyModule:
    """A copy of a module with the same memory for its weights.

    Args:
        keep: objects that it refers to and that both share, such as the task whose method chooses the logits.
    """
    memo: dict[int, Any] = {id(kept): kept for kept in keep}
    for weight in module.parameters():
        memo[id(weight)] = nn.Parameter(weight.data, requires_grad=weight.requires_grad)
    for part in module.modules():
        if (cache := getattr(part, "cache", None)) is not None:
            memo[id(cache)] = cache
    return copy.deepcopy(module, memo)


def empty(whole: nn.Module) -> None:
    """Put stand-ins in the place of a module's weights: zeros of the same shape in the memory of one number."""
    for weight in whole.parameters():
        weight.data = torch.zeros((), dtype=weight.dtype).expand(weight.shape)


def gather(whole: nn.Module, sharded: nn.Module, main: bool, *, trained: bool = False) -> None:
    """Give the whole module the weights of its sharded twin, one after the other, on a CPU and on the main process.

    Args:
        trained: those alone that are trained.
    """
    _reshard(sharded)
    wholes = dict(whole.named_parameters())
    for name, weight in _named(sharded):
        if trained and not weight.requires_grad:
            continue
        full = weight.detach()
        if isinstance(full, DTensor):
            on_mesh: Any = full.to(full.device_mesh.device_type)
            full = on_mesh.full_tensor()
        if main:
            wholes[name].data = full.cpu()
    for name, buffer in sharded.named_buffers():
        whole.get_buffer(_WRAPPED.sub("", name)).copy_(buffer)


def materialise(whole: nn.Module) -> None:
    """Give a module memory for its weights, to read a checkpoint into."""
    for weight in whole.parameters():
        weight.data = torch.empty(weight.shape, dtype=weight.dtype)


@torch.no_grad()
def deal_out(whole: nn.Module, sharded: nn.Module, main: bool) -> None:
    """Give every process its shards of the trained weights of the main process's whole module."""
    _reshard(sharded)
    wholes = dict(whole.named_parameters())
    for name, weight in _named(sharded):
        if not weight.requires_grad:
            continue
        device = torch.device(weight.device_mesh.device_type) if isinstance(weight, DTensor) else weight.device
        full = wholes[name].data.to(device) if main else torch.empty(weight.shape, dtype=weight.dtype, device=device)
        if isinstance(weight, DTensor):
            weight.to_local().copy_(distribute_tensor(full, weight.device_mesh, weight.placements).to_local())
        else:
            broadcast(full, 0)
            weight.copy_(full)
    for name, buffer in sharded.named_buffers():
        if main:
            buffer.copy_(whole.get_buffer(_WRAPPED.sub("", name)))
        broadcast(buffer, 0)


def _named(sharded: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Weights under the names of the whole module."""
    for name, weight in sharded.named_parameters():
        yield _WRAPPED.sub("", name), weight


def _reshard(module: nn.Module) -> None:
    """Free what a forward pass has gathered: the weights of the outermost modules stay whole after it."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


# --- what is sharded together ---------------------------------------------------------------------------------


def block_classes(model: nn.Module) -> list[str]:
    """Names of the classes of a model's blocks, each of which is gathered by itself."""
    return sorted({type(block).__name__ for blocks in block_lists(model) for block in blocks})


def shard_frozen(model: nn.Module) -> None:
    """Shard the blocks of a frozen model, which are most of it; its embeddings and head stay whole."""
    for blocks in block_lists(model):
        for block in blocks:
            if any(True for _ in block.parameters()):
                fully_shard(block, reshard_after_forward=True)


def agreed(device: torch.device) -> Any:
    """A function that says whether something is true in all processes, which call it at once."""

    def agree(here: bool) -> bool:
        everywhere = torch.tensor(int(here), device=device)
        all_reduce(everywhere, torch.distributed.ReduceOp.MIN)
        return bool(everywhere)

    return agree
