"""The generated data set of the demo: its form, its answers and its splits."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ted_distill.demo import tickets
from ted_distill.demo.dataset import write_dataset


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_dataset(tmp_path_factory.mktemp("data"), num_train=1500, num_validation=300)


def paragraphs(file: Path) -> Iterator[dict[str, Any]]:
    for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
        yield from article["paragraphs"]


def questions(file: Path) -> list[dict[str, Any]]:
    return [qa for paragraph in paragraphs(file) for qa in paragraph["qas"]]


def test_the_same_numbers_write_the_same_bytes(files, tmp_path):
    again = write_dataset(tmp_path, num_train=1500, num_validation=300)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_validation_does_not_depend_on_the_size_of_train(files, tmp_path):
    _, validation_file = write_dataset(tmp_path, num_train=30, num_validation=300)
    assert validation_file.read_bytes() == files[1].read_bytes()


def test_the_splits_have_the_asked_number_of_questions_with_unique_ids(files):
    assert [len(questions(file)) for file in files] == [1500, 300]
    ids = [qa["id"] for file in files for qa in questions(file)]
    assert len(set(ids)) == len(ids)


def test_every_answer_stands_at_its_offset(files):
    for file in files:
        for paragraph in paragraphs(file):
            for qa in paragraph["qas"]:
                for answer in qa["answers"]:
                    assert paragraph["context"][answer["answer_start"] :].startswith(answer["text"])


def test_every_answer_stands_in_one_place_only(files):
    for paragraph in paragraphs(files[0]):
        words = paragraph["context"].replace(".", "").split()
        for qa in paragraph["qas"]:
            for answer in qa["answers"]:
                assert all(words.count(word) == 1 for word in answer["text"].split()), paragraph["context"]


def test_one_question_in_three_has_no_answer(files):
    for file in files:
        without = [qa for qa in questions(file) if qa["is_impossible"]]
        assert len(without) / len(questions(file)) == pytest.approx(1 / 3, abs=0.02)
        assert all(bool(qa["answers"]) != qa["is_impossible"] for qa in questions(file))


def test_a_question_does_not_show_by_its_wording_whether_it_has_an_answer(files):
    starts = [{" ".join(qa["question"].split()[:2]) for qa in questions(files[0]) if qa["is_impossible"] == no}
              for no in (False, True)]  # fmt: skip
    assert starts[0] == starts[1]


def test_no_passage_is_in_both_splits(files):
    train, validation = ({paragraph["context"] for paragraph in paragraphs(file)} for file in files)
    assert not train & validation


def test_tickets_are_not_written_over_files_of_others(tmp_path: Path) -> None:
    tickets.main([str(tmp_path), "--rows", "20"])
    tickets.main([str(tmp_path), "--rows", "20"])
    with pytest.raises(SystemExit, match=r"expected a folder without train\.csv, got another one"):
        tickets.main([str(tmp_path), "--rows", "40"])
    with pytest.raises(SystemExit, match="expected --rows of at least 2, got -3"):
        tickets.main([str(tmp_path / "new"), "--rows", "-3"])
    assert not (tmp_path / "new").exists()
