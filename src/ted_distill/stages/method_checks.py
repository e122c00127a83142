"""What Stage II refuses without looking at weights: a run asks before its first stage, the stage when it opens."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig

from ..errors import collect, raise_if_any
from ..training.contradictions import FOLLOW_SCORES, text_of
from ..training.stage_arguments import StageArguments
from .distill_arguments import DistillArguments
from .filters.method_filters import require_one_width


def check_method(
    arguments: DistillArguments,
    args: StageArguments,
    pairs: Sequence[tuple[int, int]] | None = None,
    configs: tuple[PretrainedConfig, PretrainedConfig] | None = None,
) -> None:
    """Refuse settings of a method that contradict each other, its pairs or its models.

    Args:
        pairs: of blocks; None where they are not known.
        configs: of teacher and student, where both are known.

    Raises:
        InputError: with all problems.
    """
    problems: list[str] = []
    if arguments.layer_schedule == "layers_first":
        scheduler = text_of(args.lr_scheduler_type)
        followed = ["early_stopping_patience"] if args.early_stopping_patience else []
        followed += [f"lr_scheduler_type {scheduler}"] if scheduler in FOLLOW_SCORES else []
        problems += [
            f"layer_schedule: expected constant or decay with {name}, got layers_first, whose scores mean nothing as "
            "long as predictions have no weight; leave out one or the other"
            for name in followed
        ]
    method = arguments.of_method
    of_layers = {"mse_alpha": method.matches_states, "attention_alpha": method.matches_relations}
    weights = [name for name, counts in of_layers.items() if counts]
    has_none = bool(weights) and all(getattr(arguments, name) == 0 for name in weights)
    if arguments.layer_schedule == "layers_first" and has_none:
        problems.append(
            f"layer_schedule: expected constant or decay with {' and '.join(weights)} of 0, got layers_first, which "
            "trains on nothing at first; give a weight, or leave layer_schedule out"
        )
    if pairs and configs:
        with collect(problems):
            require_one_width(*configs, arguments)
    if pairs:
        with collect(problems):
            arguments.weights_of_pairs(len(pairs))
    raise_if_any(problems)
