"""Training only those word embeddings that occur: the same weights in less time and memory.

A small data set uses a few thousand of the 128,100 rows of DeBERTa-v3's word embeddings. The others have a gradient of
zero in every step, and an optimizer of the Adam family moves such a row by lr * m / (sqrt(v) + eps) with m = v = 0,
that is, not at all. Still, every step fills, clips and reads a gradient of the whole table, and the optimizer keeps m
and v for it. Here the rows that occur are a separate parameter, and the table is frozen.

The result is the same only where a gradient of zero means no step: with an optimizer that treats each element by
itself (Adam, AdamW; not Adafactor or LAMB, which look at whole tensors), and without weight decay, which would shrink
every row.

Shapes: V rows of the table, n of them trained, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

_ROWS = 10_000
"""Rows of a data set read at a time: few enough to fit into memory, many enough that a step's overhead is small."""


def seen_tokens(features: Dataset) -> Tensor:
    """The tokens that occur in a data set.

    Args:
        features: their `input_ids` hold lists of token ids; in a selection or shuffle, only the visible rows count.

    Returns:
        (n,) distinct ids in ascending order, int64.

    Raises:
        ValueError: there are no `input_ids`.
    """
    found = [np.empty(0, dtype=np.int64)]
    for rows in features.with_format("arrow", columns=["input_ids"]).iter(_ROWS):
        found.append(pc.unique(pc.list_flatten(rows.column("input_ids"))).to_numpy())
    return torch.from_numpy(np.unique(np.concatenate(found)).astype(np.int64))


def use_seen_embeddings(model: PreTrainedModel, token_ids: Tensor) -> int:
    """Restrict training to the input embeddings of `token_ids`.

    Outputs, gradients of these rows, `state_dict` and saved files stay the same. Only the set of parameters
    changes: (V, D) `weight` is frozen, and (n, D) `seen` is trained. So make the optimizer afterwards, and call
    `undo_seen_embeddings` before anything reads or replaces `weight` itself, such as a resized vocabulary.

    A model is left alone if its table is not a plain `nn.Embedding`, is frozen, has an option that changes rows or
    gradients (`max_norm`, `scale_grad_by_freq`, `sparse`), or is used elsewhere too: by a model that predicts tokens,
    or under another name.

    Args:
        token_ids: (n,) every id that a training batch can hold, in any order, special tokens and those that only a
            collator adds included; a row that is missing here is read but not trained. `padding_idx` may be among
            them: it gets no gradient, as in `nn.Embedding`.

    Returns:
        The number of rows that are trained; 0 if the model was left alone.

    Raises:
        ValueError: an id is not a row of the table.
    """
    table = _table_of_its_own(model)
    if table is None:
        return 0
    ids = token_ids.to(table.weight.device, torch.long).unique()
    outside = ids[(ids < 0) | (ids >= len(table.weight))]
    if len(outside):
        raise ValueError(f"token_ids: expected 0 to {len(table.weight) - 1}, got {outside.tolist()[:5]}")
    if table.padding_idx is not None:
        ids = ids[ids != table.padding_idx]
    if len(ids) == 0:
        return 0
    row_of = torch.full((len(table.weight),), -1, device=ids.device)
    row_of[ids] = torch.arange(len(ids), device=ids.device)
    # A leftover gradient would count when all gradients are clipped together.
    table.weight.requires_grad_(False).grad = None
    table.register_parameter("seen", nn.Parameter(table.weight[ids]))
    table.register_buffer("row_of", row_of, persistent=False)
    table.__class__ = SeenEmbedding
    return len(ids)


def predicts_tokens(model: PreTrainedModel) -> bool:
    """Whether a model's outputs are tokens, for which many families use the same table as for its inputs."""
    return model.get_output_embeddings() is not None


def undo_seen_embeddings(model: nn.Module) -> int:
    """Undo `use_seen_embeddings`: the trained rows are back in the table, and all of it is trained.

    Returns:
        The number of rows put back; 0 if there was nothing to undo.
    """
    rows = 0
    for table in [module for module in model.modules() if type(module) is SeenEmbedding]:
        table.put_back()
        rows += len(table.seen)
        del table.seen, table.row_of
        table.weight.requires_grad_(True)
        table.__class__ = nn.Embedding  # type: ignore[assignment]
    return rows


def token_table(model: PreTrainedModel) -> nn.Embedding | None:
    """The embeddings of tokens; None in families that have no such table."""
    try:
        table = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    return table if isinstance(table, nn.Embedding) else None


def _table_of_its_own(model: PreTrainedModel) -> nn.Embedding | None:
    """The input embeddings if they can be swapped, see `use_seen_embeddings`."""
    table = token_table(model)
    if type(table) is not nn.Embedding or not table.weight.requires_grad:
        return None
    if table.max_norm is not None or table.scale_grad_by_freq or table.sparse:
        return None
    # Not only tied heads: the head of DeBERTa-v3 multiplies by the table without a name for it.
    if predicts_tokens(model):
        return None
    names = [name for name, weight in model.named_parameters(remove_duplicate=False) if weight is table.weight]
    return table if len(names) == 1 else None


class SeenEmbedding(nn.Embedding):
    """The class of an `nn.Embedding` while `use_seen_embeddings` is on.

    Attributes:
        weight: (V, D), frozen; its trained rows are out of date between calls of `put_back`.
        seen: (n, D), the trained rows, in the order of their ids.
        row_of: (V,), the row in `seen` of each id, or -1; that of `padding_idx` is -1 too, so it gets no gradient.
    """

    seen: Tensor
    row_of: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(...) ids -> (..., D), as `nn.Embedding`."""
        rows = self.row_of[input]
        # Always both lookups: they cost little, and asking a GPU whether a batch needs the table means waiting for it.
        # Detached, so that unfreezing the whole model does not train the padding.
        frozen = F.embedding(input, self.weight.detach())
        return torch.where((rows < 0).unsqueeze(-1), frozen, F.embedding(rows.clamp(min=0), self.seen))

    @torch.no_grad()
    def put_back(self) -> None:
        """Write the trained rows into `weight`."""
        self.weight.index_copy_(0, self._ids(), self.seen)

    def _ids(self) -> Tensor:
        """(n,) the ids of the rows in `seen`."""
        return (self.row_of >= 0).nonzero().squeeze(1)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        # Into the table and not into a copy of it: a state dict shares memory with its module.
        self.put_back()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[f"{prefix}seen"]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        # Put back first, so a table that is missing or does not fit changes nothing.
        self.put_back()
        seen = self._parameters.pop("seen")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        self.register_parameter("seen", seen)
        with torch.no_grad():
            rows = self.weight[self._ids()]
            if local_metadata.get("assign_to_params_buffers", False):
                self.seen = nn.Parameter(rows, requires_grad=self.seen.requires_grad)
            else:
                self.seen.copy_(rows)
