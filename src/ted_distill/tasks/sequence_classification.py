"""Sequence classification: a text, or a pair of texts, and one class of C. Also what its two relatives share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import ClassLabel, Dataset
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, collect, raise_if_any
from ..method import losses
from ..method.filters import Batch
from .base import Counts, Metrics, Split, Task
from .glue import GLUE_HUB_NAME, GlueTask
from .reading.columns import Columns, find_columns, row_list, values, with_labels, with_texts
from .reading.labels import HIDDEN, class_numbers, label_name, read_classes
from .scores import SCORES, accuracy, require_numbers, require_scorable
from .task_arguments import TaskArguments

# Widths of batches are rounded up to this: GPUs multiply such matrices faster, and see fewer different shapes.
PAD_TO_MULTIPLE_OF = 8


class SequenceClassification(Task):
    """One class for each text or pair of texts.

    Rows have `text`, `text_pair` where there are pairs, `label` (class number), and the columns the data came with.
    The classes are those that a `ClassLabel` feature declares, in its order, or else those of the training rows (of
    the validation rows if they are alone), sorted. A GLUE task has its official ones.
    """

    auto_model = AutoModelForSequenceClassification
    problem_type: ClassVar[str] = "single_label_classification"
    pipeline_tag = "text-classification"
    first_token_only = True
    metrics: tuple[str, ...] = ("accuracy", "f1_macro")
    """Names in `scores.SCORES`; the first decides which checkpoint is best."""
    label_dtype: ClassVar[torch.dtype] = torch.long

    def __init__(self, arguments: TaskArguments, preset: GlueTask | None = None) -> None:
        super().__init__(arguments)
        self.preset = preset
        self.metrics = preset.metrics if preset else self.metrics
        self.metric = self.metrics[0]
        self._label_names = list(preset.label_names) if preset and preset.label_names else None
        self._columns: Columns | None = None

    # --- data -------------------------------------------------------------------------------------------------

    def hub_dataset(self) -> tuple[str, str | None] | None:
        """(name, configuration) of a GLUE task; None for one's own data."""
        return (GLUE_HUB_NAME, self.preset.name) if self.preset else None

    def validation_splits(self) -> dict[str, str]:
        """Our split name -> the Hub's, for every split the task is scored on."""
        return self.preset.validation_splits if self.preset else super().validation_splits()

    def normalise(self, rows: Dataset, split: str) -> Dataset:
        """Columns `text`, `text_pair` and `label`, and the others as they came.

        Raises:
            InputError: columns are missing or cannot be told apart, or labels are none of the classes.
        """
        arguments, preset = self.arguments, self.preset
        # Later splits have to have the columns of the first: guessed anew, they might be others.
        named = self._columns or Columns(
            arguments.text_column or (preset.text if preset else None),
            arguments.text_pair_column or (preset.text_pair if preset else None),
            arguments.label_column or ("label" if preset else None),
        )
        self._columns = find_columns(rows.column_names, named, split)
        problems: list[str] = []
        with collect(problems):
            texts = with_texts(rows, self._columns, split)
        with collect(problems):
            labels, feature = self.read_labels(rows, str(self._columns.label), split)
        raise_if_any(problems)
        return with_labels(texts, labels, feature)

    def read_labels(self, rows: Dataset, column: str, split: str) -> tuple[list[Any], Any]:
        """Labels of the rows, None where missing, and their feature. Raises `InputError`."""
        numbered = self.preset is not None  # copies of GLUE hold names or numbers
        self._label_names, labels = read_classes(rows, column, self._label_names, split, numbered)
        return labels, ClassLabel(names=self._label_names)

    def problems(self, rows: Dataset, split: str) -> Iterator[str]:
        """Rows without text or label."""
        texts = {name: values(rows, name) for name in ("text", "text_pair") if name in rows.column_names}
        for name, column in texts.items():
            if missing := _where(pc.is_null(column)):
                yield f"{split}: {row_list(missing)} without {name}; mend or drop them"
        if blank := _where(pc.equal(pc.utf8_trim_whitespace(pc.binary_join_element_wise(*texts.values(), "")), "")):
            yield f"{split}: {row_list(blank)} with nothing but blanks as text; mend or drop them"
        yield from self.label_problems(values(rows, "label"), split)

    def label_problems(self, labels: pa.ChunkedArray, split: str) -> Iterator[str]:
        """Rows whose normalised label is missing or hidden."""
        if missing := _where(pc.is_null(labels)):
            yield f"{split}: {row_list(missing)} without label; mend or drop them"
        if hidden := self.hidden_labels(labels):
            yield (
                f"{split}: {row_list(hidden)} with label -1, which marks hidden labels as in GLUE's test splits; "
                "give a split with labels (or, if -1 is one of the classes, name the classes in words)"
            )

    def hidden_labels(self, labels: pa.ChunkedArray) -> list[int]:
        """Numbers of the rows whose label is not public."""
        return _where(pc.equal(labels, HIDDEN))

    @property
    def label_names(self) -> list[str] | None:
        """Names of the classes in the order of the class numbers; reads the data if they are to be seen there."""
        if self._label_names is None:
            _ = self.rows
        return self._label_names

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """One feature a row: what the tokenizer makes of the text or pair, its length, and the label.

        Raises:
            InputError: `max_seq_length` does not fit the tokenizer, or the tokenizer cannot pad.
        """
        pairs = "text_pair" in rows.column_names
        self._check_tokenizer(tokenizer, pairs)
        max_length = self._longest(tokenizer)
        # The first call writes its truncation into the tokenizer, which would be another tokenizer to the cache.
        tokenizer("", truncation=True, max_length=max_length)
        return rows.map(
            _tokenise,
            batched=True,
            remove_columns=rows.column_names,
            fn_kwargs={"tokenizer": tokenizer, "max_length": max_length},
            num_proc=self.arguments.preprocessing_num_workers,
            desc="tokenise",
        )

    def _longest(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Tokens a row at most: `max_seq_length`, but a default gives way to what the tokenizer allows."""
        return self.arguments.max_seq_length or min(self.max_seq_length, tokenizer.model_max_length)

    def _check_tokenizer(self, tokenizer: PreTrainedTokenizerBase, pairs: bool) -> None:
        shortest = tokenizer.num_special_tokens_to_add(pair=pairs) + (2 if pairs else 1)
        longest = self._longest(tokenizer)
        if not shortest <= longest <= tokenizer.model_max_length:
            raise InputError(
                f"--max_seq_length is {longest}; {shortest} to {tokenizer.model_max_length} tokens were expected, "
                f"as the tokenizer {tokenizer.name_or_path} and its model allow"
            )
        if tokenizer.pad_token_id is None:
            raise InputError(
                f"the tokenizer {tokenizer.name_or_path} has no padding token; set one and save it with the model, "
                "as in tokenizer.pad_token = tokenizer.eos_token, and config.pad_token_id with it"
            )

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) tensors padded on the right, T the longest row's rounded up to a multiple of 8, and `labels`."""
        longest = max(len(feature["input_ids"]) for feature in features)
        width = -(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF
        width = max(longest, min(width, self._longest(tokenizer)))  # a model may have no more positions
        padding = {
            "input_ids": tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        batch = {
            name: torch.tensor([feature[name] + [pad] * (width - len(feature[name])) for feature in features])
            for name, pad in padding.items()
            if name in features[0]
        }
        return batch | {"labels": torch.tensor([feature["labels"] for feature in features], dtype=self.label_dtype)}

    # --- mathematics ------------------------------------------------------------------------------------------

    def counts(self, batch: Batch) -> Counts:
        """Items of this batch that the losses average over: rows, less those labelled -100 for the prediction loss."""
        labelled = (batch["labels"] != -100).reshape(len(batch["labels"]), -1).any(dim=-1)
        return super().counts(batch)._replace(labels=labelled.sum(dtype=torch.float32))

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Cross-entropy, averaged over rows."""
        return losses.class_loss(logits, batch["labels"], count)

    def kl(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """KL of the two distributions over classes, averaged over rows."""
        return losses.class_kl(student_logits, teacher_logits, temperature, count)

    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """A throw-away predictor of Stage I: filter states (B, T, F) -> logits (B, C)."""
        return FirstTokenHead(filter_output_dim, self.num_labels, model.config)

    # --- scores -----------------------------------------------------------------------------------------------

    def decode(self, logits: list[np.ndarray], split: Split) -> np.ndarray:
        """(N,) class numbers. Raises `InputError` for logits that are no numbers."""
        return stack_logits(logits).argmax(axis=-1)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The task's `metrics`."""
        return self.metrics

    def score(self, predictions: Any, rows: Dataset) -> Metrics:
        """The task's `metrics` in percent (`mse` in squared units). Raises `InputError` for NaN predictions."""
        predictions, labels = np.asarray(predictions), np.asarray(rows["label"][:])
        require_scorable(predictions, len(labels))
        return {name: SCORES[name](labels, predictions) for name in self.metrics}

    def agreement(self, predictions: Any, teacher_predictions: Any) -> Metrics:
        """Percent of rows that both models put into the same class."""
        predictions, teacher_predictions = np.asarray(predictions), np.asarray(teacher_predictions)
        require_scorable(predictions, len(teacher_predictions))
        return {"agreement": accuracy(teacher_predictions, predictions)}

    def write_predictions(self, predictions: Any, split: Split, folder: Path) -> None:
        """Write `predictions.json`: a list with one label name a row."""
        names = self.label_names or []
        write_list(folder, [names[number] for number in predictions])

    def read_predictions(self, file: Path) -> np.ndarray:
        """(N,) class numbers from a list of label names. Raises `InputError`."""
        numbers = class_numbers(self.label_names or [], numbered=self.preset is not None)
        names = [label_name(value) for value in read_list(file)]
        require_known(names, numbers, file)
        return np.array([numbers[name] for name in names if name])


class FirstTokenHead(nn.Module):
    """First token -> dropout -> dense -> GELU -> dropout -> out_proj: (B, T, F) -> (B, C)."""

    def __init__(self, filter_output_dim: int, num_labels: int, config: PretrainedConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(_classifier_dropout(config))
        self.dense = nn.Linear(filter_output_dim, filter_output_dim)
        self.out_proj = nn.Linear(filter_output_dim, num_labels)
        for linear in (self.dense, self.out_proj):
            nn.init.normal_(linear.weight, std=getattr(config, "initializer_range", None) or 0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, C) of filter states (B, T, F)."""
        hidden = nn.functional.gelu(self.dense(self.dropout(states[:, 0])))
        return self.out_proj(self.dropout(hidden))


def _classifier_dropout(config: PretrainedConfig) -> float:
    """The dropout of the model's own classifier, under the name its family has for it."""
    families = ("classifier_dropout", "cls_dropout", "classifier_dropout_prob", "seq_classif_dropout")
    found = (getattr(config, name, None) for name in (*families, "hidden_dropout_prob"))
    return next((float(dropout) for dropout in found if dropout is not None), 0.0)


def _tokenise(rows: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list[Any]]:
    """Features of a batch of rows. On module level, and with all it uses as arguments, for the cache of `datasets`."""
    encoded = tokenizer(
        rows["text"],
        rows.get("text_pair"),
        truncation=True,
        max_length=max_length,
        return_attention_mask=True,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded]
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return {name: encoded[name] for name in names} | {"labels": rows["label"], "length": lengths}


def stack_logits(logits: list[np.ndarray]) -> np.ndarray:
    """(N, C) from N arrays. Raises `InputError` if one holds NaN or infinity."""
    stacked = np.stack(logits)
    require_numbers(stacked)
    return stacked


def write_list(folder: Path, predictions: list[Any]) -> None:
    """Write `predictions.json`, one row a line."""
    lines = ",\n".join(json.dumps(prediction, ensure_ascii=False) for prediction in predictions)
    (folder / "predictions.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_list(file: Path) -> list[Any]:
    """A list from a JSON file. Raises `InputError` if the file holds anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: a JSON list of predictions was expected, and could not be read ({error})") from error
    if not isinstance(found, list):
        raise InputError(f"{file}: a JSON list with one prediction a row was expected, {type(found).__name__} came")
    return found


def require_known(names: Sequence[str | None], numbers: dict[str, int], file: Path) -> None:
    """Raise `InputError` if a predicted name is not that of a class."""
    strangers = sorted({str(name) for name in names if name not in numbers})
    if strangers:
        raise InputError(f"{file}: {strangers[0]!r} is no label name; label names are {', '.join(numbers)}")


def _where(rows: pa.ChunkedArray) -> list[int]:
    """Numbers of the rows where a condition holds; null is no."""
    return np.flatnonzero(pc.fill_null(rows, False).to_numpy()).tolist()
