"""The flags of a command: read from a file and the command line, checked, and explained on one screen."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from transformers import TrainingArguments

from ..errors import InputError
from ..runs.parsing import Parser, field_names, parse, read_yaml, to_argv

# Training arguments worth a line in the help; all others work too.
_SHOWN = [
    "output_dir", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "warmup_steps", "seed", "bf16", "fp16", "eval_strategy",
    "early_stopping_patience", "report_to", "train_sampling_strategy",
]  # fmt: skip
# Ours, but for rare cases.
_HIDDEN = {
    "cache_dir", "disentangled_attention", "fast_dropout", "packed_linear", "freeze_unseen_embeddings",
    "keep_checkpoints", "keep_freed_memory", "n_best_size", "row_separator", "shuffle_buffer", "mlm_probability",
    "validation_split", "validation_size", "validation_mismatched_file", "dataset_revision", "max_answer_length",
    "null_score_diff_threshold", "preprocessing_num_workers",
}  # fmt: skip

_WORDS = {
    "output_dir": "folder of the finished model",
    "learning_rate": "peak learning rate [5e-5]",
    "num_train_epochs": "passes over the data [3]",
    "max_steps": "stop after so many steps instead",
    "per_device_train_batch_size": "rows of a batch on each device [8]",
    "gradient_accumulation_steps": "batches of a step [1]",
    "warmup_steps": "steps, or share of all steps, until the peak [0]",
    "seed": "of everything random [42]",
    "bf16": "bf16 autocast [where the machine multiplies in bf16]",
    "fp16": "fp16 autocast",
    "report_to": "tensorboard, wandb, ... for the curves [none]",
    "train_sampling_strategy": "random, or group_by_length, which pads least [group_by_length]",
    "teacher_dtype": "type of frozen models [bfloat16 where the machine multiplies in it]",
    "cache_limit": "gigabytes of disk for what frozen models say; 0 runs them in every epoch [20]",
}


class _Help(argparse.HelpFormatter):
    """One line a flag, without the metavars."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=112)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return ", ".join(action.option_strings)

    def _get_help_string(self, action: argparse.Action) -> str:
        return (action.help or "").replace(" (default: %(default)s)", "")


def parse_flags(command: str, description: str, kinds: Sequence[type], argv: list[str]) -> tuple[Any, ...] | None:
    """Arguments of `kinds` from `--config FILE.yaml` and flags, which win; None if help was asked for and printed.

    Raises:
        InputError: unknown or missing flags, or values of the wrong kind.
    """
    parser = Parser(kinds, prog=f"ted {command}", description=description, add_help=False, formatter_class=_Help)
    if {"-h", "--help", "--help-all"} & set(argv) or not argv:
        if "--help-all" not in argv:
            _shorten(parser)
        sys.stdout.write(parser.format_help())
        return None
    flags = list(argv)
    if "--config" in flags:
        position = flags.index("--config")
        file = flags[position + 1 : position + 2]
        if not file:
            raise InputError("--config: a YAML file was expected after it")
        del flags[position : position + 2]
        flags = to_argv(read_yaml(file[0], "config")) + flags
    parsed = parse(kinds, flags, parser=parser)
    _check_named(parsed, flags)
    return parsed


def _check_named(parsed: tuple[Any, ...], flags: Sequence[str]) -> None:
    """Refuse a command without its models, task or folder.

    Raises:
        InputError: names each flag that is missing.
    """
    values = {name: value for part in parsed for name, value in vars(part).items()}
    names = ["teacher_name_or_path", "student_name_or_path", "task"]
    if "student_name_or_path" not in values:
        names[:2] = [] if values.get("predictions_file") else ["model_name_or_path"]
    missing = [name for name in names if name in values and not values[name]]
    if "learning_rate" in values and not any(flag.split("=")[0] == "--output_dir" for flag in flags):
        missing.append("output_dir")
    if missing:
        raise InputError(f"--{name} is missing; it was expected with this command" for name in missing)


def _shorten(parser: Parser) -> None:
    """Hide the training arguments that few people set; they work all the same."""
    hidden = field_names(TrainingArguments) - {*_SHOWN} | _HIDDEN | {f"no_{name}" for name in _HIDDEN}
    for action in parser._actions:
        twins = [flag for flag in action.option_strings if "-" in flag.removeprefix("--")]
        action.option_strings = [flag for flag in action.option_strings if flag not in twins]
        if action.dest in hidden:
            action.help = argparse.SUPPRESS
        elif action.dest in _WORDS:
            action.help = _WORDS[action.dest]
    parser.usage = f"{parser.prog} [--config FILE.yaml] [flags]"
    if any(action.dest == "num_train_epochs" for action in parser._actions):
        parser.epilog = (
            "All flags of transformers.TrainingArguments work; --help-all lists them, and those that make it fast."
        )
    # Two dataclasses may name one group; one heading is enough, and what most people know already comes last.
    by_title: dict[str | None, Any] = {}
    for group in parser._action_groups:
        if group.title in ("options", "optional arguments"):
            group.title = "training"
        first = by_title.setdefault(group.title, group)
        if first is not group:
            first._group_actions += group._group_actions
            group._group_actions = []
    parser._action_groups.sort(key=lambda group: group.title == "training")
