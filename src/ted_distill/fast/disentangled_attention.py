"""The disentangled self-attention of DeBERTa-v2 and v3 while `use_fast_attention` is on.

Disentangled attention (DeBERTa, arXiv 2006.03654, equations 2 to 4) scores query i and key j by

    s_ij = (q_i . k_j  +  q_i . k'[delta(i, j)]  +  k_j . q'[delta(j, i)]) / sqrt(3 d)

where k' and q' are projections of a table of relative positions. The second term is "content to position" (c2p),
the third "position to content" (p2c). A model may have either, both or neither; 3 is one more than it has of these.

transformers multiplies with the whole table, copied for every row of the batch, and gathers. But delta depends on
i - j alone, so along a row of scores the table is read in order, and one step earlier in the next row. Here each
layer projects only the positions that occur, once for the whole batch, multiplies, and reads the scores through a
sheared view; where no gradient is needed, the sum goes to PyTorch's fused attention as a bias.

Shapes: B batch, T tokens, H heads, d width of a head, P = 2T relative positions (one more than occur, see `_offsets`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from .dropout import draws_fast, keep_factors

_ROWS = 128
"""Rows of scores made at a time. They need T + rows positions: with all rows at once half of the product is unused,
with few rows the products are small."""


class FastDisentangledSelfAttention(DisentangledSelfAttention):
    """The class of a module while `use_fast_attention` is on: the parent's weights with a different forward."""

    _projected: dict[str, Tensor] | None = None
    """A frozen module's projections of the table of relative positions, by term."""

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
        to_key = to_query = None
        if self.relative_attention and relative_pos is not None and rel_embeddings is not None:
            to_key, to_query = self._positions(scale, relative_pos.view(tokens, tokens), rel_embeddings)
        query, key, value = (self._split_heads(states) for states in (query, key, value))
        attend = self._attend if self._needs_graph(query, key, value) else _attend_fused
        context = attend(query, key, value, to_key, to_query, attention_mask.bool())
        return context.permute(1, 2, 0, 3).flatten(2), None

    def _split_heads(self, states: Tensor) -> Tensor:
        """(B, T, H * d) -> (H, B, T, d), a view."""
        return states.unflatten(-1, (self.num_attention_heads, -1)).permute(2, 0, 1, 3)

    def _scale(self, dtype: torch.dtype) -> Tensor:
        """sqrt(d * number of terms), rounded as in transformers: in float32, then to the scores' type."""
        terms = 1 + ("c2p" in self.pos_att_type) + ("p2c" in self.pos_att_type)
        return torch.tensor(self.attention_head_size * terms, dtype=torch.float32).sqrt().to(dtype)

    def _positions(
        self, scale: Tensor, relative_pos: Tensor, rel_embeddings: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """The tables k' and q' (scaled), each (H, P, d), in the order of `_offsets`; None for a missing term.

        Args:
            relative_pos: (T, T), the number in the table of each i - j, from -span to span.
        """
        # Dropout on the table, not on the rows taken from it: one position may serve several i - j and both terms.
        table = self.pos_dropout(rel_embeddings)
        span, offsets = self.pos_ebd_size, _offsets(relative_pos)
        to_key = to_query = None
        if "c2p" in self.pos_att_type:
            project = self.key_proj if self.share_att_key else self.pos_key_proj
            rows = self._project("c2p", project, table[: 2 * span], (offsets + span).clamp(0, 2 * span - 1))
            to_key = rows.unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1)
        if "p2c" in self.pos_att_type:
            project = self.query_proj if self.share_att_key else self.pos_query_proj
            numbers = (span - offsets).clamp(0, 2 * span - 1)
            rows = self._project("p2c", project, table[: 2 * span], numbers) / scale
            to_query = rows.unflatten(-1, (self.num_attention_heads, -1)).transpose(0, 1)
        return to_key, to_query

    def _project(self, term: str, project: nn.Module, table: Tensor, numbers: Tensor) -> Tensor:
        """Rows `numbers` (P,) of the projected table, (P, H * d)."""
        kept = self._projected
        if kept is None or self.training or torch.is_grad_enabled():
            return _project_rows(project, table, numbers)
        if term not in kept or (kept[term].dtype, kept[term].device) != (table.dtype, table.device):
            kept[term] = project(table)
        return kept[term].index_select(0, numbers)

    def _needs_graph(self, *tensors: Tensor) -> bool:
        # With dropout too: a checkpointed layer runs first without and then with a graph, and both must draw the same.
        dropout = self.training and self.dropout.p > 0
        return dropout or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, to_key: Tensor | None, to_query: Tensor | None, mask: Tensor
    ) -> Tensor:
        """softmax(scores) . value, (H, B, T, d), dropout on the probabilities.

        Not the fused kernel: on CPUs it has neither dropout nor a gradient for the bias, and PyTorch's fallback is
        slower than this.
        """
        factors = self._dropout_factors(query)
        if not torch.compiler.is_compiling():
            # Elsewhere autocast chooses the types; in here everything has the query's type, in backward too.
            with torch.autocast(query.device.type, enabled=False):
                return _Attend.apply(query, key, value, to_key, to_query, mask, factors)
        scores = query @ key.transpose(-1, -2)
        _add_terms(scores, query, key, to_key, to_query)
        probabilities = scores.masked_fill(~_for_heads(mask), torch.finfo(query.dtype).min).softmax(-1)
        return (probabilities if factors is None else probabilities * factors) @ value

    def _dropout_factors(self, query: Tensor) -> Tensor | None:
        """(H, B, T, T) of 0 and 1 / (1 - p), drawn as the module `dropout` draws; None without dropout."""
        if not self.training or self.dropout.p == 0:
            return None
        heads, batch, tokens, _ = query.shape
        if draws_fast(self.dropout, query):
            return keep_factors((heads, batch, tokens, tokens), self.dropout.p, query.dtype)
        # In the order of (B, H, T, T), so that the draws are those of transformers.
        return self.dropout(query.new_ones(batch, heads, tokens, tokens)).transpose(0, 1)


class _Attend(torch.autograd.Function):
    """Attention with relative positions and a custom backward.

    Autograd would keep every product that went into the scores, and pass their gradient on through views with
    unfavourable strides. This keeps only the probabilities.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        to_key: Tensor | None,
        to_query: Tensor | None,
        mask: Tensor,
        factors: Tensor | None,
    ) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        scores = query @ key.transpose(-1, -2)
        _add_terms(scores, query, key, to_key, to_query)
        seen = None if _sees_all(mask) else _for_heads(mask)
        if seen is not None:
            scores.masked_fill_(~seen, torch.finfo(scores.dtype).min)
        probabilities = scores.softmax(-1)
        ctx.save_for_backward(query, key, value, to_key, to_query, seen, factors, probabilities)
        return (probabilities if factors is None else probabilities * factors) @ value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, to_key, to_query, seen, factors, probabilities = ctx.saved_tensors
        dropped = probabilities if factors is None else probabilities * factors
        value_gradient = dropped.transpose(-1, -2) @ gradient
        del dropped
        scores = gradient @ value.transpose(-1, -2)
        if factors is not None:
            scores.mul_(factors)
        scores = torch._softmax_backward_data(scores, probabilities, -1, probabilities.dtype)
        if seen is not None:
            scores.mul_(seen)  # a row of padding attends evenly, and nothing of it depends on the scores
        query_gradient = scores @ key
        key_gradient = scores.transpose(-1, -2) @ query
        to_key_gradient = _products_backward(scores, query, to_key, query_gradient)
        to_query_gradient = _products_backward(scores.transpose(-1, -2), key, to_query, key_gradient)
        return query_gradient, key_gradient, value_gradient, to_key_gradient, to_query_gradient, None, None


def _attend_fused(
    query: Tensor, key: Tensor, value: Tensor, to_key: Tensor | None, to_query: Tensor | None, mask: Tensor
) -> Tensor:
    """`FastDisentangledSelfAttention._attend` without dropout, in PyTorch's fused kernel."""
    heads, batch, tokens, _ = query.shape
    if to_key is not None:
        bias = query.new_empty(heads, batch, tokens, tokens)
    else:
        bias = query.new_zeros(heads, batch, tokens, tokens if to_query is not None else 1)
    _add_terms(bias, query, key, to_key, to_query, onto_nothing=True)
    if not _sees_all(mask):
        # Half of the lowest number: it does not change when a score is added, so a row of padding attends evenly as
        # in transformers, and a kernel that multiplies by log2(e) does not reach infinity.
        masked = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min / 2)
        bias = bias + _for_heads(masked)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)


def _add_terms(
    scores: Tensor,
    query: Tensor,
    key: Tensor,
    to_key: Tensor | None,
    to_query: Tensor | None,
    onto_nothing: bool = False,
) -> None:
    """Add the c2p and p2c terms, those that the model has, to (H, B, T, T) scores, in place.

    Args:
        onto_nothing: the c2p term replaces the previous values.
    """
    for rows, product in _products(query, to_key):
        part = scores[..., rows, :]
        part.copy_(_shear(product)) if onto_nothing else part.add_(_shear(product))
    for rows, product in _products(key, to_query):
        # Made contiguous first: adding a transposed matrix is four times slower than copying and adding.
        scores[..., rows].add_(_shear(product).transpose(-1, -2).contiguous())


def _sees_all(mask: Tensor) -> bool:
    """Whether nothing is masked, as far as is known: checking is free on a CPU, but would make a GPU wait."""
    return not torch.compiler.is_compiling() and mask.device.type == "cpu" and bool(mask.all())


def _for_heads(mask: Tensor) -> Tensor:
    """(B, 1, T, T) or what broadcasts to it -> (1, B, T, T)."""
    return mask.transpose(0, 1)


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


def _products(states: Tensor, positions: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of rows R of (H, B, T, d) times the (H, P, d) positions they meet: (which rows, (H, B, R, T + R)).

    `_shear` of a product is the rows' part of a term.
    """
    if positions is None:
        return
    tokens = states.shape[2]
    # Counting the blocks leaves T free in a compiled model; counting in steps up to T would not.
    for number in range(-(-tokens // _ROWS)):
        start, stop = number * _ROWS, min((number + 1) * _ROWS, tokens)
        block = states[:, :, start:stop]
        product = torch.bmm(block.flatten(1, 2), positions[:, tokens - stop : 2 * tokens - start].transpose(1, 2))
        yield slice(start, stop), product.unflatten(1, block.shape[1:3])


def _products_backward(scores: Tensor, states: Tensor, positions: Tensor | None, gradient: Tensor) -> Tensor | None:
    """Gradient of the positions, given that of the scores whose rows are those of `states`; adds to the states'."""
    if positions is None:
        return None
    tokens = states.shape[2]
    total = torch.zeros_like(positions, dtype=torch.promote_types(positions.dtype, torch.float32))
    product: Tensor | None = None
    for start in range(0, tokens, _ROWS):
        stop = min(start + _ROWS, tokens)
        rows, met = slice(start, stop), slice(tokens - stop, 2 * tokens - start)
        shape = (*states.shape[:2], stop - start, tokens + stop - start)
        # Entries that no score reads are zero, at the same places in every block with this number of rows.
        if product is None or product.shape != shape:
            product = states.new_zeros(shape)
        _shear(product).copy_(scores[..., rows, :])
        flat = product.flatten(1, 2)
        gradient[:, :, rows] += torch.bmm(flat, positions[:, met]).unflatten(1, shape[1:3])
        total[:, met] += torch.bmm(flat.transpose(1, 2), states[:, :, rows].flatten(1, 2))
    return total.to(positions.dtype)


def _shear(matrices: Tensor) -> Tensor:
    """View (..., R, T + R) -> (..., R, T), [r, j] = matrices[r, R - 1 - r + j]: each row starts one step earlier."""
    rows, width = matrices.shape[-2:]
    flat = matrices.flatten(-2).narrow(-1, rows - 1, rows * (width - 1))
    return flat.unflatten(-1, (rows, width - 1))[..., : width - rows]
