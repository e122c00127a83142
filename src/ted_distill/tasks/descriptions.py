"""One line about each task and data set that is known by name, for `ted list`, which needs no torch to print them."""

from __future__ import annotations

from .glue import GLUE

DESCRIPTIONS = {
    "sequence_classification": "One class for each text or pair of texts.",
    "multi_label_classification": "Any number of labels for each text or pair of texts.",
    "regression": "One score for each text or pair of texts.",
    "question_answering": "Find the words of a passage that answer a question, or find that it has no answer.",
    "token_classification": "One tag for each word: names of people and places (NER), parts of speech.",
    "conll2003": "CoNLL-2003: people, organisations, places and other names in news.",
    "wnut_17": "WNUT-17: new and rare names of six kinds in social media.",
    "causal_lm": "Predict the next token of running text.",
    "masked_lm": "Predict the hidden tokens of running text: a share of `mlm_probability`.",
    "last_word": "Predict the last word of each passage, as in LAMBADA.",
    "lambada": "LAMBADA: which word ends a passage?",
    "squad": "SQuAD 1.1: which words of a passage answer a question?",
    "squad_v2": "SQuAD 2.0: the same, but the passage may hold no answer.",
    **{name: glue_task.description for name, glue_task in GLUE.items()},
}
"""Name in `TASKS` -> the line; that of a task is the first of its class's docstring."""
