"""Whether a recipe's models can read the same rows, which is known before anything is trained.

A fine-tuned model keeps its tokenizer, and so does a student that is made of another model's blocks.
"""

from __future__ import annotations

from typing import NamedTuple

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ..models.load import load_reader
from ..models.tokenizers import Tokenizers, choose_tokenizers, matched_logits
from ..stages.methods import token_methods
from ..tasks import Task
from .recipe import Recipe


class Reader(NamedTuple):
    """A model without its weights."""

    name: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase


def read_reader(recipe: Recipe, name: str, task: Task) -> Reader:
    """Config and tokenizer of a folder or Hub id. Raises `InputError` if there is no such model."""
    return Reader(name, *load_reader(name, task, recipe.model))


def run_tokenizers(recipe: Recipe, task: Task, teacher: Reader, student: Reader) -> Tokenizers:
    """The tokenizers that the methods of a run will use.

    Raises:
        InputError: a method needs one tokenizer for both models, or a model has no logits for some tokens.
    """
    tokenizers = choose_tokenizers(teacher, student, task, token_methods(recipe.run.methods))
    matched_logits({teacher.name: teacher.config, student.name: student.config}, tokenizers.student, task)
    return tokenizers
