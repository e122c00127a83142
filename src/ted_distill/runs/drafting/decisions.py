"""Everything that is decided for a recipe, from what its teacher and its data are."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from ...errors import InputError
from ...models.load import load_config
from ...models.pretrained import apply_overrides
from ...models.trying.pad_tokens import mend_pad_token
from ...models.trying.positions import readable_length
from ...tasks import QuestionAnswering, Task, TaskArguments, load_task
from ..planning.features import PlannedData, look_at_data
from .columns import look_at_columns
from .given import STUDENT_KEYS, Given
from .latency import Latency, median_seconds, of_latency
from .lengths import MOST, Lengths, row_lengths
from .naming import run_name
from .roles import Found, refuse_mixed_splits
from .source import Source, read_source
from .student_choice import Family, Shape, of_size
from .task_guess import Guess, guess_task
from .teacher_facts import TeacherFacts, look_at_teacher, meta_model
from .teacher_fit import Fit, teacher_fit

_SHARE_HELD_OUT, _MOST_HELD_OUT = 5, 1000
"""One row in five is held out to choose by, at most 1000."""
_FEWEST_BLOCKS = 32
"""Blocks of running text below which shorter blocks are made."""


class Drafting:
    """Everything that is decided for a recipe, each in the order in which it can be."""

    def __init__(self, given: Given, name: str | None = None) -> None:
        self.given = given
        self.name = name or run_name(given.top)
        self.teacher: TeacherFacts = look_at_teacher(str(given.run.teacher), given.model)
        self.source: Source | None = read_source(given.task)
        self.guess: Guess = self._guess()
        self.task: Task = load_task(self._arguments())
        mend_pad_token(self.teacher.config, self.teacher.tokenizer, self.teacher.name, self.task)
        self.model: PreTrainedModel = self._meta(self._config())
        self.fit: Fit = teacher_fit(self.teacher, self.model, self.task)
        limit = self._longest()
        self.lengths: Lengths | None = row_lengths(self.task, self.teacher.tokenizer, limit)
        self.limit = limit
        self.shape, self.latency = self._student()

    # --- task and data ----------------------------------------------------------------------------------------------

    def _guess(self) -> Guess:
        if self.source is None:
            return Guess(str(self.given.task.task), "as given", Found({}, {}))
        columns = look_at_columns(self.source.rows)
        refuse_mixed_splits(columns, self.given.task)
        source = self.source
        return guess_task(source.rows, columns, self.given.task, self.teacher, source.tagged, source.is_text)

    @property
    def unread(self) -> list[str]:
        """Columns of a table that the task does not read."""
        if self.source is None or self.source.tagged or not self.guess.found.columns:
            return []
        read = self.guess.found.columns.values()
        parts = {part for name in read for part in (name, *name.split(","))}
        of_task = {"answer_text", "answer_start", "id"} if "context" in parts else set()
        stars = tuple(name.partition("*")[0] for name in read if "*" in name)
        names = self.source.rows.column_names
        return [name for name in names if name not in parts | of_task and not (stars and name.startswith(stars))]

    @cached_property
    def held_out(self) -> int | None:
        """Rows to hold out of the training rows; None where there are others to choose by.

        Raises:
            InputError: there are too few.
        """
        if self.source is None or self.source.scored:
            return None
        if self.source.count is None:
            seen = len(self.source.rows)  # the first rows, which may be all of a short stream
            return max(1, min(seen // _SHARE_HELD_OUT, _MOST_HELD_OUT))
        if self.source.count < 2:
            raise InputError(
                "train_file: expected at least 2 rows, one to learn from and one to score on, got "
                f"{self.source.count}; give more rows, or a validation_file"
            )
        return max(1, min(self.source.count // _SHARE_HELD_OUT, _MOST_HELD_OUT))

    @property
    def is_stream(self) -> bool:
        """Whether the rows are read as they are needed, so that nobody knows how many there are."""
        return self.source is not None and self.source.count is None

    @cached_property
    def cuts_windows(self) -> bool:
        """Whether rows that are too long are read in several windows."""
        return isinstance(self.task, QuestionAnswering)

    @property
    def takes_teacher_as_it_is(self) -> bool:
        """Whether the teacher is not fine-tuned although nobody said so."""
        return self.fit.tuned and not {"finetune", "finetune_teacher"} & {*self.given.sections}

    def _arguments(self) -> TaskArguments:
        keys: dict[str, Any] = {"task": self.guess.task, **self.guess.found.columns}
        if self.held_out is not None:
            keys["validation_size"] = self.held_out
        return replace(self.given.task, **keys)

    @cached_property
    def max_seq_length(self) -> int:
        """Tokens of a row, or of a block of running text."""
        if self.given.task.max_seq_length:
            return self.given.task.max_seq_length
        if self.lengths is not None:
            return min(self.lengths.chosen, self.task.default_max_seq_length if self.cuts_windows else MOST)
        length = min(self.task.default_max_seq_length, self.limit or self.task.default_max_seq_length)
        total = self._tokens(length)
        while total is not None and total < _FEWEST_BLOCKS * length and length > 32:
            length //= 2
        return length - length % 8 if length > 8 else length

    def _tokens(self, length: int) -> float | None:
        """Tokens of running text to train on; None for a stream."""
        looked = look_at_data(load_task(replace(self.task.arguments, max_seq_length=length)), self.teacher.tokenizer)
        return looked.features * looked.tokens if isinstance(looked.features, int) else None

    @cached_property
    def doc_stride(self) -> int | None:
        """Tokens that two windows of a context share, where the default leaves too little of a window; else None."""
        wanted, usual = self.max_seq_length // 3, self.given.task.doc_stride
        asked = self.given.top.get("doc_stride")
        return wanted if self.cuts_windows and asked is None and wanted < usual else None

    @cached_property
    def data(self) -> PlannedData:
        """Rows and features as a run will see them."""
        keys: dict[str, Any] = {"max_seq_length": self.max_seq_length}
        if self.doc_stride is not None:
            keys["doc_stride"] = self.doc_stride
        return look_at_data(load_task(replace(self.task.arguments, **keys)), self.teacher.tokenizer)

    # --- models -----------------------------------------------------------------------------------------------------

    def _config(self) -> PretrainedConfig:
        config = copy.deepcopy(self.teacher.config)
        apply_overrides(config, self.given.model.config_overrides, self.teacher.name)
        if self.task.num_labels:
            config.num_labels = self.task.num_labels
        return config

    def _meta(self, config: Any) -> PreTrainedModel:
        return meta_model(config, self.task, self.teacher.name, self.given.model)

    def _longest(self) -> int | None:
        """Tokens that the teacher and a student of its own kind allow; None if there is no limit."""
        limits = [self.teacher.longest(self.model)]
        if self.given.run.student:
            config = load_config(self.given.run.student, self.given.model)
            limits.append(readable_length(meta_model(config, self.task, self.given.run.student, self.given.model)))
        return min((limit for limit in limits if limit is not None), default=None)

    def _random(self, config: Any) -> PreTrainedModel:
        remote = self.given.model.trust_remote_code
        return self.task.auto_model.from_config(config, trust_remote_code=remote)

    @property
    def chooses_student(self) -> bool:
        """Whether the student is chosen here."""
        return not any(key in self.given.top for key in STUDENT_KEYS)

    @cached_property
    def family(self) -> Family:
        """The students that the teacher has."""
        return Family(self.model, self._meta, self.task.keeps_first_blocks)

    def _student(self) -> tuple[Shape | None, Latency | None]:
        if not self.chooses_student:
            return None, None
        if self.given.size is not None:
            return of_size(self.family, self.given.size), None
        if self.given.latency is not None:
            tokens = min(self.lengths.typical if self.lengths else self.max_seq_length, self.max_seq_length)
            return of_latency(self.family, self.given.latency, tokens, self._random, median_seconds)
        if self.family.total == 1:
            raise InputError(
                "student: expected a teacher with several blocks, half of which make a student, got "
                f"{self.teacher.name} with one; give student_hidden_size for a narrower one, or a student of your own"
            )
        return self.family.half(), None
