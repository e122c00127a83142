"""What a task is and where its data are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from ..ranges import a_path, above, at_least, between, check_ranges, described

_OWN = ".py:"
"""Between the file and the class of a task of the user's own."""


@described
@dataclass
class TaskArguments:
    """What the task is and where its data are."""

    _argument_group_name: ClassVar[str] = "task and data"
    # No field, as it has no annotation.
    named = frozenset[str]()
    """Arguments that a command line gives by name: they are set, also if they are given their defaults."""

    task: str | None = None
    """a task or data set name; `ted list` shows them; or FILE.py:CLASS"""
    dataset_name: str | None = None
    """a Hub data set, if not the task's own"""
    dataset_config_name: str | None = None
    """its configuration"""
    dataset_revision: str | None = None
    """its branch, tag or commit"""
    train_file: Annotated[str | None, a_path()] = None
    """csv, tsv, json, jsonl, parquet, conll or txt"""
    validation_file: Annotated[str | None, a_path()] = None
    """the same, to score on"""
    validation_mismatched_file: Annotated[str | None, a_path()] = None
    """MNLI's second file to score on"""
    test_file: Annotated[str | None, a_path()] = None
    """the same, to score the result on, once; no choice depends on it"""
    unlabelled_file: Annotated[str | None, a_path()] = None
    """texts without labels, for Stage II: the teacher labels them"""
    text_column: str | None = None
    """first sentence [the task's own]"""
    text_pair_column: str | None = None
    """second sentence, if there is one"""
    label_column: str | None = None
    """label, score or labels; `a,b,c`: 0/1 columns; `probs_*`: probabilities"""
    label_separator: str | None = None
    """between several labels in one field [lists, or "|", ";" or ","]"""
    delimiter: str | None = None
    """of csv, tsv and conll fields [seen in the file]"""
    encoding: str | None = None
    """of text files [utf-8]"""
    max_seq_length: Annotated[int | None, at_least(2)] = None
    """maximum tokens per row [128; QA 384; LM 1024, masked 512]"""
    max_train_samples: Annotated[int | None, at_least(1)] = None
    """train on a random sample of the rows; LM: on the first lines of one text"""
    max_eval_samples: Annotated[int | None, at_least(1)] = None
    """score on a random sample of the rows; LM: on the first lines of one text"""
    doc_stride: Annotated[int, at_least(0)] = 128
    """QA: tokens that two windows share"""
    max_answer_length: Annotated[int, at_least(1)] = 30
    """QA: maximum tokens per answer"""
    n_best_size: Annotated[int, at_least(1)] = 20
    """QA: best start and end logits per window"""
    null_score_diff_threshold: Annotated[float, between(-1_000_000, 1_000_000)] = 0.0
    """QA: no answer if its score leads by more"""
    version_2_with_negative: bool | None = None
    """QA: questions may have no answer [squad_v2, or seen in the data]"""
    row_separator: str = "auto"
    """LM: eos after each row, none, or auto: none if nearly all training rows end with newlines"""
    stride: Annotated[int | None, at_least(1)] = None
    """LM: tokens from one scored window to the next, fewer than max_seq_length [half]"""
    mlm_probability: Annotated[float, above(0, at_most=1)] = 0.15
    """masked_lm: share of tokens to hide"""
    streaming: bool = False
    """LM: read the training rows as they are needed"""
    shuffle_buffer: Annotated[int, at_least(1)] = 1000
    """streaming: blocks shuffled together"""
    validation_split: str | None = None
    """the Hub's split to score on [validation]"""
    test_split: str | None = None
    """the Hub's split to score the result on, once"""
    validation_size: Annotated[int | None, at_least(1)] = None
    """score on this many rows held out of the training rows"""
    preprocessing_num_workers: Annotated[int | None, between(1, 1024)] = None
    """processes that tokenise"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)

    @property
    def own_task(self) -> tuple[str, str] | None:
        """The file and the class that `task` names, if it is one of the user's own."""
        return own_task_of(self.task or "")

    @property
    def task_name(self) -> str | None:
        """`task`, without the file of one of the user's own."""
        return self.own_task[1] if self.own_task else self.task

    @property
    def explicit(self) -> dict[str, Any]:
        """What was set: values other than the defaults, and all that are `named`."""
        defaults = {field.name: field.default for field in fields(self)}
        return {key: value for key, value in self._values.items() if value != defaults[key] or key in self.named}

    @property
    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that change what a task computes from its rows."""
        return {name: value for name, value in self._values.items() if name not in SELECT_ROWS}


def own_task_of(name: str) -> tuple[str, str] | None:
    """The file and the class of a task named FILE.py:CLASS."""
    file, mark, kind = name.rpartition(_OWN)
    return (f"{file}.py", kind) if mark else None


SELECT_ROWS = {
    "dataset_name", "dataset_config_name", "dataset_revision", "train_file", "validation_file",
    "validation_mismatched_file", "test_file", "unlabelled_file", "text_column", "text_pair_column", "label_column",
    "label_separator", "delimiter", "encoding", "max_train_samples", "max_eval_samples", "validation_split",
    "test_split", "validation_size", "preprocessing_num_workers",
}  # fmt: skip
"""Arguments that select the rows; the rows themselves tell whether they are the same."""

STREAM_SELECTION = ("text_column", "delimiter", "encoding", "max_train_samples", "validation_size")
"""Those that say which part of a stream is read: its rows cannot tell, as they are not all looked at."""
