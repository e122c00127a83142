"""A warning of a student that is larger than its teacher, as after the two were swapped."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from transformers import PreTrainedModel

from ...method.shapes import num_blocks
from ...models.embeddings import embedding_parameters
from ...wording import counted, parameters
from .unknown import Unknown

logger = logging.getLogger(__name__)


def warn_of_swapped(models: Mapping[str, PreTrainedModel | Unknown]) -> None:
    """Warn where the student has more weights than the teacher. Embeddings do not count: vocabularies differ.

    Nor do blocks alone: a thin student may well have more of them.

    Args:
        models: `teacher` and `student`, perhaps without weights.
    """
    teacher, student = models["teacher"], models["student"]
    if isinstance(teacher, Unknown) or isinstance(student, Unknown):
        return
    of_teacher, of_student = _own(teacher), _own(student)
    if of_student > of_teacher:
        logger.warning(
            "student: expected at most the teacher's %s weights besides embeddings, in %s, got %s in %s; "
            "swap teacher and student, unless the larger one is meant to learn",
            *(parameters(of_teacher), counted(num_blocks(teacher.config), "block")),
            *(parameters(of_student), counted(num_blocks(student.config), "block")),
        )


def _own(model: PreTrainedModel) -> int:
    """Weights of a model that are no embeddings."""
    return model.num_parameters() - embedding_parameters(model)
