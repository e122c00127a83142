"""Files compared with the model that they were written from: logits, predictions and scores, on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..fast.embeddings import token_table
from ..method.filters import Batch
from ..models.load import LoadedModel
from ..models.trying.positions import position_limit
from ..models.trying.probe_rows import ProbeRows
from ..tasks import QuestionAnswering, Regression, Task
from ..tasks.base import Metrics, Split
from ..training.scores import evaluation

Logits = Callable[[Batch], Tensor]
REFERENCE = "pytorch"
"""The name of the model that files are compared with."""
_ALIKE = 1e-3
"""Share of the largest score that scores deviate by if they are as good as equal."""
_SAME = ("agreement", "agreement_exact", "agreement_pearson")
"""The share of predictions that are the same, as `Task.agreement` calls it, beside which it may give others."""
_LONGEST = 512
"""Tokens of the longest row that is made up."""
_BATCH, _NUMBERS = 32, 2**27
"""Rows of a batch, if the logits of all models are not more numbers: over a vocabulary they take gigabytes."""


@dataclass
class Difference:
    """How far the logits of a file are from those of the model, over all real tokens or rows seen so far."""

    absolute: float = 0.0
    """The largest difference of a logit; infinite if one is not a number."""
    largest: float = 0.0
    """The largest logit of the model."""

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest logit."""
        return self.absolute / self.largest if self.largest else self.absolute

    def is_beyond(self, most: float) -> bool:
        """Whether a logit is further than `most` from the model's; where the largest is above 1, as a share of it."""
        return not self.absolute < most * max(1.0, self.largest)

    def see(self, expected: Tensor, found: Tensor) -> None:
        """Compare logits of one batch."""
        if not expected.numel():
            return
        apart = (expected - found).abs().max().item()
        self.absolute = max(self.absolute, apart) if apart == apart else float("inf")
        self.largest = max(self.largest, expected.abs().max().item())


@dataclass
class Comparison:
    """The model and its files on the same rows, by name; the first is the model.

    Attributes:
        lengths: tokens of the shortest and the longest row.
        predictions: decoded.
        scores: in percent.
        agreements: `Task.agreement` of each file with the model in float32.
    """

    rows: int
    lengths: tuple[int, int]
    differences: dict[str, Difference] = field(default_factory=dict)
    predictions: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Metrics] = field(default_factory=dict)


def made_inputs(task: Task, split: Split, tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Keys of the task's batches. Those of running text have no `token_type_ids`, whatever the tokenizer makes."""
    return set(task.collate([split.features[0]], tokenizer))


def probe_batches(loaded: LoadedModel, task: Task, made: Container[str]) -> dict[str, Batch]:
    """Batches of made-up rows by what they are: of one word, alike, padded, and as long as the model reads.

    Args:
        made: keys of the task's batches; a model is given no others.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    rows = ProbeRows(tokenizer, token_table(model), pairs=isinstance(task, QuestionAnswering))
    longest = min(position_limit(model) or _LONGEST, tokenizer.model_max_length, _LONGEST)
    rows.cut(longest)
    found = {
        "padded": rows.beside_longer(),
        "alike": rows.alike(),
        "short": rows.row(min(rows.first_word + 2, longest)),
        "long": rows.row(longest),
    }
    return {kind: {name: tensor for name, tensor in batch.items() if name in made} for kind, batch in found.items()}


def compare(
    models: Mapping[str, Logits],
    task: Task,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    probes: Mapping[str, Batch],
) -> Comparison:
    """Run the model and its files on made-up batches and on all rows of a split.

    Args:
        models: batch -> logits in the data's order; the first is the model.
    """
    lengths = split.features["length"]
    found = Comparison(len(split.rows), (min(lengths), max(lengths)))
    found.differences = {name: Difference() for name in list(models)[1:]}
    # An export has no probes, but its logits may be over a vocabulary too.
    shortest = task.collate([split.features[int(np.argmin(lengths))]], tokenizer)
    with torch.inference_mode():
        of_token = next(iter(models.values()))(shortest).numel() // shortest["input_ids"].numel()
        for batch in probes.values():
            logits = _logits_of_all(models, task, batch, found.differences)[0]
            of_token = max(of_token, logits.numel() // batch["input_ids"].numel())

    def forward(batch: Batch) -> Tensor:
        # The task's part of the logits alone: those over a vocabulary, of all rows, would not fit into memory.
        every = _logits_of_all(models, task, batch, found.differences)
        return torch.stack([task.scored(logits, batch) for logits in every], dim=1)

    size = rows_of_batch(len(models) * max(lengths) * of_token)
    together = evaluation.predict(forward, task, split, tokenizer, torch.device("cpu"), size)
    for place, name in enumerate(models):
        found.predictions[name] = task.decode([row[place] for row in together], split)
        found.scores[name] = task.score(found.predictions[name], split.rows)
    return found


def rows_of_batch(of_row: int) -> int:
    """So many rows that their logits fit into memory.

    Args:
        of_row: numbers for one row of all models.
    """
    return max(1, min(_BATCH, _NUMBERS // max(1, of_row)))


def _logits_of_all(
    models: Mapping[str, Logits], task: Task, batch: Batch, differences: Mapping[str, Difference]
) -> list[Tensor]:
    every = [logits(batch).float() for logits in models.values()]
    real = ... if task.whole_row_logits else task.mask(batch) != 0
    for difference, logits in zip(differences.values(), every[1:], strict=True):
        difference.see(every[0][real], logits[real])
    # NaN is an infinite difference by now, and must not stop the others.
    return [every[0], *map(torch.nan_to_num, every[1:])]


def changed_share(task: Task, name: str, base: str, found: Comparison, *, scored: bool) -> float:
    """How many of the predictions of `base` are others in `name`, from 0 to 1.

    Of scores, each of which changes a little, how far their concordance is from 1, or for scores that are all alike the
    largest change as a share of them; or how far the main score changes in hundredths, if that is more and there are
    rows to score on. A rank correlation alone would not see that all scores are too high.
    """
    if isinstance(task, Regression):
        own, wanted = np.asarray(found.predictions[name]), np.asarray(found.predictions[base])
        # Of scores that hardly differ, such as a single one, concordance says nothing.
        size = float(np.abs(wanted).max(initial=0.0))
        alike = float(wanted.std()) <= _ALIKE * size
        apart = float(np.abs(own - wanted).max()) / size if alike and size else 1 - concordance(own, wanted)
        change = abs(found.scores[name][task.metric] - found.scores[base][task.metric]) / 100 if scored else 0.0
        return max(apart, change)
    agreement = task.agreement(found.predictions[name], found.predictions[base])
    return 1 - next(agreement[key] for key in _SAME if key in agreement) / 100


def concordance(one: np.ndarray, other: np.ndarray) -> float:
    """Lin's concordance correlation of two (N,) arrays: 1 if they are equal, less for noise, a shift or another scale.

    Source: Lin, A concordance correlation coefficient to evaluate reproducibility, Biometrics 45 (1989).
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    apart = float(np.mean((one - other) ** 2))
    spread = float(one.var() + other.var() + (one.mean() - other.mean()) ** 2)
    return 1 - apart / spread if spread else 1.0


def largest_change(task: Task, name: str, base: str, found: Comparison) -> float | None:
    """The largest difference of a predicted score; None where scores are not what is predicted."""
    if not isinstance(task, Regression):
        return None
    return float(np.abs(np.asarray(found.predictions[name]) - np.asarray(found.predictions[base])).max())
