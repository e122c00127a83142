"""The nine tasks of GLUE: their columns, official label names in the official order, and scores."""

from __future__ import annotations

from dataclasses import dataclass, field

GLUE_HUB_NAME = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueTask:
    """What is fixed of one GLUE task. Without `label_names` its labels are scores, and the task is a regression."""

    name: str
    """Also the name of its configuration on the Hub."""
    description: str
    text: str
    text_pair: str | None = None
    label_names: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    """Names in `scores.SCORES`; the first decides which checkpoint is best."""
    validation_splits: dict[str, str] = field(default_factory=lambda: {"validation": "validation"})
    """Our split name -> the Hub's."""


_GLUE_TASKS = (
    GlueTask(
        "cola",
        "CoLA: is a sentence acceptable English?",
        "sentence",
        label_names=("unacceptable", "acceptable"),
        metrics=("matthews_correlation", "accuracy"),
    ),
    GlueTask(
        "sst2", "SST-2: is a sentence from a film review positive?", "sentence", label_names=("negative", "positive")
    ),
    GlueTask(
        "mrpc",
        "MRPC: do two sentences from the news mean the same?",
        "sentence1",
        "sentence2",
        ("not_equivalent", "equivalent"),
        ("f1", "accuracy"),
    ),
    GlueTask(
        "qqp",
        "QQP: do two questions ask the same thing?",
        "question1",
        "question2",
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
    ),
    GlueTask(
        "stsb",
        "STS-B: how similar are two sentences, from 0 to 5?",
        "sentence1",
        "sentence2",
        metrics=("spearmanr", "pearson"),
    ),
    GlueTask(
        "mnli",
        "MNLI: does a premise entail a hypothesis, contradict it or neither?",
        "premise",
        "hypothesis",
        ("entailment", "neutral", "contradiction"),
        validation_splits={
            "validation": "validation_matched",
            "validation_mismatched": "validation_mismatched",
        },
    ),
    GlueTask(
        "qnli", "QNLI: does a sentence answer a question?", "question", "sentence", ("entailment", "not_entailment")
    ),
    GlueTask(
        "rte", "RTE: does a text entail a hypothesis?", "sentence1", "sentence2", ("entailment", "not_entailment")
    ),
    GlueTask(
        "wnli",
        "WNLI: does a text entail the reading of one of its pronouns?",
        "sentence1",
        "sentence2",
        ("not_entailment", "entailment"),
    ),
)

GLUE: dict[str, GlueTask] = {task.name: task for task in _GLUE_TASKS}
"""Task name -> the task."""
