"""Filters: small maps from one block's hidden states to a shared width, and a model together with its filters.

Blocks are numbered from 1, so block l is `hidden_states[l]` of a Hugging Face model; index 0, the embeddings, is
never matched. Shapes: B batch, T tokens, D width, F filter width, L blocks, K pairs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput

from ..errors import InputError
from ..wording import listed
from .pairs import filtered_blocks
from .projections import projection_modules, recorded_projections
from .shapes import num_blocks, width

Batch = dict[str, Tensor]
"""A batch of rows as a task makes it: `input_ids`, `attention_mask` and labels, each with B as its first axis."""


@dataclass(frozen=True)
class Signals:
    """A model's outputs for a batch: the logits that matter, and K states (B, T, F), or no states without filters.

    `vectors` are queries, keys and values (B, T, D) of the block whose attention relations are matched, if one is.

    Not a tuple: accelerate would copy each state of a tuple to float32, before the losses do so piece by piece.
    """

    logits: Tensor
    states: list[Tensor]
    vectors: Sequence[Tensor] = ()


RunModel = Callable[[Batch], Signals]
"""Runs a model on a batch: its logits, and the hidden states (B, T, D) that its filters read."""


# --- filters --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilterConfig:
    """Shape of a model's filters, as in `filters.json`."""

    blocks: list[int]
    hidden_size: int
    filter_output_dim: int
    filter_nonlinear: bool = False
    hidden_act: str = "gelu"

    @classmethod
    def for_model(
        cls,
        config: PretrainedConfig,
        filter_interval: int = 1,
        filter_output_dim: int | None = None,
        filter_nonlinear: bool = False,
        filter_blocks: Sequence[int] | None = None,
    ) -> FilterConfig:
        """Filters after every `filter_interval`-th block, or after `filter_blocks`.

        `filter_output_dim` defaults to the model's own width.

        Raises:
            InputError: an interval that fits no block, blocks the model does not have, or a width below 1.
        """
        if filter_output_dim is not None and filter_output_dim < 1:
            raise InputError(f"filter_output_dim: expected a width of at least 1, got {filter_output_dim}")
        total, hidden_size = num_blocks(config), width(config)
        return cls(
            blocks=_given_blocks(filter_blocks, total) or filtered_blocks(total, filter_interval),
            hidden_size=hidden_size,
            filter_output_dim=filter_output_dim or hidden_size,
            filter_nonlinear=filter_nonlinear,
            hidden_act=_hidden_act(config),
        )


class Filters(nn.Module):
    """K maps, one for each filtered block, applied to every token (docs/method.md, "In four equations").

    Linear(D, F), or Linear(D, D) -> act -> Linear(D, F) if nonlinear; N(0, `initializer_range`) weights, zero bias.
    Without a config (`Filters.identity`), the hidden states themselves: the teacher of plain layer-wise distillation.
    """

    def __init__(self, blocks: Sequence[int], filters: Sequence[nn.Module], config: FilterConfig | None = None) -> None:
        super().__init__()
        self.blocks = list(blocks)
        self.filters = nn.ModuleList(filters)
        self.config = config

    @classmethod
    def random(cls, config: FilterConfig, initializer_range: float = 0.02) -> Filters:
        """Filters with fresh weights, drawn from torch's global generator."""
        filters = cls(config.blocks, [_filter(config) for _ in config.blocks], config)
        draw_weights(filters, initializer_range)
        return filters

    @classmethod
    def identity(cls, blocks: Sequence[int]) -> Filters:
        """No map at all: the states are the hidden states of `blocks`."""
        return cls(blocks, [nn.Identity() for _ in blocks])

    def select(self, blocks: Sequence[int]) -> Filters:
        """The filters of these blocks, in this order.

        Raises:
            InputError: a block without a filter.
        """
        missing = [block for block in blocks if block not in self.blocks]
        if missing:
            raise InputError(
                f"filters: expected filters of blocks {listed(blocks, None)}, got those of "
                f"{listed(self.blocks, None)}; learn those of {listed(missing, None)} too, with --filter_blocks"
            )
        config = self.config and replace(self.config, blocks=list(blocks))
        return Filters(blocks, [self.filters[self.blocks.index(block)] for block in blocks], config)

    def forward(self, hidden_states: Sequence[Tensor]) -> list[Tensor]:
        """Hidden states (B, T, D) of `blocks`, in their order -> K states (B, T, F)."""
        return [
            filter_(_in_type_of(filter_, states)) for filter_, states in zip(self.filters, hidden_states, strict=True)
        ]


def draw_weights(module: nn.Module, initializer_range: float) -> None:
    """Draw the weights of all linear layers from N(0, `initializer_range`); their biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=initializer_range)
            nn.init.zeros_(layer.bias)


def initializer_range(config: PretrainedConfig) -> float:
    """The standard deviation that a model's own weights were drawn with."""
    return float(getattr(config, "initializer_range", None) or 0.02)


def _given_blocks(blocks: Sequence[int] | None, total: int) -> list[int]:
    """Explicitly given blocks, in ascending order; empty if none are given. Raises `InputError`."""
    if blocks and (len(set(blocks)) < len(blocks) or not all(1 <= block <= total for block in blocks)):
        raise InputError(f"filter_blocks: expected different blocks from 1 to {total}, got {listed(blocks, None)}")
    return sorted(blocks or [])


def _filter(config: FilterConfig) -> nn.Module:
    output = nn.Linear(config.hidden_size, config.filter_output_dim)
    if not config.filter_nonlinear:
        return output
    return nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), ACT2FN[config.hidden_act], output)


def _in_type_of(filter_: nn.Module, hidden_states: Tensor) -> Tensor:
    """A frozen model's bfloat16 states in the type of a filter trained in float32; autocast does it by itself."""
    weight = next(filter_.parameters(), hidden_states)
    return hidden_states if torch.is_autocast_enabled(hidden_states.device.type) else hidden_states.to(weight.dtype)


def _hidden_act(config: PretrainedConfig) -> str:
    """The name of the activation; model families use different config fields for it."""
    for name in ("hidden_act", "hidden_activation", "activation", "activation_function"):
        found = getattr(config, name, None)
        if isinstance(found, str):
            return found
    return "gelu"


def mean_of_tokens(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """(B, T, D) -> (B, 1, D): the mean over tokens whose mask is not 0; 0 for a row without any."""
    real = (mask != 0).unsqueeze(-1)
    total = hidden_states.masked_fill(~real, 0).float().sum(dim=1, keepdim=True)
    return (total / real.sum(dim=1, keepdim=True).clamp(min=1)).to(hidden_states.dtype)


# --- a model with its filters ---------------------------------------------------------------------------------


class FilteredModel(nn.Module):
    """A Hugging Face model and, optionally, its filters.

    Args:
        model: any model that returns its hidden states; it is held, never changed. Of an encoder-decoder, those of the
            encoder are read.
        filters: None for a model whose hidden states are not needed.
        select_logits: HF outputs -> the logits that matter.
        label_order: the position in these logits of each class of the data; None if both have the same order.
        input_names: keys of a batch that this model gets (a BERT teacher takes `token_type_ids`, its DistilBERT student
            does not).
        filter_token: what the filters read of a row. None: all tokens. `first`: only the first token; states are
            (B, 1, F). In a model that classifies by its last token they read the last real token instead. `mean`: the
            mean of the real tokens' hidden states, (B, 1, F) too.
        causal: no token sees later ones, so that only the last has seen the whole text.
        pad_token_id: what the model expects where the attention mask is 0, whatever the batch's tokenizer pads with;
            None if it does not matter.
    """

    cache: Callable[[Batch, Sequence[int], RunModel, int | None], Signals] | None = None
    """Where the hidden states of a frozen model are kept, see `fast.states_cache`; None to run it on every batch."""

    def __init__(
        self,
        model: PreTrainedModel,
        filters: Filters | None = None,
        *,
        select_logits: Callable[[ModelOutput], Tensor],
        label_order: Sequence[int] | None = None,
        input_names: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
        filter_token: str | None = None,
        causal: bool = False,
        pad_token_id: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.filters = filters
        self.select_logits = select_logits
        self.label_order = label_order
        self.input_names = tuple(input_names)
        self.filter_token = filter_token
        self.pad_token_id = pad_token_id
        self.causal = causal
        self.reads_last_token = causal or _classifies_by_last_token(model)
        self.frozen_model = self.frozen_filters = False
        self.relation_block: int | None = None
        self._recorded: tuple[list[nn.Module], int] | None = None
        # Keys and values of earlier tokens are for generating text.
        accepted = inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in accepted else {}
        self._without_logits = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @property
    def blocks(self) -> list[int]:
        """Blocks whose hidden states are needed, 1-based."""
        return [] if self.filters is None else self.filters.blocks

    def forward(self, batch: Batch, need_logits: bool = True, need_states: bool = True) -> Signals:
        """Logits and filtered states of a batch; its labels are not used.

        Args:
            need_logits: False lets a causal language model skip the logits of all tokens except the last.
            need_states: False for logits alone.
        """
        if not need_states:
            return self.run(batch, need_states=False)
        if self.cache is not None and self.frozen_model:
            signals = self.cache(batch, self.blocks, self.run, self.relation_block)
        else:
            signals = self.run(batch, need_logits)
        if self.filters is None:
            return signals
        with _frozen(batch) if self.frozen_filters else nullcontext():
            return replace(signals, states=self.filters(signals.states))

    def run(self, batch: Batch, need_logits: bool = True, need_states: bool = True) -> Signals:
        """Logits, and the hidden states (B, T, D) of `blocks` before any filter."""
        blocks, recorded = (self.blocks, self._recorded) if need_states else ([], None)
        with _frozen(batch) if self.frozen_model else nullcontext():
            options = {} if need_logits else self._without_logits
            vectors: list[Tensor] = []
            with recorded_projections(*recorded, vectors) if recorded else nullcontext():
                outputs = self.outputs(batch, output_hidden_states=bool(blocks), **options)
            # Those of other blocks are freed with `outputs`.
            of_blocks = hidden_states_of(outputs)
            hidden_states = [self._filtered_tokens(of_blocks[block], batch) for block in blocks]
            logits = self.select_logits(outputs)
            return Signals(
                logits if self.label_order is None else logits[..., self.label_order], hidden_states, vectors
            )

    def outputs(self, batch: Batch, **options: Any) -> ModelOutput:
        """The model's own outputs for the inputs of a batch that it accepts."""
        return self.model(**self.inputs(batch), **options, return_dict=True)

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """What the model is called with: the inputs of a batch that it accepts, with its own padding."""
        inputs: dict[str, Any] = {name: batch[name] for name in self.input_names if name in batch}
        if self.pad_token_id is not None:
            inputs["input_ids"] = inputs["input_ids"].masked_fill(batch["attention_mask"] == 0, self.pad_token_id)
        return inputs | self._options

    def _filtered_tokens(self, hidden_states: Tensor, batch: Batch) -> Tensor:
        """What filters read: (B, T, D), or of the token that classifies or of the mean of all, (B, 1, D)."""
        if self.filter_token is None:
            return hidden_states
        if self.filter_token == "mean":
            return mean_of_tokens(hidden_states, batch["attention_mask"])
        if not self.reads_last_token:
            return hidden_states[:, :1]
        last = batch["attention_mask"].sum(dim=1, keepdim=True).clamp(min=1) - 1
        return hidden_states.gather(1, last.unsqueeze(-1).expand(-1, -1, hidden_states.shape[-1]))

    def record_relations(self, block: int) -> None:
        """From now on, signals have the queries, keys and values of this block, 1-based.

        Raises:
            InputError: see `projections.projection_modules`.
        """
        self.relation_block, self._recorded = block, projection_modules(self.model, block)

    def freeze(self) -> FilteredModel:
        """Model and filters in eval mode, without gradients: a teacher."""
        self.requires_grad_(False)
        self.frozen_model = self.frozen_filters = True
        return self.eval()

    def freeze_model(self) -> FilteredModel:
        """The same for the model alone: its filters can be trained."""
        self.model.requires_grad_(False).eval()
        self.frozen_model = True
        return self

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Pass this call of `transformers.Trainer` on to the model."""
        self.model.gradient_checkpointing_enable(*args, **kwargs)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """The same, under the name that newer versions of transformers use."""
        self.model.activation_checkpointing_enable(*args, **kwargs)


@contextmanager
def _frozen(batch: Batch) -> Iterator[None]:
    """Without an autograd graph, and in the number type of the weights."""
    with torch.no_grad(), torch.autocast(batch["input_ids"].device.type, enabled=False):
        yield


def hidden_states_of(outputs: ModelOutput) -> tuple[Tensor, ...]:
    """The embeddings and the hidden states (B, T, D) of each block; none if the model did not return them.

    Those of an encoder-decoder are its encoder's: they belong to the tokens of the text, as its decoder's need not.
    """
    found = outputs.get("encoder_hidden_states") or outputs.get("hidden_states")
    return found if isinstance(found, tuple) else ()


def _classifies_by_last_token(model: nn.Module) -> bool:
    """Whether a sequence classifier of transformers reads the last token: those that do call their head `score`."""
    return isinstance(getattr(model, "score", None), nn.Linear)
