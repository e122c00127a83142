"""Whether one tokenizer serves teacher and student."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from .load import LoadedModel


def shared_tokenizer(teacher: LoadedModel, student: LoadedModel) -> PreTrainedTokenizerBase:
    """The tokenizer whose batches serve both models.

    That is the student's, unless only the teacher's makes `token_type_ids`.

    Raises:
        InputError: the vocabularies differ, or the same text gives different tokens: one batch cannot feed both models.
    """
    problem = _tokenizer_difference(teacher.tokenizer, student.tokenizer)
    if problem:
        raise InputError(
            f"tokenizers: expected one for both {teacher.name} (teacher) and {student.name} (student), got two that "
            f"differ: {problem}; choose a student with the teacher's vocabulary"
        )
    if "token_type_ids" in student.tokenizer.model_input_names:
        return student.tokenizer
    return teacher.tokenizer


def _tokenizer_difference(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str | None:
    teacher_vocabulary, student_vocabulary = teacher.get_vocab(), student.get_vocab()
    if teacher_vocabulary != student_vocabulary:
        different = sum(student_vocabulary.get(token) != index for token, index in teacher_vocabulary.items())
        return (
            f"the teacher's has {len(teacher_vocabulary):,} entries and the student's {len(student_vocabulary):,}, "
            f"and {different:,} of the teacher's have another id in the student's or are missing from it"
        )
    for text in ("The Quick brown FOX, naïve café: 3.14!", "a   b\tc", "straße 東京"):
        if teacher(text, text)["input_ids"] != student(text, text)["input_ids"]:
            return f"the text {text!r} gives different tokens (they treat case, accents or special tokens differently)"
    return None
