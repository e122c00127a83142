"""Which stages wait for others because of the teacher's kept outputs, so that they read what they would read in order.

A row of the cache was computed by the first stage that needed it, and its last digits depend on the batch it was in.
So a stage waits for the one before it that fills what it reads; and one that would write waits for all before it that
read or write the same files. Stages that only read what is there need not wait for each other.

On the GPUs of one machine none needs to wait: they add in no fixed order, so that there are no last digits to keep, and
a stage that waits leaves its place idle. Two that compute the same row write it one after the other, and a reader has
either, or finds a wrong checksum and computes it anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ...stages.lifecycle import keeps_states
from ...stages.methods import METHODS
from ...training.stage_arguments import AUTO
from ..planning import Plan, PlannedStage, Unknown
from ..recipe_keys import LEARN_FILTERS

_EVERYTHING = "everything"


class Touch(NamedTuple):
    """What a stage has to do with a cache."""

    cache: tuple[object, ...]
    """Stages with the same have the same files."""
    files: frozenset[str]
    """Those that it reads, and writes where rows are missing."""
    whole: bool
    """Whether it goes through all rows, so that none are missing afterwards."""


def waits(touches: Iterable[tuple[str, Touch]]) -> dict[str, set[str]]:
    """Node -> the nodes that it waits for.

    Args:
        touches: nodes in the order in which one process does them.
    """
    found: dict[str, set[str]] = {}
    filled: dict[object, set[str]] = {}
    writer: dict[object, set[str]] = {}
    readers: dict[object, set[str]] = {}
    for name, (cache, files, whole) in touches:
        found[name] = {*writer.get(cache, ())}
        if files <= filled.get(cache, set()):
            readers.setdefault(cache, set()).add(name)
            continue
        found[name] |= readers.pop(cache, set())
        writer[cache] = {name}
        if whole:
            filled.setdefault(cache, set()).update(files)
    return found


def touch_of(plan: Plan, stage: PlannedStage, node: str, fits: bool) -> Touch | None:
    """What a planned stage has to do with the shared cache; None for one that has no teacher, or keeps nothing.

    Args:
        node: its name among all.
        fits: whether all that is to be kept has room; otherwise it depends on the order what is kept.
    """
    args, method = stage.args, stage.method
    of_teacher = stage.name == LEARN_FILTERS[0] or (stage.name in METHODS and METHODS[stage.name].needs_teacher)
    if not of_teacher or not keeps_states(args, plan.task, shared=True):
        return None
    cache = (args.cache_dir, args.frozen_dtype, args.fp16)
    pairs = plan.pairs if method is None else method.pairs
    if not fits or isinstance(pairs, Unknown) or (method is not None and _has_rows_of_its_own(plan, stage)):
        # Nothing is known: it waits for all before it, and all after it wait.
        return Touch((_EVERYTHING,) if not fits else cache, frozenset({node}), False)
    files = {"logits", *(f"block {teacher}" for teacher, _ in pairs)}
    if method is not None and method.arguments.of_method.matches_relations:
        files.add(f"relations {method.arguments.attention_pair}")
    # Where filter heads read one token, Stage I keeps the states of the others for its measurements alone.
    whole = _sees_all_rows(stage) and not (method is None and plan.task.first_token_only)
    if args.learning_rate == AUTO:
        files.add(f"trials of {node}")
    return Touch(cache, frozenset(files), whole)


def _has_rows_of_its_own(plan: Plan, stage: PlannedStage) -> bool:
    """Whether a method trains on more than the labelled rows."""
    assert stage.method is not None
    return bool(stage.method.arguments.augment) or plan.task.unlabelled_rows is not None


def _sees_all_rows(stage: PlannedStage) -> bool:
    args = stage.args
    stops_early = args.early_stopping_patience is not None and args.eval_strategy != "epoch"
    return args.max_steps <= 0 and (args.num_train_epochs or 0) >= 1 and not stops_early
