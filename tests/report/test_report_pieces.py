"""The parts of a report that need no model: curves, differences, the reading of a comparison, what is escaped."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import f1_score

from ted_distill import InputError
from ted_distill.report import costs, plots, words
from ted_distill.report.bench import verdict as bench_verdict
from ted_distill.report.by_class import class_scores
from ted_distill.report.comparison import read_comparison
from ted_distill.report.curves import curves, read_history
from ted_distill.report.differences import differences
from ted_distill.report.disagreements import disagreements_csv
from ted_distill.report.filter_heads import read_filter_heads
from ted_distill.report.markdown import markdown
from ted_distill.report.page import page
from ted_distill.report.standings import Standing
from ted_distill.report.verdict import verdicts
from ted_distill.runs.kept_predictions import Predictions
from ted_distill.tasks import TaskArguments, load_task
from ted_distill.tasks.squad.question_answering import SpanPredictions

EVIL = "<script>alert('1')</script> & \"q\" | * _x_ `c`"

# --- verdicts -----------------------------------------------------------------------------------------------------


def test_the_best_student_is_the_runs_own_and_its_equals_are_named() -> None:
    found = [
        Standing("teacher", "teacher", "teacher", 97.5),
        Standing("alone", "student alone", "method", 97.5),
        Standing("kd", "KD", "method", 96.0),
        Standing("ted", "TED", "method", 97.5, best=True),
    ]
    said = verdicts(SimpleNamespace(comparison=None, lower_is_better=False), found, {})  # type: ignore[arg-type]
    assert said[0] == (
        "TED and the student trained on the labels alone have the best score of the students trained here: 97.50, the "
        "teacher's score (97.50)."
    )
    assert not any("same score" in line for line in said)
    assert any(line.endswith("here a teacher shows no gain.") for line in said)


def test_an_interval_without_a_width_is_not_shown() -> None:
    """All rows are right: so is every draw of them."""
    assert words.interval((100.0, 100.0)) == words.interval(None) == ""
    found = [
        Standing("teacher", "teacher", "teacher", 100.0, interval=(100.0, 100.0)),
        Standing("ted", "TED", "method", 100.0, best=True, interval=(100.0, 100.0)),
        Standing("kd", "KD", "method", 90.0, interval=(80.0, 96.0)),
    ]
    said = verdicts(SimpleNamespace(comparison=None, lower_is_better=False), found, {})  # type: ignore[arg-type]
    assert said[0].startswith("TED has the best score of the students trained here: 100.00, the teacher's score")


def test_of_candidates_of_one_shape_the_fastest_is_no_matter_of_noise() -> None:
    def candidate(name: str, parameters: int, speed: float, score: float) -> dict[str, Any]:
        ratios = {"batch_1": speed, "score": score, "cpu": None}
        return {
            "model": name, "format": "int8", "role": "method", "parameters": parameters, "to_teacher": ratios,
        }  # fmt: skip

    rows = [candidate("KD", 5, 9.2, 0.98), candidate("TED", 5, 8.0, 0.99), candidate("big", 9, 8.8, 1.0)]
    said = bench_verdict({"candidates": rows, "sample": {"unit": "row"}})
    assert "the fastest one row at a time is big in ONNX int8: 8.80 times" in said
    said = bench_verdict({"candidates": rows[:2], "sample": {"unit": "row"}})
    assert (
        "is TED in ONNX int8: 8.60 times the teacher's throughput in PyTorch float32 (the median of 2 students" in said
    )


def test_methods_that_score_more_on_the_rows_shown_than_the_one_that_was_chosen_are_named() -> None:
    """Validation rows chose the student on labels alone; test rows are shown."""
    found = [
        Standing("teacher", "teacher", "teacher", 90.0),
        Standing("alone", "student alone", "method", 82.0, best=True, chosen_elsewhere=True),
        Standing("kd", "KD", "method", 86.0),
        Standing("ted", "TED", "method", 81.0),
    ]
    said = verdicts(SimpleNamespace(comparison=None, lower_is_better=False), found, {})  # type: ignore[arg-type]
    assert "On these rows KD has 86.00." in said
    assert not any("No method scores better" in line for line in said)


# --- curves -------------------------------------------------------------------------------------------------------


def test_curves_are_sorted_into_terms_pairs_and_scores(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "loss": 2.0, "pred_loss": 1.0, "layer_loss": 1.0, "layer_loss/teacher_4_student_2": 0.5},
        {"step": 2, "eval_accuracy": 80.0, "eval_loss": 3.0, "eval_accuracy_block_2": 50.0},
        {"step": 2, "train_loss": 1.5, "train_runtime": 3.0, "seconds": 1, "loss": float("nan")},
    ]
    file = tmp_path / "history.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n[1]\n" + '{"step": 3, "lo')
    found = curves(read_history(file), "accuracy")
    assert found == {
        "losses": {"loss": [(1, 2.0)], "pred_loss": [(1, 1.0)], "layer_loss": [(1, 1.0)]},
        "pairs": {"4 \N{RIGHTWARDS ARROW} 2": [(1, 0.5)]},
        "scores": {"accuracy": [(2, 80.0)]},
    }
    assert read_history(tmp_path / "none.jsonl") == []


def test_long_curves_are_thinned_to_means_and_keep_their_last_point() -> None:
    history = [{"step": step, "loss": float(step)} for step in range(1, 10_001)]
    curve = curves(history, "accuracy")["losses"]["loss"]
    assert len(curve) <= 102
    assert curve[-1] == (10_000, 10_000.0)
    first = curve[0][0]
    assert curve[0][1] == pytest.approx((1 + first) / 2)


def test_filter_heads_of_an_older_or_damaged_file_are_left_out(tmp_path: Path) -> None:
    assert read_filter_heads(tmp_path, "teacher") is None
    blocks = {"10": {"f1": 3.0}, "2": {"f1": 1.0}, "3": {}, "model": {"f1": 9.0}}
    (tmp_path / "block_scores.json").write_text(json.dumps({"metric": "f1", "blocks": blocks}))
    found = read_filter_heads(tmp_path, "teacher")
    assert found is not None
    assert list(found.blocks.items()) == [(2, 1.0), (10, 3.0)]
    assert found.whole_model == 9.0
    (tmp_path / "block_scores.json").write_text('{"metric": "f1", "blo')
    assert read_filter_heads(tmp_path, "teacher") is None


# --- differences --------------------------------------------------------------------------------------------------


def made(values: Any, confidences: list[float] | None = None) -> Predictions:
    sure = None if confidences is None else np.array(confidences, dtype=np.float32)
    return Predictions("validation", values, {}, None, sure)


def task_of(name: str, names: list[str] | None = None) -> Any:
    task = load_task(TaskArguments(name, train_file="none.jsonl"))
    if names:
        task._label_names = names  # type: ignore[attr-defined]
    return task


def test_rows_of_which_the_student_is_surest_come_first() -> None:
    rows = Dataset.from_dict({"text": list("abcd"), "label": [0, 1, 1, 0]})
    student = made(np.array([1, 1, 0, 2]), [0.6, 0.9, 0.8, 0.8])
    teacher = made(np.array([0, 1, 1, 1]), [0.5, 0.9, 0.7, 0.4])
    found = differences(task_of("sequence_classification", ["no", "yes", "so"]), student, teacher, rows)
    assert found is not None
    said = [(one.row, one.label, one.teacher, one.student, one.right) for one in found]
    assert said == [
        (3, "yes", "yes", "no", "teacher"),
        (4, "no", "yes", "so", "neither"),
        (1, "no", "no", "yes", "teacher"),
    ]
    assert found[0].teacher_confidence == pytest.approx(0.7)
    assert found[0].student_confidence == pytest.approx(0.8)


def test_label_sets_differ_as_wholes() -> None:
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [[1.0, 0.0], [0.0, 0.0]]})
    student, teacher = made(np.array([[1, 0], [1, 1]]), [0.5, 0.5]), made(np.array([[1, 0], [0, 0]]), [0.5, 0.5])
    found = differences(task_of("multi_label_classification", ["x", "y"]), student, teacher, rows)
    assert found is not None
    assert [(one.row, one.label, one.teacher, one.student, one.right) for one in found] == [
        (2, "none", "none", "x, y", "teacher")
    ]


def test_numbers_that_are_far_apart_come_first() -> None:
    rows = Dataset.from_dict({"text": list("abc"), "text_pair": list("def"), "label": [1.0, 2.0, 3.0]})
    found = differences(task_of("regression"), made(np.array([1.0, 2.5, 1.0])), made(np.array([1.0, 2.0, 3.5])), rows)
    assert found is not None
    assert [one.row for one in found] == [3, 2]
    assert found[0].texts == {"text": "c", "text_pair": "f", "difference": "-2.500"}
    assert [one.right for one in found] == ["teacher", "teacher"]
    assert found[0].student_confidence is None


@pytest.mark.parametrize(
    ("task", "labels", "predicted", "gold"),
    [
        ("sequence_classification", [0, 1, 2, 1], [0, 2, 2, 1], [0, 1, 2, 1]),
        ("multi_label_classification", [[1.0, 0, 0], [1.0, 1.0, 0]], [[1, 1, 0], [0, 1, 1]], [[1, 0, 0], [1, 1, 0]]),
    ],
)
def test_the_f1_of_a_class_is_that_of_scikit_learn(task: str, labels: Any, predicted: Any, gold: Any) -> None:
    found = class_scores(task_of(task, ["a", "b", "c"]), predicted, Dataset.from_dict({"label": labels}))
    assert found is not None
    wanted = 100 * f1_score(gold, predicted, average=None, zero_division=0)
    assert [f1 for _, f1 in found.values()] == pytest.approx(wanted)


def test_kinds_of_entities_are_scored_as_wholes() -> None:
    rows = Dataset.from_dict({"tokens": [["a", "b", "c"]], "tags": [[1, 2, 3]]})
    task = task_of("token_classification", ["O", "B-x", "I-x", "B-y"])
    assert class_scores(task, [["B-x", "O", "B-y"]], rows) == {"x": (1, 0.0), "y": (1, 100.0)}
    assert class_scores(task_of("regression"), [1.0], Dataset.from_dict({"label": [1.0]})) is None


def test_words_are_shown_in_their_sentence_with_their_own_confidence() -> None:
    rows = Dataset.from_dict({"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]]})
    student, teacher = made([["O", "O"], ["B-x"]], [0.1, 0.2, 0.3]), made([["O", "B-x"], ["O"]], [0.4, 0.5, 0.6])
    found = differences(task_of("token_classification", ["O", "B-x"]), student, teacher, rows)
    assert found is not None
    assert [(one.row, one.texts["word"], one.texts["sentence"]) for one in found] == [(2, "c", "c"), (1, "b", "a b")]
    assert [round(one.teacher_confidence or 0, 1) for one in found] == [0.6, 0.5]
    assert [one.right for one in found] == ["student", "teacher"]


def test_answers_that_are_the_same_but_for_an_article_do_not_differ() -> None:
    gold = [{"text": ["Ada"], "answer_start": [0]}, {"text": [], "answer_start": []}]
    rows = Dataset.from_dict({"id": ["p", "q"], "question": ["?", "??"], "context": ["Ada", "Bo"], "answers": gold})
    student = made(SpanPredictions({"q": "Bo", "p": "the Ada"}), [0.9, 0.1])
    teacher = made(SpanPredictions({"p": "Ada", "q": ""}), [0.8, 0.7])
    found = differences(task_of("squad_v2"), student, teacher, rows)
    assert found is not None
    assert [(one.texts["id"], one.label, one.teacher, one.student, one.right) for one in found] == [
        ("q", "no answer", "no answer", "Bo", "teacher")
    ]
    assert found[0].student_confidence == pytest.approx(0.9)
    assert found[0].teacher_confidence == pytest.approx(0.7)


def test_language_models_have_no_rows_that_differ() -> None:
    assert differences(task_of("causal_lm"), made([]), made([]), Dataset.from_dict({"text": []})) is None


def test_the_csv_holds_every_text_as_it_is() -> None:
    rows = Dataset.from_dict({"text": [f'{EVIL}\n"second", line', "b"], "label": [0, 0]})
    task = task_of("sequence_classification", ["no", "yes"])
    found = differences(task, made(np.array([1, 1]), [0.5, 0.25]), made(np.array([0, 0]), [1.0, 0.5]), rows)
    read = list(csv.DictReader(io.StringIO(disagreements_csv({"ted": found or []}))))
    assert [line["text"] for line in read] == rows["text"][:]
    assert read[0] | {"text": ""} == {
        "model": "ted", "row": "1", "text": "", "label": "no", "teacher": "no", "teacher_confidence": "1.0000",
        "student": "yes", "student_confidence": "0.5000", "right": "teacher",
    }  # fmt: skip


# --- a comparison's file --------------------------------------------------------------------------------------------


def test_a_comparison_is_read_without_what_is_missing_or_odd(tmp_path: Path) -> None:
    assert read_comparison(tmp_path) is None
    content: dict[str, Any] = {
        "metric": "f1",
        "methods": ["kd", "ted"],
        "scores": {"teacher": {"f1": 90, "note": "x"}, "kd": [{"f1": 80.0}, {"f1": None}], "ted": [{"f1": 82}]},
        "intervals": {"kd": [79, 81], "ted": None},
        "gap_closed": {"kd": None, "ted": 0.5},
        "comparisons": [{"better": "ted", "worse": "kd"}, "odd"],
        "seconds": {"kd": [10, 20], "ted": [30, None]},
    }
    (tmp_path / "compare.json").write_text(json.dumps(content))
    found = read_comparison(tmp_path)
    assert found is not None
    assert found.scores == {"kd": [{"f1": 80.0}, {}], "ted": [{"f1": 82.0}]}
    assert found.single == {"teacher": {"f1": 90.0}}
    assert (found.intervals, found.gap_closed) == ({"kd": (79, 81)}, {"ted": 0.5})
    assert (found.seeds, found.verdicts, found.lower_is_better, found.split) == ([], [], False, "validation")
    assert found.comparisons == [{"better": "ted", "worse": "kd"}]
    assert found.seconds == {"kd": 15}


@pytest.mark.parametrize("text", ["", "[]", '{"metric": "f1"}', '{"metric": "f1", "methods": ["kd"], "scores": {}}'])
def test_a_comparison_that_says_nothing_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(InputError, match="expected a metric, methods and the scores of each"):
        read_comparison(tmp_path)


# --- what is written --------------------------------------------------------------------------------------------------


def content(**changes: Any) -> dict[str, Any]:
    """A report in which every text is as odd as it may be."""
    model = {
        "name": "ted", "title": EVIL, "role": "method", "score": 81.234, "interval": [80.0, 82.5], "deviation": None,
        "of_seeds": [], "gap_closed": 0.5, "others": {"f1_macro": 70.0}, "seconds": 3.0, "note": "",
    }  # fmt: skip
    teacher = model | {"name": "teacher", "title": "teacher", "role": "teacher", "gap_closed": None}
    sizes = {"blocks": 2, "parameters": 2_000_000, "embedding_parameters": 10, "bytes": 1234, "rows_per_second": 99.5}
    row = {
        "row": 1, "texts": {"text": EVIL}, "label": EVIL, "teacher": EVIL, "student": "b", "right": "teacher",
        "teacher_confidence": 0.5, "student_confidence": 1.0,
    }  # fmt: skip
    speed = {
        "rows": 8, "unit": "row", "passes": 5, "batch_size": 8, "precision": "no", "device": "cpu", "threads": 1,
    }  # fmt: skip
    found = {
        "title": EVIL,
        "kind": "run",
        "sentence": EVIL,
        "verdicts": [EVIL],
        "scores": {
            "metric": "accuracy", "lower_is_better": False, "rows": "the validation rows", "interval": "95 %",
            "seeds": [], "models": [teacher, model], "chosen": {"TED": EVIL},
        },
        "by_class": {
            "unit": "rows", "classes": [{"name": EVIL, "rows": 3}], "model": EVIL,
            "models": [{"name": "ted", "title": EVIL, "f1": {EVIL: 50.0}}],
            "mistakes": [{"label": EVIL, "predicted": "b", "student": 2, "teacher": None}],
        },
        "comparisons": [],
        "costs": {"models": {"teacher": sizes, "ted": sizes}, "speed": speed},
        "bench": None,
        "filter_heads": {
            "metric": "accuracy", "uninformed": 50.0,
            "models": [{"owner": "teacher", "blocks": {"1": 50.0, "12": 80.0}, "whole_model": 81.0}],
        },
        "curves": {
            EVIL: {
                "name": "ted", "losses": {"loss": [[1, 2.0], [2, 1e-4]]}, "pairs": {"4 > 2": [[1, 1.0], [2, 0.5]]},
                "scores": {"accuracy": [[2, 80.0]]},
            }
        },
        "agreement": [{"name": "ted", "title": EVIL, "scores": {"agreement": 90.0}}],
        "disagreements": {"model": EVIL, "count": 1, "right": {"teacher": 1}, "counted": {"ted": 1}, "shown": [row]},
        "facts": {
            "recipe": EVIL, "commands": [EVIL], "versions": {"torch": "2"}, "date": "2026-01-01",
            "hardware": {"processor": EVIL, "cores": 2, "memory_gib": 3.0, "gpu": None, "system": "Linux"},
        },
        "missing": [EVIL],
    }  # fmt: skip
    return found | changes


def test_nothing_of_the_data_becomes_part_of_the_page() -> None:
    text = page(content())
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("alert(") >= 10
    # Whatever is in the data, what the page consists of is well formed.
    body = text[text.index("<main>") : text.index("</main>") + 7]
    root = ElementTree.fromstring(body)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    for drawing in root.iter("svg"):
        named = {element.get("id"): element.text for element in drawing if element.tag in ("title", "desc")}
        assert list(named) == str(drawing.get("aria-labelledby")).split()
        assert all(named.values())
    used = [element.get("href") for element in root.iter() if element.get("href")]
    assert {str(one).removeprefix("#") for one in used} <= set(ids)


def test_the_markdown_shows_odd_texts_as_they_are() -> None:
    text = markdown(content(facts=content()["facts"] | {"recipe": "a: b\n```\nc", "commands": []}))
    outside = text.partition("Recipe:")[0]
    assert "<script" not in outside.replace("\\<script", "")
    tables = [part.splitlines() for part in outside.split("\n\n") if part.startswith("| ")]
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert len(tables) == 7
    assert "````yaml\na: b\n```\nc\n````" in text


def test_a_report_of_little_is_short_and_whole() -> None:
    little = content(
        costs={"models": {}, "speed": None}, filter_heads=None, curves={}, agreement=[], disagreements=None, missing=[]
    )
    little["scores"]["chosen"] = {}
    little["facts"] |= {"hardware": None, "recipe": None, "commands": [], "versions": {}, "date": None}
    for text in (page(little), markdown(little)):
        for absent in ("Size and speed", "Filter heads", "Training", "Agreement", "differ", "missing"):
            assert absent not in text
        assert "81.23" in text
        assert "80.00 to 82.50" in text


def test_a_comparison_has_a_table_of_pairs_and_its_seeds() -> None:
    pair = {
        "better": "ted",
        "worse": "kd",
        "difference": 1.5,
        "interval": [0.5, 2.0],
        "p_holm": 0.0123,
        "told_apart": True,
    }
    compared = content(kind="comparison", comparisons=[pair])
    compared["scores"]["seeds"] = [1, 2]
    compared["scores"]["models"][1] |= {"of_seeds": [81.0, 81.5], "deviation": 0.25, "note": "mse_alpha 10"}
    for text in (page(compared), markdown(compared)):
        for said in ("0.012", "0.50 to 2.00", "yes", "mse_alpha 10", "0.25", "seed 1"):
            assert said in text
    assert "Ticks: single seeds." in page(compared)


def test_long_texts_are_cut() -> None:
    assert words.cut("abcdef", 4) == "abc\N{HORIZONTAL ELLIPSIS}"


def test_plots_are_the_same_bytes_each_time() -> None:
    assert page(content()) == page(content())


@pytest.mark.parametrize(("score", "far"), [(47.0, True), (79.0, False), (99.0, True)])
def test_an_untrained_student_far_away_leaves_room_for_the_others(score: float, far: bool) -> None:
    models = [
        {"title": "teacher", "role": "teacher", "score": 86.0, "interval": None, "of_seeds": []},
        {"title": "student, before training", "role": "start", "score": score, "interval": None, "of_seeds": []},
        {"title": "TED", "role": "method", "score": 85.0, "interval": [82.0, 87.0], "of_seeds": [84.5, 85.5]},
    ]
    assert [plots.is_far(one, models) for one in models] == [False, far, False]
    drawn = plots.scores_plot(models, "accuracy", "95 % interval")
    assert (("◂" in drawn) or ("▸" in drawn)) is far
    assert f"student, before training {score:.2f}" in drawn, "the words that go with the plot name it all the same"
    with_start = content(kind="run")
    with_start["scores"]["models"] = [{**with_start["scores"]["models"][0], **one} for one in models]
    assert ("Arrow: the untrained student, beyond the edge." in page(with_start)) is far


def test_weights_that_lie_in_both_formats_are_counted_once(tmp_path: Path) -> None:
    """Safetensors are what is loaded."""
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"0" * 30)
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"0" * 12)
    (tmp_path / "pytorch_model.bin").write_bytes(b"0" * 50)
    assert costs._bytes(tmp_path) == 42
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert costs._bytes(tmp_path) == 50


@pytest.mark.parametrize("rows", [70, 130, 140, 200, 256])
def test_a_pass_that_is_cut_is_of_as_many_rows_as_it_claims(rows: int) -> None:
    """Long and short ones alike: a model whose time is proportional to the tokens has the speed that it has in all."""
    made = costs._Pass.__new__(costs._Pass)
    lengths = sorted(np.random.default_rng(0).integers(4, 128, rows).tolist(), reverse=True)
    made.device, made.size, made.rows, made.places = torch.device("cpu"), 64, rows, list(range(rows))
    made.collate = lambda places: {"tokens": torch.tensor([lengths[place] for place in places])}
    for share in (0.3, 0.7):
        made.places, made.rows = list(range(rows)), rows
        made.cut(share)
        tokens = sum(int(batch["tokens"].sum()) for batch in made.batches)
        assert made.rows == pytest.approx(sum(len(batch["tokens"]) for batch in made.batches))
        assert made.rows / tokens == pytest.approx(rows / sum(lengths), rel=0.05)


@pytest.mark.parametrize(("alone", "lower", "said"), [(96.0, False, True), (94.0, False, False), (80.0, True, True)])
def test_a_teacher_that_a_student_without_one_beats_is_doubted(alone: float, lower: bool, said: bool) -> None:
    found = [
        Standing("teacher", "teacher", "teacher", 90.0, interval=(85.0, 95.0)),
        Standing("alone", "student alone", "method", alone, best=True),
    ]
    lines = verdicts(SimpleNamespace(comparison=None, lower_is_better=lower), found, {})  # type: ignore[arg-type]
    assert any("the teacher is probably not trained enough" in line for line in lines) is said
