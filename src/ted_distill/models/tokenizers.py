"""Which tokenizers make the batches of teacher and student: one for both, or each model's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ..errors import InputError, raise_if_any
from ..tasks.base import Task

_TEXTS = (
    "The Quick brown FOX, naïve café: 3.14!",
    "a   b\tc\nd ",
    "straße 東京 😀 don't http://a.b/c_d?e=1,234,567.89",
)
_SAMPLED_TOKENS = 500
"""Tokens of the vocabulary, spread evenly over it, whose text both tokenizers must read alike."""


class NamedTokenizer(Protocol):
    """A tokenizer and the name of the model it is from, such as a `LoadedModel`."""

    @property
    def name(self) -> str:
        """Folder or Hub id."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""


class Tokenizers(NamedTuple):
    """The tokenizers that make each model's batches: the same object twice where one batch serves both."""

    teacher: PreTrainedTokenizerBase
    student: PreTrainedTokenizerBase

    @property
    def shared(self) -> bool:
        """Whether one batch serves both models."""
        return self.teacher is self.student


def choose_tokenizers(
    teacher: NamedTokenizer, student: NamedTokenizer, task: Task, token_methods: Sequence[str] = ()
) -> Tokenizers:
    """One tokenizer for both models if they read texts alike; else each model's own, where only whole rows are matched.

    The shared one is the student's, unless only the teacher's makes `token_type_ids`.

    Args:
        token_methods: those of the methods that match hidden states or attention relations, token by token.

    Raises:
        InputError: the tokenizers differ, but tokens are matched.
    """
    problem = _difference(teacher.tokenizer, student.tokenizer, task)
    if problem is None:
        shared = _shared(teacher.tokenizer, student.tokenizer)
        return Tokenizers(shared, shared)
    if needed := _need_of_one(task, token_methods):
        why, remedy = needed
        raise InputError(
            f"tokenizers: expected one for both {teacher.name} (teacher) and {student.name} (student), as {why}, got "
            f"two that differ: {problem}; {remedy}choose a student with the teacher's vocabulary"
        )
    return Tokenizers(teacher.tokenizer, student.tokenizer)


def _need_of_one(task: Task, token_methods: Sequence[str]) -> tuple[str, str] | None:
    """Why both models must read the same tokens, and what would do without; None if they need not."""
    if not task.whole_row_logits:
        return f"task {task.name} compares the predictions for each token", ""
    if task.arguments.streaming:
        return "the rows of a stream are tokenised once", "leave streaming out, or "
    if token_methods:
        remedy = "use only method kd, which compares the predictions for whole rows, or "
        return f"the states of each token are compared ({', '.join(token_methods)})", remedy
    return None


def _shared(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer whose batches serve both models; they are no longer than either allows."""
    chosen = student if "token_type_ids" in student.model_input_names else teacher
    longest = min(teacher.model_max_length, student.model_max_length)
    if chosen.model_max_length != longest:
        chosen = copy.deepcopy(chosen)
        chosen.model_max_length = longest
    return chosen


def _difference(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, task: Task) -> str | None:
    """What makes a batch of one of them wrong for the other's model; None if nothing does."""
    teacher_vocabulary, student_vocabulary = teacher.get_vocab(), student.get_vocab()
    if teacher_vocabulary != student_vocabulary:
        different = sum(student_vocabulary.get(token) != index for token, index in teacher_vocabulary.items())
        return (
            f"the teacher's has {len(teacher_vocabulary):,} entries and the student's {len(student_vocabulary):,}, "
            f"and {different:,} of the teacher's have another id in the student's or are missing from it"
        )
    texts = _probes(teacher)
    for pairs in (None, texts):
        of_teacher, of_student = (
            tokenizer(texts, pairs, verbose=False)["input_ids"] for tokenizer in (teacher, student)
        )
        for text, ids, student_ids in zip(texts, of_teacher, of_student, strict=True):
            if ids != student_ids:
                return (
                    f"the text {text!r} gives different tokens (they treat case, accents or special tokens differently)"
                )
    # Classifiers that read the last token find it by the padding after it; masked tokens are hidden from both models.
    for name in ("pad_token",) if task.whole_row_logits else ("mask_token",) if task.vocabulary_logits else ():
        if getattr(teacher, name) != getattr(student, name):
            return f"the teacher's {name} is {getattr(teacher, name)} and the student's {getattr(student, name)}"
    return None


def _probes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Texts that tokenizers of one vocabulary would read differently, if they do at all."""
    tokens = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    sample = tokens[:: -(-len(tokens) // _SAMPLED_TOKENS) or 1]
    return [*_TEXTS, *(tokenizer.decode([token]) for token in sample)]


# --- logits over the vocabulary ---------------------------------------------------------------------------------


def matched_logits(
    configs: Mapping[str, PretrainedConfig], tokenizer: PreTrainedTokenizerBase, task: Task
) -> slice | Tensor | None:
    """Places of the logits that are matched: those of tokens, for a task that predicts tokens; None for all.

    Embedding tables may be larger than the vocabulary: of the sizes that GPUs multiply fastest, and not the same in
    teacher and student. No text ever has the further rows, so their logits mean nothing.

    Args:
        configs: those of both models, by name.

    Raises:
        InputError: a model has no logits for some of the tokens.
    """
    if not task.vocabulary_logits:
        return None
    tokens = sorted(set(tokenizer.get_vocab().values()))
    rows = {name: int(config.get_text_config().vocab_size) for name, config in configs.items()}
    raise_if_any(
        f"model: expected a vocab_size of more than {tokens[-1]:,} in the config of {name}, as the tokenizer has "
        f"a token with that id, got {size:,}; add rows with model.resize_token_embeddings, or remove the added tokens"
        for name, size in rows.items()
        if size <= tokens[-1]
    )
    if tokens[-1] + 1 != len(tokens):
        return torch.tensor(tokens)
    return None if set(rows.values()) == {len(tokens)} else slice(len(tokens))
