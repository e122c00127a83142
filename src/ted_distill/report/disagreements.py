"""`disagreements.csv`: all rows for which a student and the teacher differ, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from .differences import Difference

DISAGREEMENTS_NAME = "disagreements.csv"


def disagreements_csv(of_models: Mapping[str, Sequence[Difference]]) -> str:
    """One line per student and row: row number, texts, label, what both predict, how sure each is, and who is right.

    Args:
        of_models: student -> its differences from the teacher, in the order of the lines.
    """
    texts = list(dict.fromkeys(name for found in of_models.values() for one in found for name in one.texts))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["model", "row", *texts, *_PREDICTED])
    for model, found in of_models.items():
        for one in found:
            sure = [_number(value) for value in (one.teacher_confidence, one.student_confidence)]
            cells = [one.texts.get(name, "") for name in texts]
            writer.writerow([model, one.row, *cells, one.label, one.teacher, sure[0], one.student, sure[1], one.right])
    return file.getvalue()


_PREDICTED = ["label", "teacher", "teacher_confidence", "student", "student_confidence", "right"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
