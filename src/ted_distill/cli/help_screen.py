"""The help of a command on one screen: the flags that most people set, described briefly."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from transformers import TrainingArguments

from ..ranges import Range
from ..runs.parsing import field_names

# Training arguments worth a line in the help; all others work too.
_SHOWN = {
    "output_dir", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "warmup_steps", "seed", "bf16", "fp16", "eval_strategy",
    "early_stopping_patience", "report_to", "train_sampling_strategy",
}  # fmt: skip
# Our own arguments that are rarely needed.
_HIDDEN = {
    "cache_dir", "disentangled_attention", "fast_dropout", "packed_linear", "freeze_unseen_embeddings",
    "keep_checkpoints", "keep_freed_memory", "n_best_size", "row_separator", "shuffle_buffer", "mlm_probability",
    "validation_split", "validation_size", "validation_mismatched_file", "dataset_revision", "max_answer_length",
    "null_score_diff_threshold", "preprocessing_num_workers", "label_separator", "delimiter", "encoding",
    "stride", "test_split", "pair_weights", "layer_schedule", "attention_pair", "relation_heads", "attention_alpha",
    "filter_token", "teacher_filter_interval", "layer_loss", "unlabelled_file", "unlabelled_share", "augment",
    "train_filters",
}  # fmt: skip

WORDS = {
    "output_dir": "folder of the finished model",
    "max_steps": "stop after this number of steps instead [off]",
    "gradient_accumulation_steps": "batches per step [1]",
    "fp16": "fp16 autocast",
    "report_to": "tensorboard, wandb, ... for the curves [none]",
}
"""What transformers' own training arguments are, in fewer words than theirs."""


class HelpFormatter(argparse.HelpFormatter):
    """One line per flag, without metavars."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=112)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return ", ".join(action.option_strings)


def reword(parser: argparse.ArgumentParser, usual: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Describe well-known training arguments briefly, and say what an argument is by default, and which numbers it may
    be.
    """
    trains = _trains(parser)
    for action in parser._actions:
        # Other commands have arguments of the same names, and words of their own for them.
        text = WORDS.get(action.dest, action.help) if trains or not action.help else action.help
        short = ranges[action.dest].short if action.dest in ranges else ""
        default = "" if "[" in (text or "") else _shown_default(usual.get(action.dest))
        action.help = f"{text or ''}{default}" + (f" ({short})" if short else "")


def _trains(parser: argparse.ArgumentParser) -> bool:
    return any(action.dest == "num_train_epochs" for action in parser._actions)


def _shown_default(default: Any) -> str:
    """` [VALUE]` for a number or a word; what is off or left out needs no mention."""
    value = getattr(default, "value", default)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or value == "":
        return ""
    return f" [{value:g}]" if isinstance(value, float) else f" [{value}]"


def shorten(parser: argparse.ArgumentParser) -> None:
    """Hide the training arguments that few people set; they still work."""
    trains = _trains(parser)
    hidden = _HIDDEN | {f"no_{name}" for name in _HIDDEN}
    if trains:
        hidden |= field_names(TrainingArguments) - _SHOWN
    for action in parser._actions:
        twins = [flag for flag in action.option_strings if "-" in flag.removeprefix("--")]
        action.option_strings = [flag for flag in action.option_strings if flag not in twins]
        if action.dest in hidden:
            action.help = argparse.SUPPRESS
    parser.usage = f"{parser.prog} [--config FILE.yaml or RECIPE] [flags]"
    if trains:
        parser.epilog = (
            "[x] is the default, (x) what is allowed. --help-all lists all flags, those of TrainingArguments too."
        )
    elif any(action.help is argparse.SUPPRESS for action in parser._actions):
        parser.epilog = "[x] is the default, (x) what is allowed. --help-all lists further flags."
    # Two dataclasses may use the same group, which needs only one heading; the best-known arguments come last.
    by_title: dict[str | None, Any] = {}
    for group in parser._action_groups:
        if group.title in ("options", "optional arguments"):
            group.title = "training"
        first = by_title.setdefault(group.title, group)
        if first is not group:
            first._group_actions += group._group_actions
            group._group_actions = []
    parser._action_groups.sort(key=lambda group: group.title == "training")
