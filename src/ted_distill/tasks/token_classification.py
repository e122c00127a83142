"""Token classification: a tag for each word of a text, such as the parts of names (NER) or parts of speech."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, collect, raise_if_any, shown
from ..method import losses
from ..method.filters import Batch, draw_weights, initializer_range
from ..wording import listed
from .base import Counts, Metrics, Split, Task
from .label_sets import ModelLabels
from .padding import padded_batch
from .prediction_files import read_list, write_list
from .reading.columns import plain_name, row_list
from .reading.file_options import FileOptions, columns_read, file_options
from .reading.held_out import by_rarest
from .reading.labels import declared_names, is_label, is_word, label_name, warn_of_alike
from .reading.mapped import mapped
from .reading.notices import notice
from .reading.summaries import classes_summary
from .reading.tagged_words import USUAL_WORDS, read_lists, word_columns, words_column
from .reading.tags import (
    OUTSIDE,
    TAGGED,
    are_bare,
    are_of_entities,
    entity_part,
    entity_tags,
    in_other_notation,
    kinds_of_words,
)
from .reading.word_rows import refuse_word_rows, refuse_words_with_entities
from .resampling import Draws, entity_counts, sampled_sums
from .scores import require_numbers, softmax
from .task_arguments import TaskArguments
from .tokenizers import require_fast, require_length, require_tokens
from .unlabelled import UNLABELLED
from .word_tokens import tokenise_words

# Both data sets are scripts, which `datasets` no longer runs; the Hub has its own parquet copy of each.
_CONVERTED = "refs/convert/parquet"


class TokenClassification(ModelLabels, Task):
    """One tag for each word: names of people and places (NER), parts of speech.

    Rows have `tokens`, a list of words, and `tags`, a class number for each. Tags that are parts of entities (O, B-X,
    I-X; also BIOES, BILOU and BMES, and with `_` for `-`) are scored by whole entities, with `seqeval`, and all others
    among them are outside of entities. If there are no such tags, each word is scored.
    """

    keeps_first_blocks = True
    auto_model = AutoModelForTokenClassification
    pipeline_tag = "token-classification"
    default_max_seq_length = 128

    def __init__(self, arguments: TaskArguments) -> None:
        self.preset = TAGGED.get(arguments.task or "")
        if self.preset and not (arguments.dataset_name or arguments.dataset_revision):
            arguments = replace(arguments, dataset_revision=_CONVERTED)
        super().__init__(arguments)
        self._official = self.preset is not None
        self._declared = list(self.preset.tags) if self.preset else None
        """The tags in the order that the preset, or the first split, declares; a number in a later one is of these."""

    @property
    def metric(self) -> str:  # type: ignore[override]
        """`f1` of whole entities, or `accuracy` of words if tags are not parts of entities."""
        return "f1" if self.has_entities else "accuracy"

    # --- data -------------------------------------------------------------------------------------------------

    def hub_dataset(self) -> tuple[str, str | None] | None:
        """The data set that the task is named after; None for other data."""
        return (self.preset.hub_name, None) if self.preset else None

    def file_options(self) -> FileOptions:
        """Text files have a word per line."""
        arguments = self.arguments
        return file_options(arguments, words=arguments.text_column or USUAL_WORDS, read=columns_read(arguments))

    def normalise(self, rows: Dataset, split: str) -> Dataset:
        """Only the columns `tokens` and `tags`.

        Raises:
            InputError: a column is missing or does not hold lists, a row is a word, or a tag is unknown.
        """
        try:
            tokens, tags = word_columns(rows, self.arguments.text_column, self.arguments.label_column, split)
        except InputError:
            # Naming the columns of such a table would only lead to the same refusal.
            refuse_words_with_entities(rows, split)
            raise
        refuse_word_rows(rows, tokens, tags, split)
        problems: list[str] = []
        with collect(problems):
            words = [_map(_word, row) for row in read_lists(rows, tokens, split, "words", is_word)]
        with collect(problems):
            names = self._tag_names(rows, tags, split)
        raise_if_any(problems)
        declared = declared_names(rows, tags) or (self.preset.tags if self.preset else None)
        if self._label_names is None and self.preset is None:
            self._declared = declared
            self.declares_labels = declared is not None
        seen = {name for row in names for name in row or () if name}
        if self._label_names is None and declared is None:
            warn_of_alike(seen, split)
        known, _ = self.read_names(lambda given: (given or declared or self.in_order(seen), None))
        if self._label_names is None:
            _say_how_scored(known, names, split)
        self._label_names = known
        strangers = [[name for name in row or () if name and name not in known] for row in names]
        if any(strangers):
            first = min(name for row in strangers for name in row)
            what = "name the tags, as numbers have no order here" if first.isdecimal() else "fix or remove them"
            raise InputError(
                f"{split}: expected the tags {listed(known)}, got {shown(first)} in "
                f"{row_list(number for number, row in enumerate(strangers) if row)}; {what}, or name another column "
                "with --label_column"
            )
        numbers = {name: number for number, name in enumerate(known)}
        coded = [_map(lambda name: numbers.get(name) if name else None, row) for row in names]
        features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=known))})
        return Dataset.from_dict({"tokens": words, "tags": coded}, features=features)

    def classes_of(self, rows: Dataset) -> Sequence[Hashable] | None:
        """The rarest tag of each row; None where tags are wrong, which is refused later."""
        try:
            _, column = word_columns(rows, self.arguments.text_column, self.arguments.label_column, "train")
            names = self._tag_names(rows, column, "train")
        except InputError:
            return None
        return by_rarest([[name for name in row or () if name] for row in names])

    def without_labels(self, rows: Dataset) -> Dataset:
        """The words, and the first tag for each of them. Raises `InputError` if there are no lists of words."""
        column = words_column(rows, self.arguments.text_column, UNLABELLED)
        words = [_map(_word, row) for row in read_lists(rows, column, UNLABELLED, "words", is_word)]
        tags = [_map(lambda word: 0, row) for row in words]
        features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=self.label_names))})
        return Dataset.from_dict({"tokens": words, "tags": tags}, features=features)

    def unlabelled_problems(self, rows: Dataset) -> Iterator[str]:
        """Rows without words, or with words that are none; of a row without a list, only that."""
        return (problem for problem in self.problems(rows, UNLABELLED) if "a tag for each word" not in problem)

    def _tag_names(self, rows: Dataset, column: str, split: str) -> list[list[str | None] | None]:
        """The tags of each row as names. A number is that of a name only where the order of the names was declared.

        Elsewhere it is a name itself. So is every number where numbers are all the names there are: 1 is then not the
        second of 1, 2 and 3.
        """
        names = declared_names(rows, column) or (self.preset.tags if self.preset else None)
        if names is None and not all(name.isdecimal() for name in self._label_names or ()):
            names = self._declared or self.offered_order
        by_number = dict(enumerate(names or ()))

        def name(tag: Any) -> str | None:
            is_number = isinstance(tag, int) and not isinstance(tag, bool)
            return by_number.get(tag, label_name(tag)) if is_number else label_name(tag)

        return [_map(name, row) for row in read_lists(rows, column, split, "tags", is_label)]

    def problems(self, rows: Dataset, split: str) -> Iterator[str]:
        """Rows without words, with missing words or tags, or with different numbers of them."""
        words, tags = rows["tokens"][:], rows["tags"][:]
        checks = {
            "expected words, got none": [not row for row in words],
            "expected no missing words, got some": [None in (row or ()) for row in words],
            "expected words, got blank ones": [
                any(word is not None and not word.strip() for word in row or ()) for row in words
            ],
            "expected words without NUL characters, got some": [
                any("\0" in (word or "") for word in row or ()) for row in words
            ],
            "expected a tag for each word, got none (or -100)": [row is None or None in row for row in tags],
            "expected as many tags as words, got more or fewer": [
                len(row or ()) != len(of_row or ()) for row, of_row in zip(words, tags, strict=True)
            ],
        }
        for what, wrong in checks.items():
            if any(wrong):
                yield f"{split}: {what} in {row_list(np.flatnonzero(wrong).tolist())}; fix or remove them"
        names = self._label_names or ()
        if len(names) < 2:
            yield (
                f"{split}: expected two or more tags, got {listed(names) or 'none'}; give rows with more, or name "
                "another column with --label_column"
            )
        if odd := in_other_notation(names):
            yield (
                f"{split}: expected tags such as B-PER, got {listed(map(shown, odd), 5)}; rename them (what is outside "
                "of entities is O)"
            )

    def describe_labels(self, rows: Dataset) -> str:
        """The share of each tag."""
        return classes_summary((tag for row in rows["tags"] for tag in row), self.label_names or (), "word")

    def text_columns(self, rows: Dataset) -> list[str]:
        """The words."""
        return ["tokens"]

    def in_order(self, names: Iterable[str]) -> list[str]:
        """`O` first, the others sorted, numbers as numbers."""
        first = [OUTSIDE] if OUTSIDE in (distinct := set(names)) else []
        return [*first, *super().in_order(distinct.difference(first))]

    @property
    def has_entities(self) -> bool:
        """Whether tags are parts of entities (B-X, I-X) and not kinds of words."""
        return are_of_entities(self.label_names or ())

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """One feature per row. The first token of a word has its tag as label, the others have -100.

        `first_tokens` are the places of these tokens, -1 for a word that was cut off or has no token: it is scored as
        `O`, or as wrong.

        Raises:
            InputError: the tokenizer is not fast, does not allow `max_seq_length`, or makes nothing of a row.
        """
        require_fast(tokenizer)
        longest = self.longest(tokenizer)
        require_length(longest, tokenizer.num_special_tokens_to_add() + 1, tokenizer)
        features = mapped(
            rows,
            tokenise_words,
            description="tokenise",
            num_proc=self.arguments.preprocessing_num_workers,
            tokenizer=tokenizer,
            max_length=longest,
        )
        require_tokens(features, tokenizer)
        places = features.with_format("arrow")[:].column("first_tokens").combine_chunks().flatten().to_numpy()
        if lost := int((places < 0).sum()):
            notice(
                f"max_seq_length: expected a token for every word within {longest} tokens, got none for {lost} of "
                f"{len(places)} words; raise it, or their tags are not learnt and count as not found",
                self.sources,
            )
        return features

    def collate(self, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> Batch:
        """(B, T) tensors padded on the right; `labels` are -100 where no word begins."""
        return padded_batch(features, tokenizer, self.longest(tokenizer), {"labels": -100})

    # --- mathematics ------------------------------------------------------------------------------------------

    def counts(self, batch: Batch) -> Counts:
        """Labelled tokens, for prediction and matching loss; real tokens, for the layer loss."""
        labelled = (batch["labels"] != -100).sum(dtype=torch.float32)
        return super().counts(batch)._replace(labels=labelled, predictions=labelled)

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Cross-entropy, averaged over labelled tokens."""
        return losses.class_loss(logits.flatten(0, 1), batch["labels"].flatten(), count)

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """KL over the tags, averaged over labelled tokens."""
        labelled = batch["labels"] != -100
        return losses.class_kl(student_logits[labelled], teacher_logits[labelled], temperature, count)

    def filter_head(self, filter_output_dim: int, model: PreTrainedModel) -> nn.Module:
        """Linear(F, C) on every token."""
        head = nn.Linear(filter_output_dim, self.num_labels)
        draw_weights(head, initializer_range(model.config))
        return head

    # --- scores -----------------------------------------------------------------------------------------------

    def uninformed_score(self, split: Split) -> float | None:
        """0 where entities are scored, as the most frequent tag is outside of all; otherwise the share of that tag."""
        if self.has_entities:
            return 0.0
        tags = np.concatenate([np.array(row) for row in split.rows["tags"]])
        return 100 * float(np.bincount(tags).max()) / len(tags)

    def decode(self, logits: list[np.ndarray], split: Split) -> list[list[str]]:
        """The tag of each word of each row. Raises `InputError` for logits that are not finite."""
        names = self.label_names or []
        nothing = OUTSIDE if OUTSIDE in names else ""
        found = []
        for row, places in zip(logits, split.features["first_tokens"], strict=True):
            require_numbers(row)
            best = row.argmax(axis=-1)
            found.append([names[best[place]] if place >= 0 else nothing for place in places])
        return found

    def confidences(self, logits: list[np.ndarray], predictions: Any, split: Split) -> np.ndarray | None:
        """(words of all rows,) the probability of each word's tag; 0 for a word that the model did not see."""
        found = []
        for row, places in zip(logits, split.features["first_tokens"], strict=True):
            best = softmax(row).max(axis=-1)
            found += [best[place] if place >= 0 else 0.0 for place in places]
        return np.array(found, dtype=np.float32)

    @property
    def score_names(self) -> tuple[str, ...]:
        """`f1`, `precision` and `recall` of entities, and `accuracy` of words; without entities only the last."""
        return ("f1", "precision", "recall", "accuracy") if self.has_entities else ("accuracy",)

    def score(self, predictions: list[list[str]], rows: Dataset) -> Metrics:
        """Scores in percent. Raises `InputError` for predictions on other rows."""
        names = self.label_names or []
        gold = [[names[tag] for tag in row] for row in rows["tags"]]
        if list(map(len, predictions)) != list(map(len, gold)):
            raise InputError(
                f"predictions: expected a tag for each word of each row, got {sum(map(len, predictions))} tags in "
                f"{len(predictions)} rows for {sum(map(len, gold))} words in {len(gold)} rows; predict on the same rows"
            )
        return self._compare(gold, predictions)

    def sampled_score(self, predictions: list[list[str]], rows: Dataset, draws: Draws) -> np.ndarray:
        """See `Task.sampled_score`: `f1` of entities, or `accuracy` of words."""
        names = self.label_names or []
        gold = [[names[tag] for tag in row] for row in rows["tags"]]
        if self.has_entities:
            sums = sampled_sums(entity_counts(self.entity_parts(gold), self.entity_parts(predictions)), draws)
            return 200 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1)
        right = [np.equal(row, of_row).sum() for row, of_row in zip(gold, predictions, strict=True)]
        sums = sampled_sums(np.stack([right, list(map(len, gold))], axis=1).astype(np.float64), draws)
        return 100 * sums[:, 0] / sums[:, 1]

    def agreement(self, predictions: list[list[str]], teacher_predictions: list[list[str]]) -> Metrics:
        """`accuracy` and `f1` with the teacher's tags in place of the labels."""
        found = self._compare(teacher_predictions, predictions)
        names = {"accuracy": "agreement", "f1": "agreement_f1"}
        return {names[name]: value for name, value in found.items() if name in names}

    def _compare(self, gold: list[list[str]], predictions: list[list[str]]) -> Metrics:
        right = [
            a == b for row, of_row in zip(gold, predictions, strict=True) for a, b in zip(row, of_row, strict=True)
        ]
        accuracy = {"accuracy": 100.0 * float(np.mean(right))}
        if not self.has_entities:
            return accuracy
        # Here, since scikit-learn takes a second to import.
        from seqeval.metrics import f1_score, precision_score, recall_score

        scores = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
        parts = self.entity_parts(gold), self.entity_parts(predictions)
        found = {name: 100.0 * float(score(*parts, zero_division=0)) for name, score in scores.items()}
        return found | accuracy

    def entity_parts(self, tags: list[list[str]]) -> list[list[str]]:
        """Tags as seqeval reads them: what is no part of an entity, such as `_` or no tag at all, is `O`."""
        bare = are_bare(self.label_names or ())
        return [[entity_part(tag, bare) for tag in row] for row in tags]

    def write_predictions(self, predictions: list[list[str]], split: Split, folder: Path) -> None:
        """Write `predictions.json`: a list of tags for each row."""
        write_list(folder, predictions)

    def predicted_names(self, file: Path) -> list[str]:
        """See `Task.predicted_names`."""
        found = dict.fromkeys(label_name(tag) for row in read_list(file) if isinstance(row, list) for tag in row)
        return [name for name in found if name is not None]

    def read_predictions(self, file: Path) -> list[list[str]]:
        """Predictions that `write_predictions` wrote. Raises `InputError`."""
        found = read_list(file)
        if not all(isinstance(row, list) for row in found):
            raise InputError(f"{file}: expected a list of tags for each row, got other JSON; give each row a list")
        found = [[plain_name(str(tag)) for tag in row] for row in found]
        strangers = sorted({tag for row in found for tag in row} - {*(self.label_names or ()), ""})
        if strangers:
            raise InputError(
                f"{file}: expected the tags {listed(self.label_names or ())}, got {shown(strangers[0])}; fix the file"
            )
        return found


def _say_how_scored(known: list[str], names: list[list[str | None] | None], split: str) -> None:
    """Say that words are scored one by one where the tags may have been meant as entities.

    Args:
        known: the names of the tags.
        names: of the tags of each row.
    """
    if all(map(str.isdecimal, known)):
        notice(
            f"{split}: expected names of tags, such as B-PER, got the numbers {listed(known, 5)}; words are scored one "
            "by one, as numbers do not say which words are one entity (write names in place of numbers; parquet files "
            "with ClassLabel have them)"
        )
    kinds, parts = kinds_of_words(known), entity_tags(known)
    if kinds and parts and not are_of_entities(known):
        notice(
            f"{split}: expected kinds of words, or parts of entities such as B-PER, got both ({listed(kinds, 3)} and "
            f"{listed(parts, 3)}); words are scored one by one: rename those that are neither"
        )
    if kinds and not parts:
        _say_kinds_beside_outside(known, kinds[0], names, split)


def _say_kinds_beside_outside(known: list[str], kind: str, names: list[list[str | None] | None], split: str) -> None:
    """Say that words are scored where tags are kinds of entities, such as PER beside O (IO, as in Few-NERD).

    Args:
        kind: one of the known tags that is not outside.
        names: of the tags of each row.
    """
    if OUTSIDE not in known or are_of_entities(known) or in_other_notation(known):
        return
    of_words = [name for row in names for name in row or () if name]
    share = of_words.count(OUTSIDE) / max(len(of_words), 1)
    if share > 0.5:
        notice(
            f"{split}: expected parts of entities such as B-{kind} and O, got tags such as {shown(kind)}; words are "
            f"scored one by one, so that O for every word has an accuracy of {100 * share:.0f} % (if these are "
            f"entities, write I-{kind} for {kind}, and so on: whole entities are scored then)"
        )


def _map(function: Callable[[Any], Any], row: list[Any] | None) -> list[Any] | None:
    return None if row is None else [function(value) for value in row]


def _word(value: Any) -> str | None:
    return None if value is None or value != value else str(value)
