"""Estimates of the memory a stage needs at its peak: formulas, not measurements, and rough ones.

The estimates include trained weights with their gradients and what the optimizer keeps, frozen weights, tensors kept
for the backward pass, states, and logits over a vocabulary. They leave out PyTorch's own needs (about half a gigabyte
on a GPU), kernels' workspaces and fragmentation. They are too high for embeddings, most of which are not trained
(`freeze_unseen_embeddings`), and for attention maps if a fused kernel makes none.

Shapes: B batch, T tokens, D width, F filter width, L blocks, K pairs, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ...method.filters import FilterConfig, Filters
from ...method.shapes import num_blocks, text_config, width
from ...tasks import Task


class BatchShape(NamedTuple):
    """The largest batch of a stage on one device."""

    rows: int
    tokens: int
    """Of the longest row."""
    item_bytes: int
    """Of a number in the forward pass: 2 under autocast, else 4."""
    moments: float = 2
    """Numbers in float32 that the optimizer keeps for each weight."""
    recomputes: bool = False
    """Activations are computed again in the backward pass: only the inputs of blocks are kept."""

    @property
    def all_tokens(self) -> int:
        """B * T."""
        return self.rows * self.tokens


def trained_bytes(parameters: int, batch: BatchShape) -> int:
    """Per parameter 8 for weight and gradient in float32, 4 for a moment, and 2 for autocast's copy of the weight."""
    return int(parameters * (8 + 4 * batch.moments + (2 if batch.item_bytes == 2 else 0)))


def activation_bytes(config: PretrainedConfig, batch: BatchShape, blocks: int) -> int:
    """Bytes kept for the backward pass of this number of blocks.

    B * T * D * (34 + 5 * heads * T / D) bytes per block in 16 bits, twice that in float32 (Korthikanti et al., arXiv
    2205.05198, equation 1).
    """
    heads = getattr(text_config(config), "num_attention_heads", 0)
    of_block = batch.all_tokens * (34 * width(config) + 5 * heads * batch.tokens)
    return of_block * blocks * batch.item_bytes // 2


def logits_bytes(model: PreTrainedModel, batch: BatchShape) -> int:
    """B * T * V in float32 twice, logits and their gradient, for a model that predicts tokens; otherwise 0."""
    output = model.get_output_embeddings()
    return 2 * 4 * batch.all_tokens * text_config(model.config).vocab_size if isinstance(output, nn.Module) else 0


def training_bytes(model: PreTrainedModel, batch: BatchShape) -> int:
    """A model that is trained: `trained_bytes`, activations of its L blocks (of one if they are recomputed), logits."""
    blocks = num_blocks(model.config) + _decoder_blocks(model.config)
    if batch.recomputes:
        inputs = blocks * batch.all_tokens * width(model.config) * batch.item_bytes
        activations = inputs + activation_bytes(model.config, batch, 1)
    else:
        activations = activation_bytes(model.config, batch, blocks)
    return trained_bytes(model.num_parameters(), batch) + activations + logits_bytes(model, batch)


def _decoder_blocks(config: PretrainedConfig) -> int:
    """Blocks of an encoder-decoder's decoder, which `num_blocks` does not count."""
    if not getattr(config, "is_encoder_decoder", False):
        return 0
    found = (getattr(config, name, None) for name in ("num_decoder_layers", "decoder_layers"))
    return next((number for number in found if isinstance(number, int)), num_blocks(config))


def frozen_bytes(model: PreTrainedModel, batch: BatchShape, dtype: torch.dtype) -> int:
    """A frozen model: its weights, L + 1 hidden states (B, T, D), activations of one block, logits."""
    config = model.config
    hidden_states = (num_blocks(config) + 1) * batch.all_tokens * width(config)
    one_block = activation_bytes(config, batch._replace(item_bytes=dtype.itemsize), 1)
    return (model.num_parameters() + hidden_states) * dtype.itemsize + one_block + logits_bytes(model, batch)


def learning_bytes(
    model: PreTrainedModel, filters: FilterConfig, task: Task, batch: BatchShape, dtype: torch.dtype
) -> int:
    """Stage I: the frozen model, K filters and heads that are trained, their states."""
    with torch.device("meta"):
        head = task.filter_head(filters.filter_output_dim, model)
    # A head for language modelling is the model's own output embedding, which is not trained.
    own = {id(weight) for weight in model.parameters()}
    of_head = sum(weight.numel() for weight in head.parameters() if id(weight) not in own)
    trained = filter_parameters(filters) + of_head * len(filters.blocks)
    states = states_bytes(filters, batch._replace(tokens=1) if task.first_token_only else batch)
    return frozen_bytes(model, batch, dtype) + trained_bytes(trained, batch) + states


def distilling_bytes(
    teacher: PreTrainedModel | None,
    student: PreTrainedModel,
    filters: FilterConfig | None,
    batch: BatchShape,
    dtype: torch.dtype,
) -> int:
    """Stage II: the student and its filters that are trained, the frozen teacher if it has one, both models' states."""
    total = training_bytes(student, batch) + (0 if teacher is None else frozen_bytes(teacher, batch, dtype))
    if filters is not None:
        total += trained_bytes(filter_parameters(filters), batch) + 2 * states_bytes(filters, batch)
    return total


def filter_parameters(filters: FilterConfig) -> int:
    """The number of weights in the filters of a model."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in Filters.random(filters).parameters())


def states_bytes(filters: FilterConfig, batch: BatchShape) -> int:
    """K states (B, T, F) of one model and their gradients."""
    return 2 * len(filters.blocks) * batch.all_tokens * filters.filter_output_dim * batch.item_bytes
