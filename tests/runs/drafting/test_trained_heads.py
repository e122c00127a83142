"""Whether a teacher's head was ever trained is seen from its weights, whatever its family, labels or scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from ted_distill import ModelArguments
from ted_distill.models.heads import in_backbone
from ted_distill.runs.drafting.teacher_facts import look_at_teacher
from tiny import save_tiny

WITHOUT_BIAS = {"gpt2", "llama"}
HEADS = [
    (AutoModelForSequenceClassification, {"num_labels": 1}),
    (AutoModelForSequenceClassification, {"num_labels": 2}),
    (AutoModelForTokenClassification, {"num_labels": 5}),
    (AutoModelForQuestionAnswering, {}),
]


def updated(model: PreTrainedModel, head: bool) -> None:
    """Change the weights as an update does; those of the head only if they are meant too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if head or in_backbone(name, model):
                weight += 1e-3 * torch.randn_like(weight)


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "gpt2", "llama"]
)
@pytest.mark.parametrize(("auto_class", "changes"), HEADS)
def test_a_head_is_trained_new_or_does_not_tell(
    family: str, auto_class: Any, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path / "model", auto_class, family, **changes)
    model = auto_class.from_pretrained(folder)
    tells = any(len(weight.shape) == 1 and not in_backbone(name, model) for name, weight in model.named_parameters())
    assert tells or family in WITHOUT_BIAS

    def is_trained() -> bool | None:
        model.save_pretrained(folder)
        return look_at_teacher(str(folder), ModelArguments()).is_trained(model)

    assert is_trained() is False
    updated(model, head=False)
    assert is_trained() is (False if tells else None)
    updated(model, head=True)
    assert is_trained() is (True if tells else None)


def test_a_head_whose_first_layers_are_those_of_the_pre_trained_model_is_new(tmp_path: Path) -> None:
    """ModernBERT's head for masked words lends its layers to that for classes."""
    folder = save_tiny(tmp_path / "mlm", AutoModelForMaskedLM, "modernbert")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    updated(model, head=True)
    model.save_pretrained(folder)
    fresh = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    fresh.save_pretrained(folder)
    assert look_at_teacher(str(folder), ModelArguments()).is_trained(fresh) is False


def test_a_discriminator_is_no_language_model(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "electra", AutoModelForPreTraining, "electra")
    facts = look_at_teacher(str(folder), ModelArguments())
    assert facts.architecture == "ElectraForPreTraining"
    assert (facts.head, facts.text_task) == (None, None)
    both = look_at_teacher(str(save_tiny(tmp_path / "bert", AutoModelForPreTraining, "bert")), ModelArguments())
    assert both.text_task == "masked_lm"
