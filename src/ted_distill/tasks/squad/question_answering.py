"""Extractive question answering: the answer is a span of the context, or there is none (SQuAD 1.1 and 2.0)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from ...errors import InputError, raise_if_any, shown
from ...method import losses
from ...method.filters import Batch, draw_weights, initializer_range
from ..base import TEST, Metrics, Split, Task
from ..padding import padded_batch
from ..reading.columns import missing_column, values
from ..reading.file_options import FileOptions, columns_read, file_options
from ..reading.summaries import questions_summary
from ..resampling import Draws, sampled_sums
from ..task_arguments import TaskArguments
from ..tokenizers import require_known, token_ids
from ..unlabelled import UNLABELLED
from .metrics import exact_match, question_scores, squad_scores, token_f1
from .rows import ROW_FEATURES, QuestionColumns, normalise_rows, row_problems, some
from .span_answers import answer_questions
from .windows import encode_windows

HUB_DATASETS = {"squad": "rajpurkar/squad", "squad_v2": "rajpurkar/squad_v2"}
"""Task name -> its data set on the Hub."""

_PREDICTIONS, _NULL_ODDS, _N_BEST = "predictions.json", "null_odds.json", "nbest_predictions.json"


@dataclass
class SpanPredictions:
    """One model's answers to the questions of a split, by question id."""

    answers: dict[str, str]
    """The answer, "" for no answer."""
    null_odds: dict[str, float] = field(default_factory=dict)
    """Score of no answer minus score of the best answer; only if questions may have no answer."""
    n_best: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The best answers, each with `text`, `probability` (they sum to 1), `start_logit` and `end_logit`."""


_NEGATIVES = "version_2_with_negative"


class QuestionAnswering(Task):
    """Find the words of a passage that answer a question, or find that it has no answer."""

    keeps_first_blocks = True
    auto_model = AutoModelForQuestionAnswering
    label_columns: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")
    default_max_seq_length = 384
    pipeline_tag = "question-answering"
    metric = "f1"

    def __init__(self, arguments: TaskArguments) -> None:
        super().__init__(arguments)
        self._unanswerable_in: dict[str, bool] = {}
        """Whether a split has questions without an answer."""

    @property
    def num_labels(self) -> int:
        """Width of the model's head: a start and an end logit."""
        return 2

    @property
    def version_2_with_negative(self) -> bool:
        """Whether questions may have no answer: see the arguments, else the task's name, else the data that the model
        was trained on, else the data so far.

        Test rows have no say besides others: they change neither how a model is chosen nor the task's identity.
        """
        if self.arguments.version_2_with_negative is not None:
            return self.arguments.version_2_with_negative
        asked = {name: seen for name, seen in self._unanswerable_in.items() if name != TEST} or self._unanswerable_in
        # Rows that plainly have questions without an answer are not refused because those in training had none.
        inferred = bool(self._inferred_before.get(_NEGATIVES)) or any(asked.values())
        return {"squad": False, "squad_v2": True}.get(self.name, inferred)

    @property
    def inferred(self) -> dict[str, Any]:
        """Whether questions may have no answer, if nobody said so."""
        asked = self.arguments.version_2_with_negative is None and self._unanswerable_in
        return {_NEGATIVES: self.version_2_with_negative} if asked else {}

    def forget_inferred(self) -> None:
        """Forget which splits have questions without an answer."""
        self._unanswerable_in = {}

    # --- data -------------------------------------------------------------------------------------------------

    def hub_dataset(self) -> tuple[str, str | None] | None:
        """The Hub's SQuAD of this name, if the task is one."""
        return (HUB_DATASETS[self.name], None) if self.name in HUB_DATASETS else None

    def file_options(self) -> FileOptions:
        """All columns but `answer_start` are text: an answer is what the context has, such as 3.50 and not 3.5."""
        arguments = self.arguments
        named = (arguments.text_column, arguments.text_pair_column, arguments.label_column)
        names = [*QuestionColumns(), "id", "answer_text", *filter(None, named)]
        return file_options(arguments, texts=names, read={*columns_read(arguments), "id"})

    def normalise(self, rows: Dataset, split: str) -> Dataset:
        """Rows with `id`, `context`, `question` and `answers`. Raises `InputError` if columns are missing."""
        arguments = self.arguments
        defaults = QuestionColumns()
        columns = QuestionColumns(
            question=arguments.text_column or defaults.question,
            context=arguments.text_pair_column or defaults.context,
            answers=arguments.label_column or defaults.answers,
        )
        normal = normalise_rows(rows, split, columns)
        self._unanswerable_in[split] = bool(_unanswerable(normal))
        return normal

    def without_labels(self, rows: Dataset) -> Dataset:
        """Questions and contexts, as if none had an answer. Raises `InputError` if columns are missing."""
        defaults, arguments = QuestionColumns(), self.arguments
        columns = defaults._replace(
            question=arguments.text_column or defaults.question, context=arguments.text_pair_column or defaults.context
        )
        raise_if_any(
            missing_column(UNLABELLED, name, rows.column_names, "give questions the names that the training rows have")
            for name in (columns.question, columns.context)
            if name not in rows.column_names
        )
        kept = [name for name in (columns.question, columns.context, "id") if name in rows.column_names]
        none: list[dict[str, list[Any]]] = [{"text": [], "answer_start": []}] * len(rows)
        texts = rows.select_columns(kept).add_column("answers", none, feature=ROW_FEATURES["answers"])
        return normalise_rows(texts, UNLABELLED, columns)

    def unlabelled_problems(self, rows: Dataset) -> Iterator[str]:
        """What is wrong with questions and contexts."""
        yield from row_problems(rows, UNLABELLED)

    def problems(self, rows: Dataset, split: str) -> Iterator[str]:
        """What is wrong with normalised rows."""
        yield from row_problems(rows, split)
        unanswerable = [] if self.version_2_with_negative else _unanswerable(rows)
        if unanswerable:
            yield (
                f"{split}: expected an answer to every question in task {self.name!r}, got none for "
                f"{some(len(unanswerable), 'question', unanswerable)}; use task squad_v2, set version_2_with_negative, "
                "or remove them"
            )

    def describe_labels(self, rows: Dataset) -> str:
        """The share of questions without an answer."""
        return questions_summary(len(rows), len(_unanswerable(rows)))

    def text_columns(self, rows: Dataset) -> list[str]:
        """Question and context."""
        return ["question", "context"]

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The windows of the rows, with the columns of `windows.cut_windows`.

        Raises:
            InputError: the tokenizer is not fast or knows no word, or questions leave no room for the context.
        """
        arguments = self.arguments
        longest = self.longest(tokenizer)
        workers = arguments.preprocessing_num_workers
        windows = encode_windows(rows, tokenizer, longest, arguments.doc_stride, workers)
        require_known(token_ids(windows), tokenizer)
        return windows

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) `input_ids`, `attention_mask`, `token_type_ids` if made; (B,) positions. T is a multiple of 8."""
        batch = padded_batch(features, tokenizer, self.longest(tokenizer))
        for name in self.label_columns:
            batch[name] = torch.tensor([int(feature[name]) for feature in features])
        return batch

    # --- mathematics ------------------------------------------------------------------------------------------

    def logits(self, outputs: ModelOutput) -> Tensor:
        """(B, T, 2): start and end."""
        return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """See `losses.span_loss`."""
        return losses.span_loss(logits, batch["start_positions"], batch["end_positions"], self.mask(batch), count)

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """See `losses.span_kl`."""
        return losses.span_kl(student_logits, teacher_logits, self.mask(batch), temperature, count)

    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """Linear(F, 2) on every token."""
        head = nn.Linear(filter_output_dim, 2)
        draw_weights(head, initializer_range(model.config))
        return head

    # --- scores -----------------------------------------------------------------------------------------------

    def uninformed_score(self, split: Split) -> float | None:
        """The share of questions without an answer, if there may be such: the score of answering none."""
        if not self.version_2_with_negative:
            return None
        return 100.0 * float(np.mean([not answers["text"] for answers in split.rows["answers"]]))

    def decode(self, logits: list[np.ndarray], split: Split) -> SpanPredictions:
        """Answers from (T, 2) logits, one array per window.

        Raises:
            ValueError: the numbers of arrays and windows differ, or an array is shorter than its window.
        """
        arguments = self.arguments
        found = answer_questions(logits, split, arguments.n_best_size, arguments.max_answer_length)
        predictions = SpanPredictions(answers={})
        for question in found:
            predictions.answers[question.id] = question.answers[0]["text"] if question.answers else ""
            entries = question.answers
            if self.version_2_with_negative:
                predictions.null_odds[question.id] = question.null_odds
                if question.null_odds > arguments.null_score_diff_threshold:
                    predictions.answers[question.id] = ""
                entries = sorted([*entries, question.null], key=_score, reverse=True)
            predictions.n_best[question.id] = _with_probabilities(entries)
        return predictions

    def confidences(self, logits: list[np.ndarray], predictions: Any, split: Split) -> np.ndarray | None:
        """(questions,) the share of each answer in a softmax over the best ones; 0 where there was none to choose."""
        found = [
            next((entry["probability"] for entry in predictions.n_best[id_] if entry["text"] == answer), 0.0)
            for id_, answer in predictions.answers.items()
        ]
        return np.array(found, dtype=np.float32)

    @property
    def score_names(self) -> tuple[str, ...]:
        """`f1`, `exact_match` and, if questions may have no answer, those that `score` adds."""
        if not self.version_2_with_negative:
            return ("f1", "exact_match")
        kinds = ("HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1")
        return ("f1", "exact_match", *kinds)

    def score(self, predictions: SpanPredictions, rows: Dataset) -> Metrics:
        """`exact_match` and `f1` in percent and `total`; if questions may have no answer, more.

        Those are the scores of answerable (`HasAns_`) and unanswerable questions (`NoAns_`) and, with null odds, the
        best scores that another `null_score_diff_threshold` could give, as in the official script. Predictions for
        other questions are ignored.

        Raises:
            InputError: a question has no prediction.
        """
        gold = {id_: answers["text"] for id_, answers in zip(rows["id"], rows["answers"], strict=True)}
        _require_predictions(predictions, list(gold), "predictions")
        negative = self.version_2_with_negative
        return squad_scores(predictions.answers, gold, predictions.null_odds if negative else None, negative)

    def drawn(self, predictions: SpanPredictions, rows: Dataset, draw: np.ndarray) -> tuple[SpanPredictions, Dataset]:
        """The questions drawn, under ids of their own: predictions go by id."""
        picked = rows.select(draw)
        ids = {f"{id_} ({place})": id_ for place, id_ in enumerate(picked["id"])}

        def renamed(part: dict[str, Any]) -> dict[str, Any]:
            return {new: part[old] for new, old in ids.items() if old in part}

        answers, odds = renamed(predictions.answers), renamed(predictions.null_odds)
        found = SpanPredictions(answers, odds, renamed(predictions.n_best))
        return found, Dataset.from_dict({**picked.to_dict(), "id": list(ids)}, features=picked.features)

    def sampled_score(self, predictions: SpanPredictions, rows: Dataset, draws: Draws) -> np.ndarray:
        """See `Task.sampled_score`: the mean over the questions drawn."""
        gold = {id_: answers["text"] for id_, answers in zip(rows["id"], rows["answers"], strict=True)}
        of_question = question_scores(predictions.answers, gold)[self.metric]
        return 100 * sampled_sums(of_question[:, None], draws)[:, 0] / draws.rows

    def agreement(self, predictions: SpanPredictions, teacher_predictions: SpanPredictions) -> Metrics:
        """Percent of questions with the same normalised answer, and the mean token F1 between the two answers."""
        ids = list(predictions.answers)
        _require_predictions(teacher_predictions, ids, "the teacher's predictions")
        pairs = [(predictions.answers[id_], teacher_predictions.answers[id_]) for id_ in ids]
        return {
            "agreement_exact": 100.0 * float(np.mean([exact_match(*pair) for pair in pairs])),
            "agreement_f1": 100.0 * float(np.mean([token_f1(*pair) for pair in pairs])),
        }

    def write_predictions(self, predictions: SpanPredictions, split: Split, folder: Path) -> None:
        """The official files: `predictions.json`, `nbest_predictions.json` and, with null odds, `null_odds.json`."""
        files: dict[str, dict[str, Any]] = {_PREDICTIONS: predictions.answers, _N_BEST: predictions.n_best}
        if predictions.null_odds:
            files[_NULL_ODDS] = predictions.null_odds
        for name, content in files.items():
            (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def read_predictions(self, file: Path) -> SpanPredictions:
        """Predictions in the official form {id: answer}, also as `.json.gz`.

        Also reads the other official files next to a `predictions.json`, so that all scores and confidences are the
        same as before.

        Raises:
            InputError: there is no such file, or it holds anything else.
        """
        answers = _read_json(file)
        if not isinstance(answers, dict) or not all(isinstance(text, str) for text in answers.values()):
            raise InputError(
                f'{file}: expected answers by question id, {{id: text}}, with "" for no answer, got {shown(answers)}; '
                "fix the file"
            )
        null_odds, n_best = (_read_beside(file, name) for name in (_NULL_ODDS, _N_BEST))
        return SpanPredictions(answers, null_odds, n_best)


def _unanswerable(rows: Dataset) -> list[str]:
    """Ids of the questions whose list of answers is empty."""
    if len(rows) == 0:
        return []
    lengths = pc.list_value_length(pc.struct_field(values(rows, "answers"), "text"))
    return [str(id_) for id_ in values(rows, "id").filter(pc.equal(lengths, 0)).to_pylist()]


def _score(entry: dict[str, Any]) -> float:
    return entry["start_logit"] + entry["end_logit"]


def _with_probabilities(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries, best first, each with its share of a softmax over their scores."""
    scores = np.array([_score(entry) for entry in entries])
    exponentials = np.exp(scores - scores.max()) if entries else scores
    probabilities = exponentials / exponentials.sum()
    return [
        {"text": entry["text"], "probability": float(probability)} | entry
        for entry, probability in zip(entries, probabilities, strict=True)
    ]


def _require_predictions(predictions: SpanPredictions, ids: list[str], whose: str) -> None:
    missing = [id_ for id_ in ids if id_ not in predictions.answers]
    if missing:
        raise InputError(
            f"{whose}: expected one for each of {len(ids)} questions, got none for "
            f"{some(len(missing), 'question', missing)}; predict on the same rows"
        )


def _read_beside(file: Path, name: str) -> dict[str, Any]:
    """What another of the official files beside `predictions.json` holds; nothing if there is none."""
    beside = file.with_name(name)
    found = _read_json(beside) if file.name == _PREDICTIONS and beside.exists() else {}
    if not isinstance(found, dict):
        raise InputError(f"{beside}: expected values by question id, got {shown(found)}; fix or remove the file")
    return found


def _read_json(file: Path) -> Any:
    try:
        data = file.read_bytes()
        return json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise InputError(f"{file}: expected a JSON file, got an unreadable one ({error}); check it") from error
