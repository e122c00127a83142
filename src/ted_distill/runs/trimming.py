"""`student_trim: train`: in RUN/best, the best student has only the tokens that the training texts need.

All stages train with the whole vocabulary. So every method works that compares tokens, and what is trained is the same
as if the tokens had been left out before: the training texts have none of them, and embeddings of tokens that the
training data lack are not trained. The student is trimmed when it is finished, and scored again, since words of other
texts may be cut into other pieces.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from datasets import IterableDataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import GateError, InputError
from ..identity import class_fingerprint, fingerprint
from ..models.load import ModelArguments
from ..models.pretrained import load_tokenizer
from ..models.trimming.trimmed_checkpoint import (
    TRIM_NAME,
    Trimming,
    choose,
    choose_tokens,
    smaller_size,
    tokenizer_content,
)
from ..models.trimming.trimmed_model import named_ids
from ..output import SETTINGS_NAME
from ..tasks import Task
from ..tasks.reading.corpus import Text, texts_of
from ..wording import listed
from .best_model import about_best, is_best, replaced_best, without_card
from .table import BEST

logger = logging.getLogger(__name__)

CHECKED_ROWS = 32
"""Texts whose outputs are compared with those of the whole model."""


def training_texts(task: Task) -> list[Text]:
    """Each text that the stages train on, once. Raises `InputError` for a stream, which has no end, or without any."""
    rows = task.rows["train"]
    if isinstance(rows, IterableDataset):
        raise InputError(
            "student_trim: expected training rows that end, as all of them say which tokens are kept, got a stream; "
            "leave it out, and trim the finished student with `ted trim`"
        )
    found = dict.fromkeys(texts_of(rows, task.text_columns(rows)))
    if (more := task.unlabelled_rows) is not None:
        found |= dict.fromkeys(texts_of(more, task.text_columns(more)))
    if not found:
        names = listed(rows.column_names)
        raise InputError(
            f"student_trim: expected a task that names columns of text, got {task.name} with the columns {names} and "
            "none of these; define text_columns in it, or leave student_trim out"
        )
    return list(found)


def own_tokens(task: Task, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Numbers of all tokens that a task of one's own makes of its training rows, which may hold other texts then."""
    return {number for ids in _own_rows(task, tokenizer) for number in ids}


def _own_rows(task: Task, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[int]]:
    """The tokens of each training row, as a task of one's own makes them; the package's add none to those of texts."""
    if class_fingerprint(type(task)) is None:
        return
    for rows in (task.rows["train"], task.unlabelled_rows):
        if rows is not None:
            features = task.encode_training(rows, tokenizer).select_columns("input_ids")
            for batch in features.iter(1000):
                yield from batch["input_ids"]


def other_texts(task: Task) -> list[Text] | None:
    """Texts of the validation rows, to see what becomes of texts that were not trained on; None without any."""
    rows = task.rows.get("validation")
    return None if rows is None else list(dict.fromkeys(texts_of(rows, task.text_columns(rows))))


def planned_size(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, task: Task) -> tuple[int, int]:
    """Tokens and parameters that a student would keep; its model may be on the meta device. Raises `InputError`."""
    texts, used = training_texts(task), own_tokens(task, tokenizer)
    kept = len(choose(tokenizer_content(tokenizer, name), texts, named_ids(model), used).kept)
    return kept, smaller_size(model, kept)


def check_trimming(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, task: Task) -> None:
    """Raise `InputError` for a student that cannot be trimmed, or rows it cannot be trimmed by; tokenises no text."""
    tokenizer_content(tokenizer, name)
    named_ids(model)
    rows = task.rows.get("train")
    if isinstance(rows, IterableDataset) or (rows is not None and not task.text_columns(rows)):
        training_texts(task)
    if task.vocabulary_logits:
        raise InputError(
            f"student_trim: expected a task whose scores are not of tokens, got {task.name}: those of other tokens "
            "cannot be compared with the teacher's; leave it out, and trim the student afterwards with `ted trim`"
        )


def publish_trimmed_best(folder: Path, method: str, task: Task, loading: ModelArguments) -> dict[str, Any] | None:
    """Publish a finished student with the tokens of the training texts as RUN/best, unless it is there.

    Returns:
        What its `trim.json` holds; None if the texts need all tokens, or the smaller student would not do the same,
        and nothing was published.
    """
    source = folder / method
    about = about_best(source, method)
    files, code = without_card(about.pop("files")), class_fingerprint(type(task))
    try:
        texts = training_texts(task)
        identity = fingerprint([files, fingerprint(texts), *([] if code is None else [code])])
        if is_best(folder, {"trimmed": identity}):
            return _read(folder)
        used = own_tokens(task, load_tokenizer(str(source), loading.hub))
        chosen = choose_tokens(str(source), loading, texts, other_texts(task), "the validation rows", used)
        with replaced_best(folder, {**about, "trimmed": identity}) as partial:
            chosen.write(partial, CHECKED_ROWS)
            _refuse_other_rows(task, chosen, load_tokenizer(str(partial), loading.hub))
            # Which says what task it is for.
            shutil.copyfile(source / SETTINGS_NAME, partial / SETTINGS_NAME)
    # Everything is trained by now: a whole student is better than none.
    except (InputError, GateError) as error:
        logger.warning("student_trim: the best student is left as it is (%s)", str(error).removeprefix("- "))
        return None
    return _read(folder)


def _refuse_other_rows(task: Task, chosen: Trimming, small: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer with which a task of one's own makes other tokens of its rows. Raises `GateError`."""
    kept = chosen.trimmed.kept
    for old, new in zip_longest(_own_rows(task, chosen.tokenizer), _own_rows(task, small)):
        if old is None or new is None or old != [kept[number] for number in new]:
            raise GateError(
                f"nothing was published: expected the same tokens of all rows of task {task.name}, got others with the "
                "smaller tokenizer; leave student_trim out"
            )


def _read(folder: Path) -> dict[str, Any]:
    """What came of trimming, of a RUN/best that is whole."""
    return dict(json.loads((folder / BEST / TRIM_NAME).read_text(encoding="utf-8")))
