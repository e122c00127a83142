"""Load a model and its tokenizer, and find out whether a teacher fits a student."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import ModelOutput

from ..errors import InputError
from ..method.filter_files import fingerprint
from ..method.filters import FilteredModel, Filters
from ..tasks.base import Task
from .labels import class_names, has_default_labels, label_order, model_labels, needs_new_head, set_labels

logger = logging.getLogger(__name__)

_UNDECLARED = {"deberta": ("cls_dropout",), "deberta-v2": ("cls_dropout",)}
"""Fields that transformers' models read from a config whose class does not declare them."""


@dataclass
class ModelArguments:
    """How models are loaded."""

    _argument_group_name: ClassVar[str] = "models"

    config_overrides: str | None = field(
        default=None, metadata={"help": "changes to the config, as `hidden_dropout_prob=0,classifier_dropout=0`"}
    )
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that a Hub model brings"})

    @property
    def hub(self) -> dict[str, Any]:
        """Options of every `from_pretrained`."""
        return {"revision": self.model_revision, "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class LoadedModel:
    """A model for a task, its tokenizer, and where both came from."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    label_order: list[int] | None = None
    """Position in the model's logits of each of the data's classes; None where they agree."""
    config_overrides: str | None = None
    """Changes to the config it was loaded with."""
    complete: bool = True
    """All its weights came from the checkpoint, so that loading it again gives the same."""

    def with_filters(self, filters: Filters | None, task: Task, first_token_only: bool = False) -> FilteredModel:
        """The model as the stages use it: logits in the data's order, only the inputs its own tokenizer makes."""
        return FilteredModel(
            self.model,
            filters,
            read_logits=_LogitReader(task, self.label_order),
            input_names=self.input_names,
            first_token_only=first_token_only,
        )

    @cached_property
    def weights_sha256(self) -> str:
        """`filters.fingerprint` of the model as it was loaded; looked at before anything is trained."""
        return fingerprint(self.model)

    @property
    def input_names(self) -> list[str]:
        """What the model takes of what its own tokenizer makes; always the attention mask."""
        accepted = inspect.signature(self.model.forward).parameters
        made = {*self.tokenizer.model_input_names, "attention_mask"}
        return [name for name in accepted if name in made]


class _LogitReader:
    """The task's logits with classes in the data's order (a class, and not a closure, so that it can be pickled)."""

    def __init__(self, task: Task, label_order: list[int] | None) -> None:
        self.task = task
        self.label_order = label_order

    def __call__(self, outputs: ModelOutput) -> Tensor:
        logits = self.task.logits(outputs)
        return logits if self.label_order is None else logits[..., self.label_order]


# --- loading --------------------------------------------------------------------------------------------------


def load_model(
    name: str | Path, task: Task, arguments: ModelArguments | None = None, *, new_head: bool = False
) -> LoadedModel:
    """Load a model with the task's head, in float32.

    Args:
        name: a folder or a Hub id.
        new_head: fine-tuning: where the checkpoint has no head for these labels, make one (from torch's global
            generator). Otherwise a missing head is refused.

    Raises:
        InputError: nothing there, no head, labels the model does not know, unknown overrides, rows too long for it.
    """
    arguments = arguments or ModelArguments()
    name = str(name)
    hub = arguments.hub
    config = load_pretrained(AutoConfig, name, hub)
    apply_overrides(config, arguments.config_overrides, name)
    fresh = needs_new_head(config, task)
    renewed = fresh and new_head and class_names(task) is not None and not has_default_labels(config)
    if renewed:
        logger.warning("%s has a head for %s; a new one is made", name, ", ".join(model_labels(config)[:5]))
    if fresh and new_head:
        set_labels(config, task)
    order = None if fresh and new_head else label_order(config, task, name)
    tokenizer = load_pretrained(AutoTokenizer, name, hub)
    model, info = load_pretrained(
        task.auto_model, name, hub, config=config, dtype=torch.float32, output_loading_info=True,
        ignore_mismatched_sizes=new_head,
    )  # fmt: skip
    _check_loaded(model, info, name, new_head)
    check_length(model, tokenizer, task, name)
    if renewed:
        _renew_head(model)
    complete = not info["missing_keys"]
    return LoadedModel(name, model, tokenizer, order, arguments.config_overrides, complete)


def load_config(name: str, arguments: ModelArguments | None = None) -> PretrainedConfig:
    """The config of a folder or Hub id.

    Raises:
        InputError: nothing there.
    """
    return load_pretrained(AutoConfig, name, (arguments or ModelArguments()).hub)


def load_pretrained(auto_class: Any, name: str, hub: dict[str, Any], **options: Any) -> Any:
    """`from_pretrained` whose many ways to fail become one clear line."""
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        raise InputError(f"model: the folder {name} does not exist; give a model folder or a Hub id")
    try:
        return auto_class.from_pretrained(name, **hub, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"model: {name} cannot be loaded as {auto_class.__name__} ({reason})") from error


def apply_overrides(config: PretrainedConfig, overrides: str | None, name: str) -> None:
    """Set config fields; one that neither the config has nor the model reads is refused, not silently ignored.

    Raises:
        InputError: with all problems.
    """
    problems = []
    for item in filter(None, (overrides or "").split(",")):
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator:
            problems.append(f"config_overrides: `key=value` was expected, `{item}` came")
        elif not hasattr(config, key) and key not in _UNDECLARED.get(config.model_type, ()):
            near = get_close_matches(key, config.to_dict(), n=3, cutoff=0.3)
            problems.append(f"config_overrides: the config of {name} has no `{key}`; near it are {', '.join(near)}")
        else:
            # The configs of transformers check kinds of values, and none of their errors is a common one.
            try:
                setattr(config, key, yaml.safe_load(value))
            except Exception as error:
                reason = str(error.__cause__ or error).splitlines()[0]
                problems.append(f"config_overrides: {name} cannot have {key}={value} ({reason})")
    if problems:
        raise InputError(problems)


def _check_loaded(model: PreTrainedModel, info: dict[str, Any], name: str, new_head: bool) -> None:
    prefix = f"{model.base_model_prefix}."
    resized = sorted(key for key, *_ in info["mismatched_keys"] if key.startswith(prefix))
    if resized:
        raise InputError(
            f"model: {len(resized)} weights of the backbone of {name} are of another size than its config says "
            f"(first: {resized[0]}); take back what config_overrides changes of sizes"
        )
    missing = sorted(info["missing_keys"])
    backbone = [key for key in missing if key.startswith(prefix) and "pooler" not in key]
    if backbone:
        raise InputError(
            f"model: {name} lacks {len(backbone)} weights of its backbone (first: {backbone[0]}); "
            "is the checkpoint complete, and of the architecture its config.json names?"
        )
    if missing and not new_head:
        raise InputError(
            f"model: {name} has no trained head for this task ({missing[0]} is missing); "
            "fine-tune it first with `ted finetune`"
        )


def _renew_head(model: PreTrainedModel) -> None:
    """Draw anew all but the backbone: a head of as many labels, but of others, would otherwise stay."""
    for name, module in type(model)(model.config).named_children():
        if name != model.base_model_prefix:
            model.get_submodule(name).load_state_dict(module.state_dict())


def check_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, name: str) -> None:
    """Refuse rows longer than a model with absolute positions can read; others have no such table.

    Raises:
        InputError: `max_seq_length` is more than that.
    """
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return
    # RoBERTa's positions start behind its padding index.
    positions = table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    longest = task.arguments.max_seq_length or min(task.max_seq_length, tokenizer.model_max_length)
    if longest > positions:
        raise InputError(
            f"max_seq_length: at most {positions} tokens were expected, which is what {name} has positions for, "
            f"{longest} came; set --max_seq_length {positions} or less"
        )


def read_weights(model: PreTrainedModel, folder: Path) -> None:
    """Set a model's weights to those of a checkpoint of the same model."""
    model.load_state_dict(type(model).from_pretrained(folder, dtype=torch.float32).state_dict())


# --- labels ---------------------------------------------------------------------------------------------------


# --- does this teacher fit this student -----------------------------------------------------------------------
