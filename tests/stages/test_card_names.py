"""What a student's card calls its teacher and its start: by the model that a run began with."""

from __future__ import annotations

from pathlib import Path

from ted_distill.output import write_json, write_sealed
from ted_distill.stages.card_names import student_words, teacher_words


def stage(folder: Path, name: str, model: str) -> str:
    folder.mkdir()
    write_sealed(folder / "settings.json", {"identity": {"stage": name}, "places": {"model": model}})
    return str(folder)


def test_models_of_a_run_are_called_by_the_one_that_it_began_with(tmp_path: Path) -> None:
    stage(tmp_path / "teacher", "finetune", "owner/big")
    filters = stage(tmp_path / "teacher_filters", "learn_filters", "teacher")
    assert teacher_words(filters) == "`owner/big`, fine-tuned"
    assert teacher_words("owner/big") == "`owner/big`"
    made = tmp_path / "student_init"
    made.mkdir()
    write_json(made / "student.json", {"teacher": "teacher", "layers": [2, 4]})
    assert student_words(str(made)) == ("2 blocks of owner/big", "blocks 2, 4 of `owner/big`, fine-tuned")
    write_json(made / "student.json", {"teacher": "owner/big", "layers": [4], "hidden_size": 8})
    assert student_words(str(made)) == ("1 block of owner/big", "block 4 of `owner/big`; narrowed to 8")


def test_folders_that_name_each_other_in_a_circle_end_somewhere(tmp_path: Path) -> None:
    stage(tmp_path / "one", "learn_filters", "other")
    assert teacher_words(stage(tmp_path / "other", "learn_filters", "one")) in ("`one`", "`other`")
