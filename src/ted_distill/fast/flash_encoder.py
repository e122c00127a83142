"""The modules of a DeBERTa-v2 encoder while `use_flash_attention` is on; `flash_attention` explains why.

Shapes: B batch, T tokens, N real tokens of all rows together, D width.
"""

from __future__ import annotations

import copy
import importlib
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.deberta_v2.modeling_deberta_v2 import ConvLayer, DebertaV2Attention, DebertaV2Encoder

from .disentangled_attention import DisentangledSelfAttention, FastDisentangledSelfAttention

_HEAD_SIZES = (32, 64, 128)
"""Widths of a head that the kernels know."""
_LONGEST = 8192
"""Tokens of the longest row that they know."""
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


# --- on and off -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Arguments of `use_flash_attention`."""

    training: bool
    backend: str


def supported_encoders(model: nn.Module, backend: str) -> list[DebertaV2Encoder]:
    """The encoders inside `model`; empty if the package does not support one of them."""
    encoders = [module for module in model.modules() if isinstance(module, DebertaV2Encoder)]
    return encoders if all(_is_supported(encoder, backend) for encoder in encoders) else []


def _is_supported(encoder: DebertaV2Encoder, backend: str) -> bool:
    return (
        type(encoder) is DebertaV2Encoder
        and all(
            type(layer.attention) is DebertaV2Attention and _is_supported_attention(layer.attention, backend)
            for layer in encoder.layer
        )
        # The package takes one rate, from a config, for all blocks.
        and len({layer.attention.self.dropout.p for layer in encoder.layer}) == 1
    )


def _is_supported_attention(attention: DebertaV2Attention, backend: str) -> bool:
    module, config = attention.self, attention.config
    return (
        type(module) in (DisentangledSelfAttention, FastDisentangledSelfAttention)
        # The package reads the weights themselves, so that adapters around a projection would be left out.
        and all(type(child) is nn.Linear or isinstance(child, nn.Dropout) for child in module.children())
        # Without relative positions it scales the scores otherwise than transformers.
        and module.relative_attention
        and module.all_head_size == config.hidden_size
        and module.dropout.p < 1
        and (backend == "torch" or module.attention_head_size in _HEAD_SIZES)
    )


def swap_attention(encoder: DebertaV2Encoder, package: Any, settings: Settings) -> None:
    """Put the package's attention modules into a supported encoder; the modules that hold them change class."""
    plain_modules = [layer.attention.self for layer in encoder.layer]
    # The modules' own rate, which is another than the config's where dropout was turned off.
    config = copy.copy(encoder.layer[0].attention.config)
    config.attention_probs_dropout_prob = plain_modules[0].dropout.p
    # The package's encoder puts its attention modules into the layers, with copies of the weights, and is not needed
    # for more. It draws weights first, which must not move the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        package.DebertaV2OptimizedEncoder(encoder, config, backend=settings.backend, inference=not settings.training)
    for layer, plain in zip(encoder.layer, plain_modules, strict=True):
        # The original modules replace the copies: an optimizer, or other modules that share weights, refer to these.
        for name, child in plain.named_children():
            setattr(layer.attention.self, name, child)
        layer.attention.__class__ = FlashAttention
        # In a tuple, so that it is no child: its weights are those of its substitute.
        layer.attention._plain = (plain,)
        layer.attention._flash = settings
    if encoder.conv is not None:
        encoder.conv.__class__ = PackedConvLayer
    encoder.__class__ = FlashEncoder
    encoder._flash = settings


def restore_attention(encoder: FlashEncoder) -> None:
    """Undo `swap_attention`."""
    encoder.__class__ = DebertaV2Encoder
    del encoder._flash
    if encoder.conv is not None:
        encoder.conv.__class__ = ConvLayer
    for layer in encoder.layer:
        _restore(layer.attention)


def _restore(attention: FlashAttention) -> None:
    (plain,) = attention._plain
    attention.__class__ = DebertaV2Attention
    for name in ("_plain", "_flash", "_prepared_dtype"):
        attention.__dict__.pop(name, None)
    attention.self = plain.train(attention.training)
    for parameter in plain.parameters():
        # Where nothing was to be learnt, the weights of query, key and value became parts of one.
        if parameter.untyped_storage().nbytes() > parameter.nbytes:
            parameter.data = parameter.data.clone()


# --- a batch without its padding ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Packing:
    """Where the real tokens of a right-padded batch are, for putting its rows one behind another."""

    mask: Tensor
    """(B, T), unchanged."""
    places: Tensor | None
    """(N,) numbers of the real tokens among B * T; None where all are real."""
    boundaries: Tensor
    """(B + 1,) int32, first token of each row and N."""
    info: Any
    """The same on the host, as the package wants it, which would otherwise copy `boundaries` in each layer."""

    @classmethod
    def of(cls, mask: Tensor) -> _Packing | None:
        """None where a row is empty or padding comes before a real token."""
        real = mask != 0
        lengths = real.sum(dim=1)
        misplaced = (real[:, 1:] & ~real[:, :-1]).any()
        # Copied together, as each copy waits for the device.
        *counts, is_misplaced = torch.cat([lengths, misplaced.long().view(1)]).tolist()
        if is_misplaced or not all(counts):
            return None
        offsets = tuple(accumulate(counts, initial=0))
        total, (rows, tokens) = offsets[-1], mask.shape
        boundaries = F.pad(lengths.cumsum(0), (1, 0))
        places = None
        if total < mask.numel():
            shifts = torch.arange(rows, device=mask.device) * tokens - boundaries[:-1]
            places = torch.arange(total, device=mask.device)
            places = places + shifts.repeat_interleave(lengths, output_size=total)
        info = importlib.import_module("disentangled_flash").PackedSequenceInfo(offsets, tuple(counts), max(counts))
        return cls(mask, places, boundaries.int(), info)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return self.info.max_seqlen

    @property
    def total(self) -> int:
        """N."""
        return self.info.offsets[-1]

    def dim(self) -> int:
        """The only attribute of a mask that the encoder of transformers reads before passing it on."""
        return 2

    def pack(self, states: Tensor) -> Tensor:
        """(B, T, D) -> (1, N, D)."""
        flat = states.flatten(0, 1)
        return (flat if self.places is None else flat.index_select(0, self.places)).unsqueeze(0)

    def unpack(self, states: Tensor) -> Tensor:
        """(1, N, D) -> (B, T, D), zero at padding."""
        flat = states.squeeze(0)
        if self.places is not None:
            flat = flat.new_zeros(self.mask.numel(), flat.shape[1]).index_copy_(0, self.places, flat)
        return flat.unflatten(0, self.mask.shape)


# --- what modules are meanwhile -------------------------------------------------------------------------------


class FlashEncoder(DebertaV2Encoder):
    """The class of an encoder while `use_flash_attention` is on: it runs its blocks on a batch without padding."""

    _flash: Settings

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_hidden_states: bool = True,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """As the parent's; hidden states at padding are zero.

        Args:
            hidden_states: (B, T, D).
            attention_mask: (B, T), not zero at real tokens; other shapes go to the parent.
        """
        usual = not output_attentions and query_states is None and relative_pos is None
        packing = self._packing(hidden_states, attention_mask) if usual else None
        if packing is None:
            return super().forward(
                hidden_states,
                attention_mask,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
                query_states=query_states,
                relative_pos=relative_pos,
                return_dict=return_dict,
            )
        with self._grad_mode():
            # In place of the relative positions too, which the parent would otherwise compute for all N * N pairs.
            packed = super().forward(
                packing.pack(hidden_states),
                packing,
                output_hidden_states=output_hidden_states,
                relative_pos=packing,
            )
            if output_hidden_states:
                states = (hidden_states, *map(packing.unpack, packed.hidden_states[1:]))
                output = BaseModelOutput(last_hidden_state=states[-1], hidden_states=states)
            else:
                output = BaseModelOutput(last_hidden_state=packing.unpack(packed.last_hidden_state))
        return output if return_dict else output.to_tuple()

    def get_attention_mask(self, attention_mask: Any) -> Any:
        """The parent's, (B, 1, T, T); a packing stays what it is."""
        return attention_mask if isinstance(attention_mask, _Packing) else super().get_attention_mask(attention_mask)

    def _packing(self, hidden_states: Tensor, attention_mask: Tensor) -> _Packing | None:
        """None where the package cannot compute this batch."""
        if attention_mask.dim() != 2 or torch.compiler.is_compiling():
            return None
        if self._flash.backend == "triton" and not (hidden_states.is_cuda and hidden_states.dtype in _DTYPES):
            return None
        if not self._flash.training and (self.training or self._wants_gradients(hidden_states)):
            return None
        packing = _Packing.of(attention_mask)
        return packing if packing is not None and self._fits(packing) else None

    def _wants_gradients(self, hidden_states: Tensor) -> bool:
        return torch.is_grad_enabled() and (
            hidden_states.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        )

    def _fits(self, packing: _Packing) -> bool:
        # The kernels number the scores of tokens with positions, and their gradients with distances, in 32 bits.
        plain = self.layer[0].attention._plain[0]
        columns = 2 * max(plain.pos_ebd_size, packing.longest) + 8
        return packing.longest <= _LONGEST and plain.num_attention_heads * packing.total * columns < 2**31

    def _grad_mode(self) -> AbstractContextManager[Any]:
        if self._flash.training and not torch.is_inference_mode_enabled():
            return nullcontext()
        # The package keeps what it computes for later batches, and what is made in inference mode is of no use for
        # a backward. For frozen models it wants gradients to be off, also where none are needed.
        modes = ExitStack()
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.no_grad())
        return modes


class FlashAttention(DebertaV2Attention):
    """The attention of a block meanwhile: `self` is a module of the package, with the original module's weights."""

    _flash: Settings
    _plain: tuple[DisentangledSelfAttention]
    _prepared_dtype: torch.dtype | None = None

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Any,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Any = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As the parent's, with the module that was there before, unless `attention_mask` is a packing.

        Args:
            hidden_states: (1, N, D) with a packing, otherwise (B, T, D).
        """
        if isinstance(attention_mask, _Packing):
            context = self._attend(hidden_states.squeeze(0), attention_mask, rel_embeddings)
            return self.output(context.unsqueeze(0), hidden_states), None
        (plain,) = self._plain
        plain.training = self.training
        context, probabilities = plain(
            hidden_states,
            attention_mask,
            output_attentions,
            query_states=query_states,
            relative_pos=relative_pos,
            rel_embeddings=rel_embeddings,
        )
        return self.output(context, hidden_states if query_states is None else query_states), probabilities

    def _attend(self, states: Tensor, packing: _Packing, rel_embeddings: Tensor | None) -> Tensor:
        """(N, D) -> (N, D)."""
        # Autocast would do the same one step later, but the package chooses kernels by the type of the states.
        device_type = states.device.type
        if states.dtype == torch.float32 and torch.is_autocast_enabled(device_type):
            states = states.to(torch.get_autocast_dtype(device_type))
        if not self._flash.training:
            self._prepare(states, packing.longest, rel_embeddings)
        return self.self.forward_packed(
            states, packing.boundaries, packing.longest, rel_embeddings=rel_embeddings, packed_info=packing.info
        )[0]

    def _prepare(self, states: Tensor, longest: int, rel_embeddings: Tensor | None) -> None:
        """Compute what depends on weights alone; again after they were loaded, moved, cast or replaced."""
        # The package does so by itself, but not where only the type under autocast changes, or where a weight was
        # given other data and is no longer the beginning of what is kept ...
        kept, weight = self.self._cached_qkv_weight, self.self.query_proj.weight
        if kept is None or kept.data_ptr() != weight.data_ptr() or self._prepared_dtype != states.dtype:
            self.self.prepare_for_inference(rel_embeddings)
            self._prepared_dtype = states.dtype
        # ... and keeps a table for each length, unless it finds that of the longest that uses the same kernel.
        if self._flash.backend == "triton":
            tuning = importlib.import_module("disentangled_flash.tuning")
            self.self.prepare_shape(tuning.tuning_sequence_length(longest), states.device)


class PackedConvLayer(ConvLayer):
    """The convolution after the first block meanwhile: it must not reach from one row into the next."""

    def forward(self, hidden_states: Tensor, residual_states: Tensor, input_mask: Any) -> Tensor:
        """As the parent's; with a packing as the mask, (1, N, D) -> (1, N, D)."""
        if not isinstance(input_mask, _Packing):
            return super().forward(hidden_states, residual_states, input_mask)
        padded = super().forward(input_mask.unpack(hidden_states), input_mask.unpack(residual_states), input_mask.mask)
        return input_mask.pack(padded)
