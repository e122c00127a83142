"""Filters: small maps from one block's hidden states to a shared width, and a model together with its filters.

Blocks are numbered from 1, so block l is `hidden_states[l]` of a Hugging Face model; index 0, the embeddings, is
never matched. Shapes: B batch, T tokens, D width, F filter width, L blocks, K pairs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.utils import ModelOutput

from ..errors import InputError
from .pairs import filtered_blocks, listed

Batch = dict[str, Tensor]
"""What a task makes of some rows: `input_ids`, `attention_mask` and labels, all with B as their first axis."""

ReadStates = Callable[[dict[str, Tensor]], "BlockStates"]


# --- filters --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilterConfig:
    """Shape of a model's filters: what `filters.json` holds."""

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
            raise InputError(f"filter_output_dim: a width of at least 1 was expected, {filter_output_dim} came")
        return cls(
            blocks=_given_blocks(filter_blocks, config.num_hidden_layers)
            or filtered_blocks(config.num_hidden_layers, filter_interval),
            hidden_size=config.hidden_size,
            filter_output_dim=filter_output_dim or config.hidden_size,
            filter_nonlinear=filter_nonlinear,
            hidden_act=_hidden_act(config),
        )


class Filters(nn.Module):
    """K maps, one for each filtered block, applied to every token (method, section 1).

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
        for layer in filters.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=initializer_range)
                nn.init.zeros_(layer.bias)
        return filters

    @classmethod
    def identity(cls, blocks: Sequence[int]) -> Filters:
        """No map at all: the states are the hidden states of `blocks`."""
        return cls(blocks, [nn.Identity() for _ in blocks])

    def select(self, blocks: Sequence[int]) -> Filters:
        """The filters of these blocks, in this order.

        Raises:
            InputError: a block without filter.
        """
        missing = [block for block in blocks if block not in self.blocks]
        if missing:
            raise InputError(
                f"filters: those learnt read blocks {listed(self.blocks)}, blocks {listed(missing)} were asked for "
                "too; learn them with --filter_blocks"
            )
        config = self.config and replace(self.config, blocks=list(blocks))
        return Filters(blocks, [self.filters[self.blocks.index(block)] for block in blocks], config)

    def forward(self, hidden_states: Mapping[int, Tensor] | Sequence[Tensor]) -> list[Tensor]:
        """Hidden states (B, T, D) by block number -> K x (B, T, F) states."""
        return [
            filter_(_in_type_of(filter_, hidden_states[block]))
            for block, filter_ in zip(self.blocks, self.filters, strict=True)
        ]


def _given_blocks(blocks: Sequence[int] | None, total: int) -> list[int]:
    """Blocks given outright, in rising order; none where none are given. Raises `InputError`."""
    if blocks and (len(set(blocks)) < len(blocks) or not all(1 <= block <= total for block in blocks)):
        raise InputError(f"filter_blocks: different blocks from 1 to {total} were expected, {listed(blocks)} came")
    return sorted(blocks or [])


def _filter(config: FilterConfig) -> nn.Module:
    output = nn.Linear(config.hidden_size, config.filter_output_dim)
    if not config.filter_nonlinear:
        return output
    return nn.Sequential(nn.Linear(config.hidden_size, config.hidden_size), ACT2FN[config.hidden_act], output)


def _in_type_of(filter_: nn.Module, hidden_states: Tensor) -> Tensor:
    """What a frozen model says in bfloat16, in the type of a filter trained in float32; autocast does it by itself."""
    weight = next(filter_.parameters(), hidden_states)
    return hidden_states if torch.is_autocast_enabled(hidden_states.device.type) else hidden_states.to(weight.dtype)


def _hidden_act(config: PretrainedConfig) -> str:
    """The activation's name; families differ in what they call it."""
    for name in ("hidden_act", "hidden_activation", "activation", "activation_function"):
        if isinstance(getattr(config, name, None), str):
            return getattr(config, name)
    return "gelu"


# --- a model with its filters ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilteredOutput:
    """What a model says about a batch: the logits that matter and K states (B, T, F), none without filters.

    No tuple: accelerate would copy each state of one into float32 before the losses do so bit by bit.
    """

    logits: Tensor
    states: list[Tensor]


class BlockStates(NamedTuple):
    """What a model says before any filter: the logits that matter, and hidden states (B, T, D) by block number."""

    logits: Tensor
    hidden_states: dict[int, Tensor]


class StatesReader(Protocol):
    """What may stand between a frozen model and its filters: see `states_cache.StatesCache`."""

    def __call__(self, batch: dict[str, Tensor], blocks: Sequence[int], read: ReadStates) -> BlockStates:
        """What `read(batch)` says, perhaps without calling it."""
        ...


class FilteredModel(nn.Module):
    """A Hugging Face model and, optionally, its filters.

    Args:
        model: any model that returns `hidden_states`; it is held, never changed.
        filters: None for a model whose hidden states nobody needs.
        read_logits: HF outputs -> the logits that matter, classes in the data's order.
        input_names: keys of a batch this model gets (a DistilBERT wants no `token_type_ids`, its BERT teacher does).
        first_token_only: the filters read the first token alone; states are (B, 1, F). In a model that classifies by
            its last token, as the causal ones do, that is the last real token.
    """

    cache: StatesReader | None = None
    """Where a frozen model's hidden states are read and kept; None to run the model on every batch."""

    def __init__(
        self,
        model: PreTrainedModel,
        filters: Filters | None = None,
        *,
        read_logits: Callable[[ModelOutput], Tensor],
        input_names: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
        first_token_only: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.filters = filters
        self.read_logits = read_logits
        self.input_names = tuple(input_names)
        self.first_token_only = first_token_only
        self.frozen = False
        # Keys and values of earlier tokens are for generating text.
        accepted = inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in accepted else {}
        self._without_logits = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @property
    def blocks(self) -> list[int]:
        """Blocks whose hidden states are needed, 1-based."""
        return [] if self.filters is None else self.filters.blocks

    def forward(self, batch: dict[str, Tensor], need_logits: bool = True) -> FilteredOutput:
        """Logits and states of a batch; labels in it are not looked at.

        Args:
            need_logits: False spares a causal language model the logits of all tokens but the last.
        """
        cache = self.cache if self.frozen else None
        found = self.read(batch, need_logits) if cache is None else cache(batch, self.blocks, self.read)
        return FilteredOutput(found.logits, [] if self.filters is None else self.filters(found.hidden_states))

    def read(self, batch: dict[str, Tensor], need_logits: bool = True) -> BlockStates:
        """Run the model; a frozen one in its own precision and without an autograd graph."""
        with self._as_frozen(batch["input_ids"].device) if self.frozen else nullcontext():
            inputs = {name: batch[name] for name in self.input_names if name in batch}
            options = self._options if need_logits else {**self._options, **self._without_logits}
            outputs = self.model(**inputs, **options, output_hidden_states=bool(self.blocks), return_dict=True)
            # Those of other blocks go out of memory with `outputs`.
            hidden_states = {block: self._wanted(outputs.hidden_states[block], batch) for block in self.blocks}
            return BlockStates(self.read_logits(outputs), hidden_states)

    def _wanted(self, hidden_states: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The tokens that filters read: (B, T, D), or the one that classifies, (B, 1, D)."""
        if not self.first_token_only:
            return hidden_states
        if not _classifies_by_last_token(self.model):
            return hidden_states[:, :1]
        last = batch["attention_mask"].sum(dim=1, keepdim=True).clamp(min=1) - 1
        return hidden_states.gather(1, last.unsqueeze(-1).expand(-1, -1, hidden_states.shape[-1]))

    @contextmanager
    def _as_frozen(self, device: torch.device) -> Iterator[None]:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield

    def freeze(self) -> FilteredModel:
        """Eval mode, no gradients, filters included."""
        self.requires_grad_(False)
        self.frozen = True
        return self.eval()

    def freeze_model(self) -> FilteredModel:
        """The same for the model alone: its filters can be trained."""
        self.model.requires_grad_(False).eval()
        self.frozen = True
        return self

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Pass on what `transformers.Trainer` asks of a model."""
        self.model.gradient_checkpointing_enable(*args, **kwargs)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """The same under the name that newer versions of transformers call."""
        self.model.activation_checkpointing_enable(*args, **kwargs)


def _classifies_by_last_token(model: nn.Module) -> bool:
    """Whether a sequence classifier of transformers reads the last token: those that do call their head `score`."""
    return isinstance(getattr(model, "score", None), nn.Linear)


# --- files ----------------------------------------------------------------------------------------------------
