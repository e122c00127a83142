"""Load a model and its tokenizer, and check that both suit the task."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..entries import typed
from ..errors import InputError
from ..identity import (
    Identity,
    at_commit,
    backbone_fingerprint,
    config_content,
    file_of_model,
    fingerprint,
    head_fingerprint,
    known_commit,
    own_code_fingerprint,
    pinning,
    tokenizer_fingerprint,
)
from ..method.filters import FilteredModel, Filters
from ..output import MANIFEST_NAME, check_inputs, read_if_sound, read_manifest
from ..output.cards import CARD_NAME
from ..ranges import check_ranges, described
from ..tasks.base import Task
from ..tasks.reading.notices import notice
from .as_computed import fill_untied, in_float32, keep_weights, untie_config, use_full_attention, warn_of_routers
from .embeddings import check_ends, check_tokens
from .head_choice import Head, decide_head, fit_config
from .heads import check_loaded, in_backbone, make_scores_exact, renew_head
from .labels import offer_labels
from .places import resolve_place
from .pretrained import apply_overrides, load_pretrained, load_tokenizer
from .trying.check import Findings, check_model
from .trying.known import Known, Source, known_of
from .trying.pad_tokens import fit_pad_token, is_padded, mend_pad_token, pad_token_of
from .trying.positions import fit_length, steady_length

INFERRED = "inferred"
"""Key of a stage's manifest: see `Task.inferred`."""


@described
@dataclass
class ModelArguments:
    """How models are loaded."""

    _argument_group_name: ClassVar[str] = "models"

    config_overrides: str | None = None
    """changes to the config, such as `hidden_dropout_prob=0,classifier_dropout=0`"""
    model_revision: str = "main"
    """branch, tag or commit on the Hub; or owner/name@revision"""
    trust_remote_code: bool = False
    """run code that comes with a Hub model"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values of a wrong kind."""
        check_ranges(self)

    @classmethod
    def trusting_as(cls, other: ModelArguments | None) -> ModelArguments:
        """For another model of the same stage: its code is trusted alike, nothing else is taken over."""
        return cls(trust_remote_code=bool(other and other.trust_remote_code))

    @property
    def hub(self) -> dict[str, Any]:
        """Options for every `from_pretrained`."""
        return {"revision": self.model_revision, "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class LoadedModel:
    """A model for a task, its tokenizer, and where both are from."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    label_order: list[int] | None = None
    """Position in the model's logits of each of the data's classes; None where both have one order."""
    fresh: tuple[str, ...] = ()
    """Names of the weights that are not from the checkpoint but were drawn at random, such as those of a new head."""
    findings: Findings = field(default_factory=Findings)
    """What the model was found to do when it was tried out."""
    commit: str | None = None
    """Of the Hub, that it was read at."""

    @property
    def place(self) -> str:
        """Where the model is, a Hub id with the commit that it was read at: what was loaded, whatever is there now."""
        return at_commit(self.name, self.commit)

    def as_module(self, task: Task) -> FilteredModel:
        """The model as the stages use it: logits in the data's order, only the inputs that its own tokenizer makes."""
        return self.with_filters(None, task)

    def with_filters(self, filters: Filters | None, task: Task, filter_token: str | None = None) -> FilteredModel:
        """The same with filters on its hidden states."""
        return FilteredModel(
            self.model,
            filters,
            select_logits=task.logits,
            label_order=self.label_order,
            input_names=self.input_names,
            filter_token=filter_token,
            causal=self.findings.causal,
            pad_token_id=pad_token_of(self.model),
        )

    def require_states(self) -> None:
        """Refuse a model whose hidden states cannot be matched or filtered.

        Raises:
            InputError: says why, and what works without them.
        """
        if problem := self.findings.states_problem:
            raise InputError(
                f"model: learning filters and methods lwd and ted match hidden states; for {self.name} "
                f"({type(self.model).__name__}): {problem}; use method kd, which matches only predictions, or a model "
                "of another family"
            )

    def require_relations(self) -> None:
        """Refuse a model whose attention relations cannot be matched. Raises `InputError`: says why, and what works."""
        if problem := self.findings.relations_problem:
            raise InputError(
                f"model: methods attention and ted_attention match queries, keys and values; for {self.name} "
                f"({type(self.model).__name__}): {problem}; use method kd, lwd or ted, or a model of another family"
            )

    @cached_property
    def identity(self) -> Identity:
        """What the model computes: its class, weights, config, inputs and order of labels, and what its tokenizer does;
        of a model that comes with code of its own, also that.

        Describes the model as it was loaded: first read before anything is trained or cast. Weights drawn at random are
        left out, because the seed that decides them is compared already.
        """
        known = known_of(self.model) or Known(self.findings, None)
        known.backbone = known.backbone or backbone_fingerprint(self.model)
        known.head = known.head or head_fingerprint(self.model, self.fresh)
        code = own_code_fingerprint(type(self.model), type(self.model.config), type(self.tokenizer))
        return {
            **({} if code is None else {"code": code}),
            "class": type(self.model).__name__,
            "backbone": known.backbone,
            "head": known.head,
            "config": config_content(self.model.config),
            "inputs": self.input_names,
            "label_order": self.label_order,
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
        }

    @property
    def ancestry(self) -> list[str]:
        """Fingerprints of the backbone as it was loaded, and as it was before each known training."""
        return [self.identity["backbone"], *read_ancestry(self.name)]

    @property
    def input_names(self) -> list[str]:
        """The inputs that the model accepts and its own tokenizer makes; always the attention mask."""
        accepted = inspect.signature(self.model.forward).parameters
        made = {*self.tokenizer.model_input_names, "attention_mask"}
        return [name for name in accepted if name in made]


def read_ancestry(folder: str | Path) -> list[str]:
    """Fingerprints of the backbones that a stage's model descends from; empty for other models."""
    return list((read_manifest(Path(folder)) or {}).get("ancestry", []))


# --- loading --------------------------------------------------------------------------------------------------


@typed
@pinning()
def load_model(
    name: str | Path, task: Task, arguments: ModelArguments | None = None, *, new_head: bool = False
) -> LoadedModel:
    """Load a model with the task's head, in float32.

    Args:
        name: a folder or a Hub id.
        new_head: for fine-tuning: where the checkpoint has no head for these labels, make one (from torch's global
            generator). Otherwise a missing head is refused.

    Raises:
        InputError: no such model, no head, labels the model does not have, unknown overrides, rows too long for it, or
            a folder of this package that is damaged.
    """
    arguments = arguments or ModelArguments()
    name, hub = resolve_place(name), arguments.hub
    check_inputs(name)
    source = Source(name, arguments.trust_remote_code)
    config = load_pretrained(AutoConfig, name, hub)
    commit = known_commit(name, arguments.model_revision)
    source.is_at(commit)
    was_tied = getattr(config, "tie_word_embeddings", False)
    apply_overrides(config, arguments.config_overrides, name)
    use_full_attention(config, name)
    keep_weights(config, name)
    warn_of_routers(config, name)
    # Labels of the first model: another one, such as a student, must have the same.
    if not new_head and not task.has_offer:
        offer_labels(task, config)
    head = decide_head(config, task, name, trained=new_head)
    config = fit_config(config, head, task, name)
    tokenizer = load_tokenizer(name, hub)
    mend_pad_token(config, tokenizer, name, task)
    model, missing = _load_weights(name, hub, config, head, task, was_tied)
    check_tokens(model, tokenizer, task, name)
    check_ends(model, tokenizer, task, name)
    fresh = tuple(sorted(missing | _fit_head(model, head, task)))
    order = None if head.label_order is None else list(head.label_order)
    if commit is not None:
        file_of_model(name, CARD_NAME, arguments.model_revision)  # for the licence of what is made of it
    loaded = LoadedModel(name, model, tokenizer, order, fresh, commit=commit)
    how = (
        type(model), fingerprint(config_content(config)), head, fresh, type(task), task.longest(tokenizer),
    )  # fmt: skip
    return _tried_out(loaded, task, source, how)


def _load_weights(
    name: str, hub: dict[str, Any], config: PretrainedConfig, head: Head, task: Task, was_tied: bool
) -> tuple[PreTrainedModel, set[str]]:
    """The model in float32, and the names of the weights that its checkpoint lacks or has in other sizes.

    Args:
        was_tied: whether the checkpoint's own config says that the head is the embeddings.
    """
    model, info = load_pretrained(
        task.auto_model, name, hub, config=config, dtype=torch.float32, output_loading_info=True,
        ignore_mismatched_sizes=True,
    )  # fmt: skip
    model = in_float32(model, name)
    if was_tied and not config.tie_word_embeddings:
        fill_untied(model, info)
    untie_config(model, name)
    check_loaded(model, info, name, head.trained)
    return model, {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}


def _fit_head(model: PreTrainedModel, head: Head, task: Task) -> set[str]:
    """Make the model's head what was decided; the names of the weights that were drawn anew for it."""
    if head.replaced:
        renew_head(model)
    if task.problem_type == "regression":
        make_scores_exact(model)
    return {key for key in model.state_dict() if not in_backbone(key, model)} if head.replaced else set()


def _tried_out(loaded: LoadedModel, task: Task, source: Source, how: Hashable) -> LoadedModel:
    """The same with what the model was found to do, now or when it was loaded before from the same files.

    Args:
        how: everything that the findings depend on, apart from the files.
    """
    name, model, tokenizer = loaded.name, loaded.model, loaded.tokenizer
    known = source.known(how) or Known(*check_model(loaded.as_module(task), tokenizer, task, name))
    source.keep(model, how, known)
    fit_length(known.limit, tokenizer, task, name, steady=known.limit == steady_length(model))
    loaded = replace(loaded, findings=known.findings)
    if is_padded(task) and loaded.as_module(task).reads_last_token:
        fit_pad_token(model, tokenizer, name)
    return loaded


def offer_to_task(name: str | Path, task: Task, arguments: ModelArguments | None = None) -> None:
    """Before a task reads its data: tell it the labels of the model it is for, and how the rows were read that a stage
    trained it on.

    A model that does not load is left to `load_model` to refuse.
    """
    with suppress(InputError):
        task.offer_inferred(inferred_of(name))
        offer_labels(task, load_config(str(name), arguments))


def inferred_of(name: str | Path) -> dict[str, Any]:
    """What a stage inferred from the rows that it trained a model on; nothing of other models."""
    return read_if_sound(Path(name) / MANIFEST_NAME).get(INFERRED) or {}


def load_config(name: str, arguments: ModelArguments | None = None, task: Task | None = None) -> PretrainedConfig:
    """The config of a folder or Hub id.

    Args:
        task: whose model class is to have it: of a model with an encoder, a causal one is the decoder alone.

    Raises:
        InputError: no such model.
    """
    config = load_pretrained(AutoConfig, resolve_place(name), (arguments or ModelArguments()).hub)
    if task is not None and task.auto_model is AutoModelForCausalLM and getattr(config, "is_encoder_decoder", False):
        config.is_decoder, config.is_encoder_decoder = True, False
    return config


def load_reader(
    name: str, task: Task, arguments: ModelArguments | None = None
) -> tuple[PretrainedConfig, PreTrainedTokenizerBase]:
    """Config and tokenizer of a folder or Hub id as `load_model` has them for a task, without the weights.

    Raises:
        InputError: no such model.
    """
    config = load_config(name, arguments)
    tokenizer = load_tokenizer(name, (arguments or ModelArguments()).hub)
    mend_pad_token(config, tokenizer, name, task)
    return config, tokenizer


def read_weights(model: PreTrainedModel, folder: Path) -> None:
    """Set a model's weights to those of a checkpoint of the same model."""
    model.load_state_dict(type(model).from_pretrained(folder, dtype=torch.float32).state_dict())


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, task: Task | None = None) -> None:
    """Save a tokenizer without the truncation and padding that its last call left in it.

    They would be defaults for everyone who loads it, and would differ after a resumed stage, which calls it less often.

    Args:
        task: that the model was scored on. Where its rows are padded, which is on the right, the tokenizer is saved
            so: a model with absolute positions gives other logits with padding on the left. Those of language models
            stay as they are, since texts are generated after padding on the left.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    side, given = tokenizer.padding_side, tokenizer.init_kwargs
    if task is not None and is_padded(task) and side != "right":
        notice(
            f"padding_side: expected right in the tokenizer of {tokenizer.name_or_path}, as rows are padded there, got "
            f"{side}; saving it as right"
        )
        # Of a class that pads on the left by default, only what it was given is saved.
        tokenizer.padding_side, tokenizer.init_kwargs = "right", {**given, "padding_side": "right"}
    tokenizer.save_pretrained(folder)
    # What this one is known by stays.
    tokenizer.padding_side, tokenizer.init_kwargs = side, given
