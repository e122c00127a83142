"""A candidate scored in all its formats on all rows, in one pass, in the way of `ted export --test`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InputError
from ..export.arguments import ExportArguments
from ..export.exporting import logits_of
from ..export.parity import changed_share, compare
from .arguments import Format
from .ground import Ground
from .opened import Opened

Row = dict[str, Any]


def shared_metric(opened: Sequence[Opened], ground: Ground) -> str:
    """The score that all candidates are compared by: the task's, or one that does not depend on what a token is.

    Raises:
        InputError: there is none, and the candidates' tokenizers differ.
    """
    task = ground.task
    first = opened[0].tokenizer.get_vocab()
    others = [one.candidate.title for one in opened if one.tokenizer.get_vocab() != first]
    if ground.made_up or not others:
        return task.metric
    metric = task.metric_between_tokenizers
    if metric is None:
        raise InputError(
            f"bench: expected models with one vocabulary, as {task.metric} is of tokens, got another than that of "
            f"{opened[0].candidate.title} in {', '.join(others)}; give them one by one, or no --test, to time them "
            "alone"
        )
    return metric


def scored(opened: Opened, ground: Ground, metric: str) -> dict[Format, Row]:
    """Score of each format, and how far it is from the first: from PyTorch in float32, or of an export from its first.

    Without rows that can be scored on, `score` and `scores` are None. What `ted export` would refuse is noted.
    """
    task = opened.task
    kinds = [kind for kind in opened.formats if opened.loaded is None or kind != "pytorch"]
    # What changed is said of PyTorch's predictions, also where its own row is not wanted.
    compared: list[Format] = kinds if opened.loaded is None else ["pytorch", *kinds]
    models = {str(kind): logits_of(opened.module(kind)) for kind in compared}
    first = compared[0]
    found = compare(models, task, opened.encoded, opened.tokenizer, opened.probes())
    rows: dict[Format, Row] = {}
    for kind in opened.formats:
        scores = None if ground.made_up else found.scores[kind]
        differs = kind != first
        if kind == "onnx" and differs and found.differences[kind].is_beyond(ExportArguments.max_difference):
            apart = found.differences[kind]
            opened.notes.append(
                f"{opened.candidate.title}: ONNX float32 is not what PyTorch computes: logits are up to "
                f"{apart.absolute:.2g} apart ({apart.relative:.1g} of the largest), and `ted export` would refuse it."
            )
        rows[kind] = {
            "scores": scores,
            "score": scores[metric] if scores else None,
            "to_float32": scores[metric] - found.scores[first][metric] if scores and differs else None,
            "changed": changed_share(task, kind, first, found, scored=not ground.made_up) if differs else None,
            "largest_difference": found.differences[kind].absolute if differs else None,
        }
    return rows
