"""The common parts of causal and masked language modelling: rows of text, losses over a vocabulary, perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import InputError
from ...method import vocabulary_losses
from ...method.filters import Batch, draw_weights, initializer_range
from ...wording import listed
from ..base import Counts, Metrics, Split, Task
from ..padding import padded, padded_width
from ..prediction_files import read_list
from ..reading.columns import TextColumns, missing_column, row_list, values, with_texts
from ..reading.file_options import FileOptions
from ..reading.notices import notice
from ..resampling import Draws, sampled_sums
from ..tokenizers import require_known, require_length
from .blocks import Ends, blocks, document_ends, stream_blocks, token_sequence

SEPARATORS = ("auto", "eos", "none")
_SEPARATOR = "row_separator"
_LOOKED_AT = 1000
"""Rows read to find out whether they are lines of one text."""
_MOST_LINES = 0.9
"""Share of them that ends with a newline if they are: a document may end with one by chance."""
_FEWEST = 3
"""From this number of rows with text on, they show whether they are lines."""


class LanguageModelling(Task):
    """Rows have `text`. They are joined and cut into blocks of `max_seq_length` tokens.

    Predictions of a feature are (n, 3): for each predicted token the log-probability of the right one, whether that was
    the most likely, and the most likely token.
    """

    metric = "perplexity"
    lower_is_better: ClassVar[tuple[str, ...]] = ("perplexity", "loss")
    can_cache = False
    can_stream = True
    vocabulary_logits = True
    running_text: ClassVar[bool] = True
    _form: tuple[str, bool] | None = None
    """The first split, and whether its rows are lines of one text."""

    @property
    def metric_between_tokenizers(self) -> str | None:
        """None: scores are per token, and tokens of another tokenizer are fewer or more."""
        return None

    # --- data -------------------------------------------------------------------------------------------------

    def file_options(self) -> FileOptions:
        """Only the text is read."""
        return super().file_options()._replace(read=(self.arguments.text_column or "text",))

    def normalise(self, rows: Dataset | IterableDataset, split: str) -> Dataset | IterableDataset:
        """Rows with only `text`. Raises `InputError` if there is no such column, or it holds no text."""
        available = list(rows.column_names or _first(rows))
        name = self.arguments.text_column or "text"
        if name not in available:
            raise InputError(missing_column(split, name, available, "name the one with the text with --text_column"))
        if isinstance(rows, IterableDataset):
            others = [column for column in available if column != name]
            # Only what changes something: each takes more time than reading the rows.
            rows = rows.remove_columns(others) if others else rows
            return rows if name == "text" else rows.rename_column(name, "text")
        return with_texts(rows.select_columns([name]), TextColumns(name, None, None), split)

    def problems(self, rows: Dataset | IterableDataset, split: str) -> Iterator[str]:
        """Rows without text, and rows in another form than those of the first split; of a stream, its first rows."""
        if self.arguments.row_separator not in SEPARATORS:
            separator = self.arguments.row_separator
            yield f"row_separator: expected one of {listed(SEPARATORS)}, got {separator}; set one of these"
        if isinstance(rows, IterableDataset):
            read = [row["text"] for row in islice(rows, _LOOKED_AT)]
            missing = [number for number, text in enumerate(read) if text is None]
            odd = [number for number, text in enumerate(read) if "\0" in str(text)]
            first = [str(text or "") for text in read]
        else:
            texts = values(rows, "text")
            missing = np.flatnonzero(texts.is_null().to_numpy()).tolist()
            odd = np.flatnonzero(pc.fill_null(pc.match_substring(texts, "\0"), False).to_numpy()).tolist()
            first = rows[:_LOOKED_AT]["text"]
        if missing:
            yield f"{split}: expected text in every row, got none in {row_list(missing)}; fix or remove them"
        if odd:
            yield f"{split}: expected text without NUL characters, got some in {row_list(odd)}; fix or remove them"
        if not any((text or "").strip() for text in first):
            column = self.arguments.text_column or "text"
            yield (
                f"{split}: expected text in column {column!r}, got none in the first {len(first)} rows; "
                "name another column with --text_column"
            )
        if self.arguments.row_separator == "auto":
            yield from self._other_form(rows, split)

    def _other_form(self, rows: Dataset | IterableDataset, split: str) -> Iterator[str]:
        """The problem that rows are lines and those of the first split are not, or the reverse: all are read alike."""
        if self._form is None:
            lines, before = self.keeps_order(rows), self._lines_before
            self._form = split, lines
            if before not in (None, lines):
                notice(
                    f"{split}: read as {_joined(lines)}, though the model was trained on {_joined(not lines)}; set "
                    "row_separator if they are to be read alike"
                )
            return
        first, lines = self._form
        share, count = self._share_of_lines(rows)
        if _show_form(share, count) and lines != (share >= _MOST_LINES):
            yield (
                f"{split}: expected {_joined(lines)}, as in {first}, got {_joined(not lines)}; give both in one form, "
                "or set row_separator: to none if rows are to be joined as they are, to eos if texts are to end"
            )

    def keeps_order(self, rows: Dataset | IterableDataset) -> bool:
        """Whether rows are lines of one text: as `row_separator` says, or nearly all of the first end with newlines."""
        if self.arguments.row_separator != "auto":
            return self.arguments.row_separator == "none"
        share, count = self._share_of_lines(rows)
        before = self._lines_before
        return share >= _MOST_LINES if before is None or _show_form(share, count) else before

    @property
    def _lines_before(self) -> bool | None:
        """Whether the rows that the model was trained on were lines, if that is known."""
        before = self._inferred_before.get(_SEPARATOR)
        return None if before is None else bool(before == "none")

    @property
    def inferred(self) -> dict[str, Any]:
        """Whether rows were joined as lines, if nobody said how."""
        return {_SEPARATOR: "none" if self._lines else "eos"} if self.arguments.row_separator == "auto" else {}

    def forget_inferred(self) -> None:
        """Forget the form of the first split."""
        self._form = None

    def _share_of_lines(self, rows: Dataset | IterableDataset) -> tuple[float, int]:
        """The share of the first rows that end as lines do, and how many of these rows have text."""
        first = list(islice(rows, _LOOKED_AT))
        name = next((name for name in (self.arguments.text_column, "text") if first and name in first[0]), None)
        filled = [text for text in (str(row[name] or "") for row in first if name) if text.strip()]
        # The last line of a file may end without one.
        counted = filled[:-1] or filled
        # A document may end with a newline too; a line has no other.
        lines = sum(text.endswith("\n") and "\n" not in text[:-1] for text in counted)
        return lines / max(len(counted), 1), len(filled)

    @cached_property
    def _lines(self) -> bool:
        """The same of all splits: of the training rows, or else of the first split."""
        return self.keeps_order(next(iter(self.rows.values())))

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> Ends:
        """The tokens around rows: none if rows are lines, which end with newlines, else end-of-text."""
        return Ends() if self._lines else document_ends(tokenizer)

    def describe_labels(self, rows: Dataset) -> str | None:
        """Whether rows are joined as lines or as documents, which decides what the model learns to end."""
        return f"{len(rows):,} rows, read as {_joined(self.keeps_order(rows))} (row_separator)"

    def around(self, tokenizer: PreTrainedTokenizerBase) -> Ends:
        """The tokens before and after each block."""
        return Ends()

    def size(self, tokenizer: PreTrainedTokenizerBase) -> int:
        """Tokens per block: `max_seq_length` if it was given, else the default up to the tokenizer's limit.

        Raises:
            InputError: the tokenizer does not allow it.
        """
        size = self.longest(tokenizer)
        shortest = 2 + sum(map(len, self.around(tokenizer)))
        require_length(size, shortest, tokenizer)
        return size

    def tokens(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
        """(N,) token ids of all rows. Raises `InputError` if the tokenizer knows none of the words."""
        ids = token_sequence(rows, tokenizer, self.ends(tokenizer), self.arguments.preprocessing_num_workers)
        require_known(ids, tokenizer)
        return ids

    def encode_training(
        self, rows: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase
    ) -> Dataset | IterableDataset:
        """Blocks of tokens: `input_ids` and `length`. Raises `InputError` if there is no text."""
        size, around = self.size(tokenizer), self.around(tokenizer)
        if isinstance(rows, IterableDataset):
            # Rows given in Python may be shuffled in a buffer, whose content no position tells.
            positions = "train" not in self.given
            return stream_blocks(rows, tokenizer, self.ends(tokenizer), size, *around, positions)
        return blocks(self.tokens(rows, tokenizer), size, *around)

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) `input_ids` and `attention_mask`, padded on the right.

        No loss looks at padding, so that the tokenizer needs no padding token.
        """
        rows = [feature["input_ids"] for feature in features]
        width = padded_width(list(map(len, rows)), self.size(tokenizer))
        mask = padded([[1] * len(row) for row in rows], width, 0)
        return {"input_ids": padded(rows, width, tokenizer.pad_token_id or 0), "attention_mask": mask}

    # --- mathematics ------------------------------------------------------------------------------------------

    def targets(self, batch: Batch) -> Tensor:
        """(B, T) the token to predict at each position, -100 for none."""
        return batch["labels"]

    def selected(self, batch: Batch) -> Tensor | None:
        """(B * T,) the positions with a label, if few have one; None for all positions."""
        return None

    def counts(self, batch: Batch) -> Counts:
        """Predicted tokens, for prediction and matching loss; real tokens, for the layer loss."""
        predicted = (self.targets(batch) != -100).sum(dtype=torch.float32)
        return super().counts(batch)._replace(labels=predicted, predictions=predicted)

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Cross-entropy, averaged over predicted tokens."""
        logits, targets = self._tokens(logits, batch), self._tokens(self.targets(batch).unsqueeze(-1), batch)
        return vocabulary_losses.token_loss(logits, targets.squeeze(-1), count)

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """KL over the vocabulary, averaged over predicted tokens."""
        student, teacher = self._tokens(student_logits, batch), self._tokens(teacher_logits, batch)
        targets = self._tokens(self.targets(batch).unsqueeze(-1), batch).squeeze(-1)
        return vocabulary_losses.token_kl(student, teacher, targets != -100, temperature, count)

    def _tokens(self, tensor: Tensor, batch: Batch) -> Tensor:
        """(B, T, X) -> (N, X)."""
        flat, selected = tensor.flatten(0, 1), self.selected(batch)
        return flat if selected is None else flat[selected]

    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """The model's own frozen output embedding, after a Linear if its width differs (docs/method.md, "Language
        modelling").
        """
        return VocabularyHead(filter_output_dim, model)

    def filter_head_loss(self, head: nn.Module, states: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """`loss`, without the logits of all tokens."""
        targets = self._tokens(self.targets(batch).unsqueeze(-1), batch).squeeze(-1)
        assert isinstance(head, VocabularyHead)  # what `filter_head` made
        hidden = head.hidden(self._tokens(states, batch))
        return vocabulary_losses.vocabulary_loss(hidden, head.output, targets, count)

    # --- scores -----------------------------------------------------------------------------------------------

    def scored(self, logits: Tensor, batch: Batch) -> Tensor:
        """(B, T, 3), see `vocabulary_losses.token_scores`."""
        targets = self.targets(batch)
        return vocabulary_losses.token_scores(logits.flatten(0, 1), targets.flatten()).unflatten(0, targets.shape)

    def decode(self, logits: list[np.ndarray], split: Split) -> list[np.ndarray]:
        """(n, 3) for each feature: the rows of its predicted tokens."""
        return [tokens[tokens[:, 2] >= 0] for tokens in logits]

    @property
    def score_names(self) -> tuple[str, ...]:
        """`perplexity`, `accuracy` of the most likely token, and `loss` (nats per token)."""
        return ("perplexity", "accuracy", "loss")

    def score(self, predictions: list[np.ndarray], rows: Dataset) -> Metrics:
        """`perplexity` per token, `accuracy` in percent, and `loss` in nats per token."""
        tokens = np.concatenate(predictions).astype(np.float64)
        if len(tokens) == 0:
            raise InputError("text: expected at least one token to predict, got none; give more text to score on")
        loss = -float(tokens[:, 0].mean())
        return {"perplexity": _exp(loss), "accuracy": 100 * float(tokens[:, 1].mean()), "loss": loss}

    def examples(self, predictions: list[np.ndarray], rows: Dataset) -> int:
        """The features: rows are joined and cut anew, so that no row has a score of its own."""
        return len(predictions)

    def drawn(self, predictions: list[np.ndarray], rows: Dataset, draw: np.ndarray) -> tuple[list[np.ndarray], Dataset]:
        """The features drawn, and all rows."""
        return [predictions[feature] for feature in draw], rows

    def sampled_score(self, predictions: list[np.ndarray], rows: Dataset, draws: Draws) -> np.ndarray:
        """See `Task.sampled_score`: perplexity over the tokens of the features drawn."""
        parts = [(-float(tokens[:, 0].sum(dtype=np.float64)), len(tokens)) for tokens in predictions]
        sums = sampled_sums(np.array(parts, dtype=np.float64), draws)
        return np.array([_exp(nats / count) if count else 1.0 for nats, count in sums])

    def agreement(self, predictions: list[np.ndarray], teacher_predictions: list[np.ndarray]) -> Metrics:
        """Percent of tokens for which both models have the same most likely token."""
        own, teacher = np.concatenate(predictions), np.concatenate(teacher_predictions)
        return {"agreement": 100 * float((own[:, 2] == teacher[:, 2]).mean())}

    def write_predictions(self, predictions: list[np.ndarray], split: Split, folder: Path) -> None:
        """Write `predictions.json`: for each feature a list of [log-probability, right or not, most likely token]."""
        lines = ",\n".join(map(_json_rows, predictions))
        (folder / "predictions.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    def read_predictions(self, file: Path) -> list[np.ndarray]:
        """Predictions that `write_predictions` wrote. Raises `InputError`."""
        found = read_list(file)
        try:
            return [np.asarray(tokens, dtype=np.float32).reshape(-1, 3) for tokens in found]
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{file}: expected [log-probability, right, token] for each token, got another value ({error}); "
                "check it"
            ) from error


def _json_rows(rows: np.ndarray) -> str:
    """Rows of float32 numbers as JSON: the shortest digits that give the same numbers when they are read."""
    return "[" + ", ".join(f"[{', '.join(row)}]" for row in rows.astype(np.float32).astype(str).tolist()) + "]"


class VocabularyHead(nn.Module):
    """Filter states (B, T, F) -> [Linear(F, D) if F is not D ->] the frozen output embedding -> logits (B, T, V).

    Raises:
        InputError: the model has no output embedding of its own.
    """

    def __init__(self, filter_output_dim: int, model: PreTrainedModel) -> None:
        super().__init__()
        output = model.get_output_embeddings()
        if not isinstance(output, nn.Linear):
            raise InputError(
                "filters: expected a model with an output embedding that filter heads can share, got "
                f"{type(model).__name__}; choose another architecture to learn filters for language modelling"
            )
        self.output = output
        self.project: nn.Module = nn.Identity()
        if filter_output_dim != output.in_features:
            self.project = nn.Linear(filter_output_dim, output.in_features)
            draw_weights(self.project, initializer_range(model.config))

    def hidden(self, states: Tensor) -> Tensor:
        """What the output embedding takes: states of its width, in its number type."""
        return self.project(states).to(self.output.weight.dtype)

    def forward(self, states: Tensor) -> Tensor:
        """Logits of all tokens."""
        return self.output(self.hidden(states))


def _show_form(share: float, count: int) -> bool:
    """Whether rows show if they are lines: few rows, and rows some of which end with newlines, may be either."""
    return count >= _FEWEST and not 1 - _MOST_LINES < share < _MOST_LINES


def _joined(lines: bool) -> str:
    return "lines of one text" if lines else "texts with an end-of-text token between them"


def _first(rows: Any) -> dict[str, Any]:
    return next(iter(rows), {})


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf
