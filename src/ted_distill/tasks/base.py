"""The contract of a task: from rows to batches, from logits to losses, predictions and scores.

Shapes, here and everywhere: B batch, T tokens, D width, F filter width, C classes, V vocabulary, L blocks, K pairs.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from ..errors import InputError, collect, raise_if_any
from ..identity import Identity, class_fingerprint, file_fingerprint, fingerprint, rows_fingerprint
from ..method.filters import Batch
from .reading.columns import TextColumns, numbered, text_names
from .reading.data_sets import files_of_split
from .reading.file_options import FileOptions, columns_read, file_options
from .reading.notices import notice
from .reading.overlap import overlaps, overlaps_with, warn_of_overlap
from .reading.splits import Splits, read_splits, sample_rows
from .resampling import Draws
from .task_arguments import SELECT_ROWS, STREAM_SELECTION, TaskArguments
from .unlabelled import UNLABELLED, read_unlabelled

Metrics = dict[str, float]
_FOLLOWERS = {
    "sampled_score": ("score", "metric"),
    "metric_between_tokenizers": ("score", "metric"),
    "probabilities": ("decode",),
    "confidences": ("decode",),
}
"""Methods of a task that are true only of certain others of the same class."""
TEST = "test"
"""The split that finished models are scored on once; no weights and no choice depend on it."""


class Counts(NamedTuple):
    """How many items each loss of one optimizer update averages over (scalars, float32).

    Sums over the micro-batches and devices of an update, so that 1 x 8 and 2 x 4 rows give the same step.
    """

    labels: Tensor
    """Labelled items, for the prediction loss."""
    predictions: Tensor
    """Items of the matching loss: rows, or labelled tokens where every token has a prediction."""
    tokens: Tensor
    """Real tokens, for the layer loss."""


@dataclass(frozen=True)
class Split:
    """One split of a data set: its rows, and the features (tokenised rows or windows) a model sees.

    `features` has `input_ids`, `attention_mask`, the label columns and whatever the task needs to decode.
    """

    rows: Dataset
    features: Dataset


class Task(ABC):
    """Base class of all tasks.

    Scores are in percent (correlations too), as in published tables. `metric` names the score that decides which
    checkpoint is best: the highest, or the lowest if it is in `lower_is_better`.
    """

    auto_model: ClassVar[Any]
    """The transformers Auto class of the model with its head."""
    problem_type: ClassVar[str | None] = None
    """`config.problem_type` of a sequence classifier."""
    label_columns: ClassVar[tuple[str, ...]] = ("labels",)
    """Keys of a batch that hold labels."""
    default_max_seq_length: ClassVar[int] = 128
    first_token_only: ClassVar[bool] = False
    """Whether Stage I's filter heads read only the first token."""
    keeps_first_blocks: ClassVar[bool] = False
    """Whether a student is made of its teacher's first blocks: better where tokens have predictions of their own
    (docs/study-choices.md, "Which blocks"); of spaced ones, the last among them, otherwise."""
    can_stream: ClassVar[bool] = False
    """Whether training rows may be a stream: an `IterableDataset`, which has no length."""
    can_cache: ClassVar[bool] = True
    """Whether a frozen model's outputs are worth keeping: not if rows are many, or differ from epoch to epoch."""
    running_text: ClassVar[bool] = False
    """Whether rows are parts of a text, joined before a model reads them."""
    padding_counts: ClassVar[bool] = False
    """Whether outputs depend on padding: kept outputs, which are of real tokens only, are then of no use."""
    whole_row_logits: ClassVar[bool] = False
    """Whether a row is one feature whose logits do not depend on how it is cut into tokens, such as those of classes.

    Then the predictions of a teacher can be matched that has another tokenizer than its student.
    """
    vocabulary_logits: ClassVar[bool] = False
    """Whether the last axis of the logits is the vocabulary; only those of tokens are then matched."""
    lower_is_better: ClassVar[tuple[str, ...]] = ()
    """Names of the scores that are better when lower."""
    pipeline_tag: ClassVar[str]
    """The Hub's name for the task, for the model card."""
    metric: str
    decides: str | None = None
    """The score that a stage or a whole recipe chooses by [`metric`], for what is said while the rows are read."""
    declares_labels: bool = False
    """Whether the data that were read declare their classes, of which rows may hold only some."""
    _settled: bool = False
    """The rows are a part of another task's (`with_rows`): no labels are offered to them any more."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass that scores or decodes in a way of its own does not inherit what fits the former way alone."""
        super().__init_subclass__(**kwargs)
        for name, leaders in _FOLLOWERS.items():
            if name not in vars(cls) and not vars(cls).keys().isdisjoint(leaders):
                setattr(cls, name, getattr(Task, name))

    def __init__(self, arguments: TaskArguments) -> None:
        self.arguments = arguments
        self.name = arguments.task_name or type(self).__name__
        self.max_seq_length = arguments.max_seq_length or self.default_max_seq_length
        self.given: dict[str, Dataset | IterableDataset] = {}
        """Rows that are there already, by split, in place of files and data sets of the Hub (`load_task`)."""
        self._unlabelled: Dataset | None = None
        self._inferred_before: Mapping[str, Any] = {}
        """See `offer_inferred`."""

    # --- data -------------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> dict[str, Dataset]:
        """Checked rows of the splits that were given: `train`, `validation`, `test` and MNLI's `validation_mismatched`.

        Raises:
            InputError: with every problem of every split.
        """
        splits: dict[str, Dataset] = {}
        problems: list[str] = []
        if self.arguments.streaming and not self.can_stream:
            raise InputError(
                f"streaming: expected false, as task {self.name} needs all its rows at once, got true; leave it out"
            )
        found = Splits()
        with collect(problems):
            found = read_splits(
                self.arguments,
                self.hub_dataset(),
                self.validation_splits(),
                self.file_options(),
                given=self.given,
                classes_of=self.classes_of,
                keeps_order=self.keeps_order,
            )
        for name, rows in found.items():
            with collect(problems), numbered(found.rows_of_file.get(name)):
                splits[name] = self.normalise(rows, name)
        for name, rows in splits.items():
            with numbered(found.rows_of_file.get(name)):
                problems += self._in_file(name, self.problems(rows, name))
        if self.arguments.validation_size:  # which are rows of the same file
            of_train = {problem.removeprefix("train: ") for problem in problems if problem.startswith("train: ")}
            problems = [problem for problem in problems if problem.removeprefix("validation: ") not in of_train]
        with collect(problems):
            self._unlabelled = read_unlabelled(self, ready="train" in splits)
        raise_if_any(problems)
        # Sampled last: row numbers in messages are those of the file, and a sample may lack one of the labels.
        limits = {"train": self.arguments.max_train_samples}
        rows = {
            name: sample_rows(
                rows,
                limits.get(name, self.arguments.max_eval_samples),
                isinstance(rows, Dataset) and self.keeps_order(rows),
            )
            for name, rows in splits.items()
        }
        self._say_what_is_there(rows)
        return rows

    def _in_file(self, split: str, problems: Iterator[str]) -> Iterator[str]:
        """Problems with the rows of a split, each with the name of the file that these are in, if they are in one."""
        held_out = split == "validation" and self.arguments.validation_size
        file = getattr(self.arguments, f"{'train' if held_out else split}_file", None)
        yield from problems if file is None else (f"{problem} (in {Path(file).name})" for problem in problems)

    @property
    def unlabelled_rows(self) -> Dataset | None:
        """Checked rows of `unlabelled_file` with placeholders for labels, which only Stage II trains on.

        They are no split of `rows`: nothing is scored on them, and no other stage depends on them.

        Raises:
            InputError: see `rows`.
        """
        return self._unlabelled if self.rows else None

    def with_rows(self, rows: dict[str, Dataset]) -> Task:
        """The same task with other rows, which are checked and normalised already: a part of its own."""
        other = copy.copy(self)
        other._forget_rows()  # what was derived from them belongs to the former ones
        vars(other)["rows"] = rows
        other._settled = True
        return other

    def _forget_rows(self) -> None:
        """Forget the rows and all that was derived from them."""
        for name in [name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)]:
            del vars(self)[name]

    def leave_out_unlabelled(self) -> None:
        """Forget the rows of `unlabelled_file`."""
        self._unlabelled = None

    def _say_what_is_there(self, splits: dict[str, Dataset]) -> None:
        """The labels of the first split, and how many rows to score on weights depend on; nothing of streams."""
        whole = _without_streams(splits)
        about = {name: getattr(self.arguments, name) for name in sorted(SELECT_ROWS)}
        for name, rows in list(whole.items())[:1]:
            if summary := self.describe_labels(rows):
                notice(f"{name}: {summary}", about)
        if whole:
            columns = self.text_columns(next(iter(whole.values())))
            warn_of_overlap(whole, columns, self.running_text, self._unlabelled, about)
            for doubt in self.row_doubts(whole):
                notice(doubt, about)

    def row_doubts(self, splits: Mapping[str, Dataset]) -> Iterator[str]:
        """A warning for each split whose labels can hardly be learnt, or whose scores will say nothing [none]."""
        yield from ()

    def overlaps(self) -> Iterator[str]:
        """A warning for each split to score on with texts of training rows, or test rows with texts of validation rows;
        none for streams.
        """
        if whole := _without_streams(self.rows):
            columns = self.text_columns(next(iter(whole.values())))
            yield from overlaps(whole, columns, self.running_text, self._unlabelled)

    def overlaps_with(self, other: Task) -> Iterator[str]:
        """A warning for each split that another task scores on with texts of this task's training or validation rows;
        none for streams, and none if the other's rows have other columns.
        """
        whole = _without_streams(self.rows)
        for name, rows in _without_streams(other.rows).items():
            columns = other.text_columns(rows)
            if name != "train" and whole and columns == self.text_columns(next(iter(whole.values()))):
                yield from overlaps_with(name, rows, whole, columns, self.running_text, self._unlabelled)

    @cached_property
    def identity(self) -> Identity:
        """The task's settings and the content of its rows, wherever they are; not of test rows (`test_identity`)."""
        data = {name: self._rows_fingerprint(rows) for name, rows in self.rows.items() if name != TEST}
        counts = {name: count for name, count in self.row_counts.items() if name != TEST}
        return {"task": self.settings, "rows": counts, "data": data}

    @property
    def settings(self) -> Identity:
        """All that a task computes from its rows depends on: arguments, and the code of one that is the user's own."""
        code = class_fingerprint(type(self))
        own = {} if code is None else {"task": self.name, "code": code}
        return {**self.arguments.settings, "max_seq_length": self.max_seq_length, **own}

    @cached_property
    def test_identity(self) -> str | None:
        """The content of the test rows, on which no weights depend; None without test rows."""
        return rows_fingerprint(self.rows[TEST]) if TEST in self.rows else None

    def _rows_fingerprint(self, rows: Dataset | IterableDataset) -> str:
        """Of rows; of a stream, whose end is not known, that of its source and of what is taken of it."""
        if not isinstance(rows, IterableDataset):
            return rows_fingerprint(rows)
        file = self.arguments.train_file
        source = file_fingerprint(Path(file).expanduser()) if file else self._stream_fingerprint(rows)
        return fingerprint([source, *(getattr(self.arguments, name) for name in STREAM_SELECTION)])

    def _stream_fingerprint(self, rows: IterableDataset) -> str:
        """Of a stream that is no file's: of all files that a data set has for it, or else of the first rows."""
        name, config = self._data_set
        files = None if name is None or "train" in self.given else files_of_split(name, config, self.arguments)
        return fingerprint([config, files or rows_fingerprint(rows)])

    @property
    def hub_data(self) -> str | None:
        """The Hub's name of the data set that the rows are read from; None for files, folders and rows in memory."""
        arguments, (name, _) = self.arguments, self._data_set
        files = (
            arguments.train_file, arguments.validation_file, arguments.validation_mismatched_file, arguments.test_file,
        )  # fmt: skip
        # A folder or a file may stand in its place.
        return None if name is None or self.given or any(files) or Path(name).expanduser().exists() else name

    @property
    def _data_set(self) -> tuple[str | None, str | None]:
        """Name and configuration of the data set that is read where there is no file."""
        arguments = self.arguments
        name, config = (arguments.dataset_name, None) if arguments.dataset_name else self.hub_dataset() or (None, None)
        return name, arguments.dataset_config_name or config

    @property
    def row_counts(self) -> dict[str, int | str]:
        """Number of rows of each split, or `stream`."""
        return {name: "stream" if isinstance(rows, IterableDataset) else len(rows) for name, rows in self.rows.items()}

    @property
    def sources(self) -> dict[str, str]:
        """Where the rows of each split come from, by name, without folders."""
        return {split: self._source(split) for split in self.rows}

    def _source(self, split: str) -> str:
        arguments = self.arguments
        if split == "validation" and arguments.validation_size:
            return f"{self._source('train')}, held out"
        if split in self.given:
            return "rows given in Python"
        if file := getattr(arguments, f"{split}_file"):
            return Path(file).name
        name, config = self._data_set
        if name and Path(name).expanduser().exists():
            name = Path(name).expanduser().resolve().name
        theirs = self.validation_splits().get(split, split)
        if split in ("validation", TEST):
            theirs = getattr(arguments, f"{split}_split") or theirs
        return "/".join(part for part in (name, config, theirs) if part)

    def file_options(self) -> FileOptions:
        """How the task's files are read."""
        arguments = self.arguments
        columns = TextColumns(arguments.text_column, arguments.text_pair_column, arguments.label_column)
        return file_options(arguments, texts=text_names(columns), read=columns_read(arguments))

    def classes_of(self, rows: Dataset) -> Sequence[Hashable] | None:
        """The class of each row as it was read, so that no class is held out altogether; None if rows have no class."""
        return None

    def keeps_order(self, rows: Dataset | IterableDataset) -> bool:
        """Whether rows, as read or normalised, are parts of one text: none is taken out of the middle."""
        return False

    def describe_labels(self, rows: Dataset) -> str | None:
        """One line about the labels of normalised rows [none]."""
        return None

    def text_columns(self, rows: Dataset) -> list[str]:
        """Columns of normalised rows that a model reads."""
        return [name for name in ("text", "text_pair") if name in rows.column_names]

    def hub_dataset(self) -> tuple[str, str | None] | None:
        """(name, configuration) of the Hub data set to use if neither files nor `dataset_name` are given."""
        return None

    def validation_splits(self) -> dict[str, str]:
        """Our split name -> the Hub's, for every split the task is scored on."""
        return {"validation": "validation"}

    def normalise(self, rows: Dataset, split: str) -> Dataset:
        """The same rows under the column names and types this task works with. Raises `InputError`."""
        return rows

    @abstractmethod
    def problems(self, rows: Dataset, split: str) -> Iterator[str]:
        """What is wrong with normalised rows, each a line "WHERE: expected X, got Y; do Z"."""

    def without_labels(self, rows: Dataset) -> Dataset:
        """The rows of `unlabelled_file` like normalised training rows, each with a placeholder for its label.

        Called after the training rows were normalised.

        Raises:
            InputError: columns are missing; or the task, as here, has no use for rows without labels.
        """
        why = "all text is its own label there" if self.running_text else "it needs a label for every row"
        raise InputError(f"unlabelled_file: expected none for task {self.name}, as {why}, got a file; leave it out")

    @property
    def takes_unlabelled(self) -> bool:
        """Whether the task has a `without_labels` of its own, and so a use for rows without labels."""
        return type(self).without_labels is not Task.without_labels

    def unlabelled_problems(self, rows: Dataset) -> Iterator[str]:
        """What is wrong with the texts of rows without labels."""
        yield from self.problems(rows, UNLABELLED)

    @property
    def label_names(self) -> list[str] | None:
        """Names of the classes in the order of the data's class numbers; None if there are no classes."""
        return None

    def offer_labels(  # noqa: B027  (only tasks with classes use it)
        self, offered: Sequence[Sequence[str]], owner: str = "the model"
    ) -> None:
        """Name the labels of a model that the task is for: data that hold only some of them are of these labels.

        Args:
            offered: the labels, and other sets of names that they may have in the data.
            owner: whose labels they are, for messages.
        """

    @property
    def has_offer(self) -> bool:
        """Whether a model's labels were offered."""
        return False

    @property
    def inferred(self) -> dict[str, Any]:
        """Arguments that are not set and follow from the rows, such as what separates labels, with their values.

        They are kept with a model, whose other data are read as those were that it was trained on [none].
        """
        return {}

    def offer_inferred(self, inferred: Mapping[str, Any]) -> None:
        """Before rows are read: what was inferred from a model's training rows. Arguments that are set win."""
        if "rows" not in vars(self) and not self._settled:
            self._inferred_before = inferred

    def forget_inferred(self) -> None:  # noqa: B027  (only tasks that infer something have something to forget)
        """Forget what was inferred from rows, which are read again."""

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Afterwards the task has no offers but those that it has now: see `entries.entry`."""
        before = self._inferred_before
        try:
            with self.lent_labels():
                yield
        finally:
            if self._inferred_before != before:
                self._inferred_before = before
                self.forget_inferred()
                self._forget_rows()

    def lent_labels(self) -> AbstractContextManager[None]:
        """The part of `lent` that is about labels."""
        return nullcontext()

    @property
    def num_labels(self) -> int:
        """Width C of the model's head."""
        return len(self.label_names or ())

    def longest(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Maximum tokens of a feature: `max_seq_length` if given, else the default up to the tokenizer's limit."""
        return self.arguments.max_seq_length or min(self.max_seq_length, tokenizer.model_max_length)

    @abstractmethod
    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Features of the rows, in their order (one row may give several windows). Raises `InputError`."""

    def encode_training(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """Features of the training rows, if a task trains on other features than it scores on."""
        return self.encode(rows, tokenizer)

    @abstractmethod
    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """A right-padded batch: `input_ids`, `attention_mask`, `token_type_ids` if made, and the labels."""

    def augment(self, batch: Batch, tokenizer: PreTrainedTokenizerBase, seeds: Sequence[int]) -> Batch:
        """A training batch after random changes [no changes].

        A task that has some is trained with a frozen model that runs on every batch: nothing of it is kept.

        Args:
            seeds: one for each row, on which its changes depend, and not on the rows beside it: 1 x 8 and 2 x 4 rows
                are then changed alike.
        """
        return batch

    @classmethod
    def augments(cls) -> bool:
        """Whether training batches are changed at random."""
        return cls.augment is not Task.augment

    # --- mathematics ------------------------------------------------------------------------------------------

    def logits(self, outputs: ModelOutput) -> Tensor:
        """The logits that matter, as one tensor whose first axis is B."""
        return outputs.logits

    def mask(self, batch: Batch) -> Tensor:
        """(B, T), 1 at real tokens, which the layer loss compares."""
        return batch["attention_mask"]

    def counts(self, batch: Batch) -> Counts:
        """Items of this batch that the losses average over."""
        mask = self.mask(batch)
        rows = torch.full((), float(mask.shape[0]), device=mask.device)
        return Counts(labels=rows, predictions=rows, tokens=mask.sum(dtype=torch.float32))

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Prediction loss against the labels: a sum over items divided by `count` [the items of the batch]."""

    @abstractmethod
    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """Loss of the student's predictions against the teacher's, divided by `count` [the items of the batch].

        A KL where there are distributions, a squared error where there are scores.
        """

    @abstractmethod
    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """A throw-away predictor of Stage I on this frozen model: filter states (B, T, F) -> logits like `logits`."""

    def filter_head_loss(self, head: nn.Module, states: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """`loss` of a filter head's logits on states (B, T, F)."""
        return self.loss(head(states), batch, count)

    # --- scores -----------------------------------------------------------------------------------------------

    def uninformed_score(self, split: Split) -> float | None:
        """The main score, in percent, of the best predictor that says the same of every row; None if it is unknown."""
        return None

    def tells_apart(self, rows: Dataset) -> bool:
        """Whether the main score on these rows depends on what is predicted [yes]."""
        return True

    def scored(self, logits: Tensor, batch: Batch) -> Tensor:
        """(B, ...) the part of a batch's logits that scores need: that of all rows is held in memory at once."""
        return logits

    @abstractmethod
    def decode(self, logits: list[np.ndarray], split: Split) -> Any:
        """Predictions from the results of `scored`: one float32 array per feature, in order, padding included."""

    def probabilities(self, logits: list[np.ndarray]) -> np.ndarray | None:
        """(N, C) float32 probability of each class for each row; None unless rows as a whole have classes."""
        return None

    def confidences(self, logits: list[np.ndarray], predictions: Any, split: Split) -> np.ndarray | None:
        """(N,) float32 probability that a model gives to each of its predictions; None where it gives none.

        One number for each row, or for each word of each row where words are what is predicted.

        Args:
            logits: results of `scored`, which `predictions` were decoded from.
        """
        return None

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores that `score` gives; each may decide which checkpoint is best."""
        return (self.metric,)

    @property
    def metric_between_tokenizers(self) -> str | None:
        """The score by which models can be compared that cut a text into other tokens, if there is one [`metric`]."""
        return self.metric

    @abstractmethod
    def score(self, predictions: Any, rows: Dataset) -> Metrics:
        """Scores of predictions, in percent."""

    def examples(self, predictions: Any, rows: Dataset) -> int:
        """How many independent examples the rows hold, which `sampled_score` draws from [the rows]."""
        return len(rows)

    def sampled_score(self, predictions: Any, rows: Dataset, draws: Draws) -> np.ndarray:
        """(R,) the main score, in percent, on each draw of examples."""
        return np.array([self.score(*self.drawn(predictions, rows, draw))[self.metric] for draw in draws])

    def drawn(self, predictions: Any, rows: Dataset, draw: np.ndarray) -> tuple[Any, Dataset]:
        """(predictions, rows) of the examples with these numbers, of which some come several times."""
        picked = [predictions[row] for row in draw] if isinstance(predictions, list) else np.asarray(predictions)[draw]
        return picked, rows.select(draw)

    @abstractmethod
    def agreement(self, predictions: Any, teacher_predictions: Any) -> Metrics:
        """How far two models agree, whatever the labels. Keys start with `agreement`."""

    def write_predictions(self, predictions: Any, split: Split, folder: Path) -> None:
        """Write predictions for people and other tools into `folder`."""
        (folder / "predictions.json").write_text(json.dumps(np.asarray(predictions).tolist()), encoding="utf-8")

    def predicted_names(self, file: Path) -> list[str]:
        """The labels in a file of predictions, in any order; none but of tasks with classes. Raises `InputError`."""
        return []

    def read_predictions(self, file: Path) -> Any:
        """Predictions from a file of `write_predictions`, or of the task's official format. Raises `InputError`."""
        return np.asarray(json.loads(file.read_text(encoding="utf-8")))


def _without_streams(splits: Mapping[str, Dataset | IterableDataset]) -> dict[str, Dataset]:
    return {name: rows for name, rows in splits.items() if not isinstance(rows, IterableDataset)}
