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

from .errors import InputError
from .filters import FilteredModel, Filters, fingerprint
from .tasks.base import Task

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
    fresh = _needs_new_head(config, task)
    renewed = fresh and new_head and _class_names(task) is not None and not _has_default_labels(config)
    if renewed:
        logger.warning("%s has a head for %s; a new one is made", name, ", ".join(_model_labels(config)[:5]))
    if fresh and new_head:
        _set_labels(config, task)
    label_order = None if fresh and new_head else _label_order(config, task, name)
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
    return LoadedModel(name, model, tokenizer, label_order, arguments.config_overrides, complete)


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


def _model_labels(config: PretrainedConfig) -> list[str]:
    return [str(config.id2label[index]) for index in sorted(config.id2label)]


def _class_names(task: Task) -> list[str] | None:
    """Names of the model's logits: those of the classes, where there is a logit for each."""
    names = task.label_names
    return names if names is not None and len(names) == task.num_labels else None


def _has_labels(task: Task) -> bool:
    """Whether the model's labels are the task's: not those of question answering, nor where tokens are predicted."""
    return task.problem_type is not None or task.label_names is not None


def _has_default_labels(config: PretrainedConfig) -> bool:
    return all(label == f"LABEL_{index}" for index, label in enumerate(_model_labels(config)))


def _needs_new_head(config: PretrainedConfig, task: Task) -> bool:
    """Whether the checkpoint's head, if it has one, is for other labels than the task's."""
    if not _has_labels(task):
        return False
    if _class_names(task) is None:
        return config.num_labels != task.num_labels or config.problem_type != task.problem_type
    return {label.casefold() for label in _model_labels(config)} != {
        label.casefold() for label in _class_names(task) or ()
    }


def _set_labels(config: PretrainedConfig, task: Task) -> None:
    names = _class_names(task) or [f"LABEL_{index}" for index in range(task.num_labels)]
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    if task.problem_type is not None:
        config.problem_type = task.problem_type


def _label_order(config: PretrainedConfig, task: Task, name: str) -> list[int] | None:
    """Reconcile classes by name: where in the model's logits each of the data's classes stands.

    Raises:
        InputError: the number of labels differs, or the model does not know one of the data's labels.
    """
    if not _has_labels(task):
        return None
    if config.num_labels != task.num_labels:
        raise InputError(
            f"labels: {name} has {config.num_labels} labels ({', '.join(_model_labels(config)[:5])}), the task has "
            f"{task.num_labels}; fine-tune the model on this task first with `ted finetune`"
        )
    names = _class_names(task)
    if names is None:
        return None
    if _has_default_labels(config):
        logger.warning("%s does not name its labels; they are taken in the data's order: %s", name, names)
        return None
    known = {label.casefold(): index for index, label in enumerate(_model_labels(config))}
    unknown = [label for label in names if label.casefold() not in known]
    if unknown:
        raise InputError(
            f"labels: {name} does not know {', '.join(unknown)} of the data; "
            f"its labels are {', '.join(_model_labels(config))}; rename the data's labels or fine-tune the model"
        )
    order = [known[label.casefold()] for label in names]
    return None if order == list(range(len(order))) else order


# --- does this teacher fit this student -----------------------------------------------------------------------


def shared_tokenizer(teacher: LoadedModel, student: LoadedModel) -> PreTrainedTokenizerBase:
    """The tokenizer whose batches serve both models.

    That is the student's, unless only the teacher's makes `token_type_ids`.

    Raises:
        InputError: the vocabularies differ, or the same text gives other tokens: one batch cannot feed both then.
    """
    problem = _tokenizer_difference(teacher.tokenizer, student.tokenizer)
    if problem:
        raise InputError(
            f"tokenizers: {teacher.name} (teacher) and {student.name} (student) must share one, but {problem}; "
            "choose a student with the teacher's vocabulary"
        )
    if "token_type_ids" in student.tokenizer.model_input_names:
        return student.tokenizer
    return teacher.tokenizer


def _tokenizer_difference(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str | None:
    teacher_vocabulary, student_vocabulary = teacher.get_vocab(), student.get_vocab()
    if teacher_vocabulary != student_vocabulary:
        different = sum(student_vocabulary.get(token) != index for token, index in teacher_vocabulary.items())
        return (
            f"the teacher's has {len(teacher_vocabulary):,} entries and the student's {len(student_vocabulary):,}, "
            f"{different:,} of the teacher's stand elsewhere or not at all in the student's"
        )
    for text in ("The Quick brown FOX, naïve café: 3.14!", "a   b\tc", "straße 東京"):
        if teacher(text, text)["input_ids"] != student(text, text)["input_ids"]:
            return f"the text {text!r} gives other tokens (case, accents or special tokens are treated differently)"
    return None
