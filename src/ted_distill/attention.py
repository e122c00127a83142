"""Fast disentangled attention for DeBERTa-v2 and v3: the same numbers in less time.

Disentangled attention (DeBERTa, arXiv 2006.03654, equations 2 to 4) scores query i and key j by

    s_ij = (q_i . k_j  +  q_i . k'[delta(i, j)]  +  k_j . q'[delta(j, i)]) / sqrt(3 d)

where k' and q' are projections of a table of relative positions. The second term is "content to position" (c2p),
the third "position to content" (p2c); a model may have either, both or none, and 3 is one more than it has.

transformers multiplies with the whole table, copied for every row of the batch, and gathers. But delta depends on
i - j alone, so along a row of scores the table is read in order, and one step earlier in the next row. Here each
layer projects only the positions that occur, once for the whole batch, multiplies, and reads the scores through a
sheared view; where no gradient is needed, the sum goes to PyTorch's fused attention as a bias.

Shapes: B batch, T tokens, H heads, d width of a head, P = 2T relative positions (one more than occur, see `_offsets`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

_ROWS = 128
"""Rows of scores made at a time. They need T + rows positions: with all rows at once half of the product is unused,
with few rows the products are small."""


def use_fast_attention(model: nn.Module) -> int:
    """Let every disentangled self-attention inside `model` compute the same numbers faster.

    The model's outputs and gradients stay what they were to rounding, dropout draws the same random numbers, and
    weights, config and saved checkpoints are not touched. Where a caller wants something it does not have (attention
    probabilities, separate query states), a module computes as before.

    Returns:
        The number of modules changed: 0 for families without disentangled attention (or already changed).
    """
    return _swap(model, DisentangledSelfAttention, FastDisentangledSelfAttention)


def use_plain_attention(model: nn.Module) -> int:
    """Undo `use_fast_attention`: the modules are again what transformers made.

    Returns:
        The number of modules changed back.
    """
    return _swap(model, FastDisentangledSelfAttention, DisentangledSelfAttention)


def _swap(model: nn.Module, old: type[nn.Module], new: type[nn.Module]) -> int:
    # The class and not an attribute `forward`: nothing is left on the module, copies and pickles of it just work,
    # and no reference cycle keeps a dropped model in memory. Subclasses of others are left alone.
    modules = [module for module in model.modules() if type(module) is old]
    for module in modules:
        module.__class__ = new
    return len(modules)


class FastDisentangledSelfAttention(DisentangledSelfAttention):
    """What a module is while `use_fast_attention` is on: the parent's weights and another forward."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As the parent's.

        Args:
            hidden_states: (B, T, D).
            attention_mask: broadcasts to (B, H, T, T); query i sees key j where it is not 0.
            relative_pos: (1, T, T) as the encoder makes it, a function of i - j; other shapes go to the parent.
            rel_embeddings: the table of relative positions, at least (2 * span, D).

        Returns:
            (B, T, H * d) and the attention probabilities, which are None unless asked for.
        """
        tokens = hidden_states.shape[1]
        usual = relative_pos is not None and rel_embeddings is not None and relative_pos.numel() == tokens * tokens
        if output_attentions or query_states is not None or (self.relative_attention and not usual):
            return super().forward(
                hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
            )
        query, key, value = self.query_proj(hidden_states), self.key_proj(hidden_states), self.value_proj(hidden_states)
        scale = self._scale(query.dtype)
        query = query / scale
        terms = []
        if self.relative_attention and relative_pos is not None and rel_embeddings is not None:
            terms = self._position_terms(query, key, scale, relative_pos.view(tokens, tokens), rel_embeddings)
        query, key, value = (self._split_heads(states) for states in (query, key, value))
        if self._needs_graph(query, key, value, *terms):
            context = self._attend(query, key, value, terms, attention_mask.bool())
        else:
            context = _attend_fused(query, key, value, terms, attention_mask.bool())
        return context.transpose(1, 2).flatten(2), None

    def _split_heads(self, states: Tensor) -> Tensor:
        """(B, T, H * d) -> (B, H, T, d), a view."""
        return states.unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)

    def _scale(self, dtype: torch.dtype) -> Tensor:
        """sqrt(d * number of terms), rounded as in transformers: in float32, then to the scores' type."""
        terms = 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
        return torch.tensor(self.attention_head_size * terms, dtype=torch.float32).sqrt().to(dtype)

    def _position_terms(
        self, query: Tensor, key: Tensor, scale: Tensor, relative_pos: Tensor, rel_embeddings: Tensor
    ) -> list[Tensor]:
        """The scaled c2p and p2c terms, those that the model has, each (B, H, T, T).

        Args:
            query: (B, T, H * d), already divided by `scale`.
            key: (B, T, H * d).
            relative_pos: (T, T), the number in the table of each i - j, from -span to span.
        """
        # Dropout on the table and not on the rows taken from it: one position may serve several i - j and both terms.
        table = self.pos_dropout(rel_embeddings)
        span, offsets = self.pos_ebd_size, _offsets(relative_pos)
        terms = []
        if "c2p" in self.pos_att_type:
            project = self.key_proj if self.share_att_key else self.pos_key_proj
            rows = _project_rows(project, table[: 2 * span], (offsets + span).clamp(0, 2 * span - 1))
            terms.append(_sheared_product(query, rows, self.num_attention_heads))
        if "p2c" in self.pos_att_type:
            project = self.query_proj if self.share_att_key else self.pos_query_proj
            rows = _project_rows(project, table[: 2 * span], (span - offsets).clamp(0, 2 * span - 1))
            terms.append(_sheared_product(key, rows / scale, self.num_attention_heads).transpose(-1, -2))
        return terms

    def _needs_graph(self, *tensors: Tensor) -> bool:
        # Dropout too: a checkpointed layer runs first without and then with a graph, and both must draw alike.
        dropout = self.training and self.dropout.p > 0
        return dropout or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, terms: list[Tensor], mask: Tensor) -> Tensor:
        """softmax(scores) . value, (B, H, T, d), dropout on the probabilities.

        Not the fused kernel: on CPUs it has neither dropout nor a gradient for the bias, and what PyTorch then runs
        instead is slower than this.
        """
        scores = query @ key.transpose(-1, -2)
        for term in terms:
            scores = scores.add_(term)
        scores = scores.masked_fill_(~mask, torch.finfo(query.dtype).min)
        return self.dropout(scores.softmax(-1)) @ value


def _attend_fused(query: Tensor, key: Tensor, value: Tensor, terms: list[Tensor], mask: Tensor) -> Tensor:
    """`FastDisentangledSelfAttention._attend` without dropout, in PyTorch's fused kernel."""
    # Half of the lowest number: added to any score it is still itself, so that a row of padding attends evenly as in
    # transformers, and a kernel that multiplies by log2(e) does not reach infinity.
    bias = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min / 2)
    for number, term in enumerate(terms):
        bias = bias.add_(term) if number else bias + term
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)


# --- relative positions ---------------------------------------------------------------------------------------


def _offsets(relative_pos: Tensor) -> Tensor:
    """(T, T) of a function of i - j -> (2T,): its values for i - j = T - 1, ..., 1 - T, and the last once more.

    They are read from the first column and the first row. The extra one makes the width even, which matrix kernels
    prefer, and leaves the sheared view a row to step into when T is 1; no score reads it.
    """
    return torch.cat([relative_pos[:, 0].flip(0), relative_pos[0, 1:], relative_pos[0, -1:]])


def _project_rows(project: nn.Module, table: Tensor, numbers: Tensor) -> Tensor:
    """Rows `numbers` (P,) of the projected table, (P, H * d); projected first where they repeat (long inputs)."""
    if len(numbers) <= len(table):
        return project(table.index_select(0, numbers))
    return project(table).index_select(0, numbers)


def _sheared_product(states: Tensor, rows: Tensor, num_heads: int) -> Tensor:
    """(B, T, H * d) and (2T, H * d) -> (B, H, T, T), [i, j] = states[i] . rows[T - 1 - i + j] in each head."""
    batch, tokens, _ = states.shape
    states = states.unflatten(-1, (num_heads, -1)).permute(2, 0, 1, 3)
    rows = rows.unflatten(-1, (num_heads, -1)).permute(1, 2, 0)
    # A compiler fuses what the views' own backward does.
    shear = _shear if torch.compiler.is_compiling() else _Shear.apply
    blocks = []
    # Counting the blocks leaves T free in a compiled model; counting in steps up to T would not.
    for number in range(-(-tokens // _ROWS)):
        start, stop = number * _ROWS, min((number + 1) * _ROWS, tokens)
        block = states[:, :, start:stop].flatten(1, 2)
        product = torch.bmm(block, rows[:, :, tokens - stop : 2 * tokens - start])
        blocks.append(shear(product.unflatten(1, (batch, stop - start))))
    return (torch.cat(blocks, dim=-2) if len(blocks) > 1 else blocks[0]).transpose(0, 1)


def _shear(matrices: Tensor) -> Tensor:
    """View (..., R, T + R) -> (..., R, T), [r, j] = matrices[r, R - 1 - r + j]: each row starts one step earlier."""
    rows, width = matrices.shape[-2:]
    flat = matrices.flatten(-2).narrow(-1, rows - 1, rows * (width - 1))
    return flat.unflatten(-1, (rows, width - 1))[..., : width - rows]


class _Shear(torch.autograd.Function):
    """`_shear` with a backward that fills one buffer; autograd's own would fill one for each view in it."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        ctx.shape = matrices.shape
        return _shear(matrices)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        matrices = gradient.new_zeros(ctx.shape)
        _shear(matrices).copy_(gradient)
        return matrices
