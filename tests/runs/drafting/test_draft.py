"""Recipes drafted for tiny teachers and files: what is in them, and that a run would take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ted_distill import InputError, draft_recipe, read_recipe
from ted_distill.runs.drafting import Draft, data_name, run_name
from tiny import CLASSES, save_tiny, write_entities, write_questions, write_reviews, write_text


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of four blocks."""
    return save_tiny(tmp_path_factory.mktemp("models") / "big", AutoModel, blocks=4)


def trained(folder: Path, auto_class: Any, **changes: Any) -> Path:
    """A model whose biases are not those of a new one."""
    save_tiny(folder, auto_class, **changes)
    model = auto_class.from_pretrained(folder)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.normal_()
    model.save_pretrained(folder)
    return folder


def content(draft: Draft) -> dict[str, Any]:
    """The keys of the document."""
    found: dict[str, Any] = yaml.safe_load(draft.text)
    return found


def lines(folder: Path, rows: list[dict[str, Any]], name: str = "rows") -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_a_draft_has_every_key_that_matters_each_under_its_reason(big: Path, tmp_path: Path) -> None:
    draft = draft_recipe(big, train_file=str(write_reviews(tmp_path, 48)), file="my.yaml")
    found = content(draft)
    assert found == {
        "task": "sequence_classification", "train_file": str(tmp_path / "reviews.jsonl"), "text_column": "text",
        "label_column": "label", "validation_size": 9, "max_seq_length": 16, "teacher": str(big),
        "student_num_layers": 2, "methods": ["alone", "kd", "lwd", "ted"], "output_dir": "runs/reviews-big",
        "training": {"per_device_train_batch_size": 16, "seed": 42},
        "finetune": {"learning_rate": 0.001, "num_train_epochs": 20},
        "learn_filters": {"learning_rate": 0.001, "num_train_epochs": 20},
        "distill": {"learning_rate": 0.0005, "num_train_epochs": 20, "kl_alpha": 1.0, "mse_alpha": 10.0,
                    "temperature": 2.0},
    }  # fmt: skip
    written = draft.text.splitlines()
    for number, line in enumerate(written):
        if line.strip() and not line.lstrip().startswith("#") and not line.endswith(":"):
            assert written[number - 1].lstrip().startswith("# "), line
    assert all(len(line) <= 120 for line in written)
    assert "ted run my.yaml" in draft.text
    assert "39 rows, 2 classes" in draft.text
    assert "docs/recipes.md" in draft.text
    assert draft.recipe.run.student_num_layers == 2
    assert draft.notes[0].startswith("task: sequence_classification ('label' holds 2 names: bad, good)")


@pytest.mark.parametrize(
    ("write", "auto_class", "family", "task", "has_head"),
    [
        (write_questions, AutoModelForQuestionAnswering, "bert", "question_answering", True),
        (write_entities, AutoModelForTokenClassification, "bert", "token_classification", False),
        (write_text, AutoModelForCausalLM, "gpt2", "causal_lm", True),
        (write_text, AutoModelForMaskedLM, "bert", "masked_lm", True),
    ],
)
def test_every_kind_of_task_has_a_draft(
    write: Any, auto_class: Any, family: str, task: str, has_head: bool, tmp_path: Path
) -> None:
    teacher = trained(tmp_path / "big", auto_class, family=family, blocks=2)
    draft = draft_recipe(teacher, train_file=str(write(tmp_path, 60)))
    found = content(draft)
    assert found["task"] == task
    assert found["validation_size"] == 12
    assert found["max_seq_length"] <= 64
    # Two labels without names cannot be told to be those of the data.
    assert (found.get("finetune_teacher") is False) == has_head
    assert ("finetune" in found) != has_head
    others = " ".join(draft.text.split("# Other keys", 1)[1].replace("#", "").split())
    for key, reads in (("mlm_probability", "masked_lm"), ("n_best_size", "question_answering")):
        assert (key in others) == (task == reads)


def test_the_order_of_the_labels_decides_nothing_and_their_names_whether_a_teacher_is_used_as_it_is(
    tmp_path: Path,
) -> None:
    rows = str(write_reviews(tmp_path, 48))
    tuned = trained(tmp_path / "tuned", AutoModelForSequenceClassification, blocks=2, id2label={0: "good", 1: "bad"},
                    label2id={"good": 0, "bad": 1})  # fmt: skip
    draft = draft_recipe(tuned, train_file=rows)
    assert content(draft)["finetune_teacher"] is False
    assert "teacher: used as it is: it has a trained head for the labels bad, good" in draft.notes[1]
    assert "finetune" not in content(draft)
    other = trained(tmp_path / "other", AutoModelForSequenceClassification, blocks=2, id2label={0: "x", 1: "y"})
    assert (
        "fine-tuned first: its labels are x, y, those of the data bad, good"
        in draft_recipe(other, train_file=rows).notes[1]
    )
    new = save_tiny(tmp_path / "new", AutoModelForSequenceClassification, blocks=2, id2label={0: "good", 1: "bad"})
    assert "its head was never trained" in draft_recipe(new, train_file=rows).notes[1]


def test_lines_of_fasttext_are_not_taken_for_text_alone(big: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("".join(f"__label__{'ab'[row % 2]} the film number {row}\n" for row in range(40)))
    with pytest.raises(InputError, match=r"train_file: expected running text, got lines .*fastText.*task=masked_lm"):
        draft_recipe(big, train_file=str(file))
    assert content(draft_recipe(big, train_file=str(file), task="masked_lm"))["task"] == "masked_lm"


@pytest.mark.parametrize("owner", ["teacher", "student"])
def test_rows_are_no_longer_than_either_model_reads_alike_in_every_batch(owner: str, tmp_path: Path) -> None:
    scaled = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    models = {
        name: save_tiny(
            tmp_path / name, AutoModelForSequenceClassification, "llama", **CLASSES,
            **({"rope_parameters": scaled, "max_position_embeddings": 8} if name == owner else {}),
        )
        for name in ("teacher", "student")
    }  # fmt: skip
    file = write_reviews(tmp_path)
    draft = draft_recipe(models["teacher"], student=str(models["student"]), train_file=str(file))
    assert content(draft)["max_seq_length"] == 8


@pytest.mark.parametrize("given", [{}, {"task": "token_classification"}])
@pytest.mark.parametrize("columns", [2, 3])
def test_words_with_tags_and_tabs_between_them_are_drafted_whatever_the_name_of_the_file(
    big: Path, tmp_path: Path, given: dict[str, str], columns: int
) -> None:
    words = [("Ada", "NNP", "B-PER"), ("wrote", "VBD", "O"), ("book", "NN", "O")]
    sentence = "".join("\t".join(word[:1] + word[3 - columns + 1 :]) + "\n" for word in words) + "\n"
    drafts = []
    for name in ("rows.tsv", "rows.txt"):
        file = tmp_path / name
        file.write_text(sentence * 40)
        drafts.append(content(draft_recipe(big, train_file=str(file), **given)))
    assert drafts[0]["task"] == "token_classification"
    assert {**drafts[0], "train_file": ""} == {**drafts[1], "train_file": ""}


def test_labels_without_names_are_numbers_or_unknown(tmp_path: Path) -> None:
    tuned = trained(tmp_path / "tuned", AutoModelForSequenceClassification, blocks=2)
    numbers = lines(tmp_path, [{"text": f"the film {row}", "label": row % 2} for row in range(40)], "numbers")
    assert content(draft_recipe(tuned, train_file=numbers))["finetune_teacher"] is False
    draft = draft_recipe(tuned, train_file=str(write_reviews(tmp_path, 40)))
    assert "its 2 labels have no names" in draft.notes[1]


def test_what_is_given_wins_and_ours_does_not_hide_it(big: Path, tmp_path: Path) -> None:
    rows = str(write_reviews(tmp_path, 48))
    draft = draft_recipe(
        big, train_file=rows, validation_file=str(write_reviews(tmp_path, 12, "more")), max_seq_length=24,
        student_layers=[1, 4], methods=["kd"], output_dir="runs/x", max_train_samples=30,
        config_overrides="hidden_act=relu", training={"learning_rate": 1e-4, "max_steps": 2}, kd={"kl_alpha": 3},
        finetune_teacher={"num_train_epochs": 1}, start_from="finetuned",
    )  # fmt: skip
    found = content(draft)
    assert "validation_size" not in found
    assert found["student_layers"] == [1, 4]
    assert "student_num_layers" not in found
    assert found["methods"] == ["alone", "kd"]
    assert (found["max_seq_length"], found["max_train_samples"], found["output_dir"]) == (24, 30, "runs/x")
    assert found["training"] == {"per_device_train_batch_size": 16, "seed": 42, "learning_rate": 1e-4, "max_steps": 2}
    assert "learning_rate" not in found["distill"]
    assert "num_train_epochs" not in found["distill"]
    assert "learn_filters" not in found
    assert found["kd"] == {"kl_alpha": 3}
    assert draft.recipe.task.max_train_samples == 30


@pytest.mark.parametrize(
    ("keys", "problems"),
    [
        ({"trainfile": "x"}, ["recipe: unknown key trainfile; did you mean train_file?"]),
        ({"student_size": 2, "max_seq_length": "x"},
         ["student_size: expected a share of the teacher's above 0 and below 1, such as 0.5 for half of it, got 2",
          "recipe: max_seq_length: expected a whole number, got 'x'"]),
        ({"student_size": 0.5, "student_latency": 0.5},
         ["student_size: expected this or student_latency, got both; leave out one of them"]),
        ({"student_size": 0.5, "student_layers": [1]},
         ["student_size: expected this or student_layers, got both; leave out one of them"]),
        ({"from_scratch": {"model_type": "bert"}},
         ["from_scratch: expected a teacher to look at, got one to be made; write that recipe by hand"]),
        ({}, ["train_file: expected a file to train on, got none; give --train_file FILE (csv, tsv, json, jsonl, "
              "parquet, conll or txt), or --dataset_name NAME"]),
    ],
)  # fmt: skip
def test_wrong_keys_are_refused_before_anything_is_read(big: Path, keys: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(InputError) as error:
        draft_recipe(big, **keys)
    assert error.value.problems == problems


def test_data_that_no_recipe_can_be_made_of_are_refused(big: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"empty.csv: expected at least one row, got none"):
        draft_recipe(big, train_file=str(tmp_path / "empty.csv"))
    one = lines(tmp_path, [{"text": "the film", "label": "a"}], "one")
    with pytest.raises(InputError, match="train_file: expected at least 2 rows, one to learn from and one to score on"):
        draft_recipe(big, train_file=one)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=r"expected a folder with a config.json, got .*, which holds nothing"):
        draft_recipe(tmp_path / "nothing", train_file=one)
    single = save_tiny(tmp_path / "single", AutoModel, blocks=1)
    with pytest.raises(InputError, match="student: expected a teacher with several blocks"):
        draft_recipe(single, train_file=str(write_reviews(tmp_path, 40)))


def test_a_few_rows_make_a_recipe_with_a_doubt(big: Path, tmp_path: Path) -> None:
    rows = [{"text": f"the film {row}", "label": "ab"[row % 2]} for row in range(3)]
    draft = draft_recipe(big, train_file=lines(tmp_path, rows))
    assert content(draft)["validation_size"] == 1
    assert (
        draft.notes[-1] == "doubtful: 3 rows are too few to learn from, or to tell a better model from a worse one by"
    )


def test_a_text_column_that_is_left_out_is_named(big: Path, tmp_path: Path) -> None:
    rows = [{"subject": f"a song {row}", "body": f"the film {row} was", "label": "ab"[row % 2]} for row in range(60)]
    assert "not read: column subject" in draft_recipe(big, train_file=lines(tmp_path, rows)).notes


@pytest.mark.parametrize("scored", [True, False])
def test_a_data_set_of_the_hub_is_looked_at_like_a_file(
    scored: bool, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Dataset.from_dict({"sentence": [f"the film {n} was" for n in range(60)], "label": [0, 1] * 30})
    splits = {"train": rows, "test": rows, **({"validation": rows} if scored else {})}
    monkeypatch.setattr("datasets.load_dataset", lambda name, config, **_: DatasetDict(splits))
    found = content(draft_recipe(big, dataset_name="owner/films"))
    assert (found["task"], found["text_column"]) == ("sequence_classification", "sentence")
    assert ("validation_size" in found) != scored
    assert found["output_dir"] == "runs/films-big"
    if scored:
        named = content(draft_recipe(big, task="sst2"))
        assert (named["task"], named["output_dir"]) == ("sst2", "runs/sst2-big")
        assert "text_column" not in named


def test_a_stream_gets_a_number_of_updates(tmp_path: Path) -> None:
    teacher = trained(tmp_path / "big", AutoModelForCausalLM, family="gpt2", blocks=2)
    found = content(draft_recipe(teacher, train_file=str(write_text(tmp_path, 2000)), streaming=True))
    assert found["streaming"] is True
    assert found["training"]["max_steps"] == 1000
    assert found["validation_size"] == 400
    assert "num_train_epochs" not in found["distill"]


def test_odd_names_and_values_are_read_back_as_they_are(big: Path, tmp_path: Path) -> None:
    rows = [{"text: # no\ncomment": f"the film {row} was", "yes": "ab"[row % 2]} for row in range(60)]
    folder = tmp_path / "a b: #c"
    folder.mkdir()
    draft = draft_recipe(big, train_file=lines(folder, rows, "010"), test_file=lines(folder, rows[:8], "2020-01-01"))
    assert draft.recipe.task.text_column == "text: # no\ncomment"
    assert draft.recipe.task.label_column == "yes"
    assert draft.recipe.task.train_file == str(folder / "010.jsonl")


def test_a_few_long_rows_are_said_to_cost_time(big: Path, tmp_path: Path) -> None:
    file = write_reviews(tmp_path, 60)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[:3]:
        row["text"] = "the film was good " * 30
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = " ".join(draft_recipe(big, train_file=str(file)).text.replace("#", "").split())
    assert "% are longer and cut. 16 would take less time, and holds 95 %." in said


def test_a_file_is_never_written_over_unless_forced(big: Path, tmp_path: Path) -> None:
    draft = draft_recipe(big, train_file=str(write_reviews(tmp_path, 48)))
    file = draft.save(tmp_path / "new" / "my.yaml")
    assert read_recipe(file).content == draft.recipe.content
    assert [path.name for path in file.parent.iterdir()] == ["my.yaml"]
    file.write_text("mine")
    with pytest.raises(InputError, match=r"got .*my.yaml, which exists already; give another with -o, or --force"):
        draft.save(file)
    assert file.read_text() == "mine"
    draft.save(file, force=True)
    assert file.read_text() == draft.text
    with pytest.raises(InputError, match="which is a folder"):
        draft.save(tmp_path, force=True)


@pytest.mark.parametrize(
    ("file", "name"),
    [("tickets.csv", "tickets"), ("stsb/train.parquet", "stsb"), ("x/y z.jsonl.gz", "y-z"), ("/train.csv", "train")],
)
def test_runs_are_named_after_data_and_teacher(file: str, name: str) -> None:
    assert data_name({"train_file": file}) == name
    assert run_name({"train_file": file, "teacher": "owner/BERT base"}) == f"{name}-BERT-base"
    assert data_name({"task": "sst2"}) == "sst2"


@pytest.mark.parametrize("name", ["label", "price"])
@pytest.mark.parametrize("repeated", [False, True])
def test_whole_numbers_that_hardly_occur_twice_are_scores(name: str, repeated: bool, big: Path, tmp_path: Path) -> None:
    numbers = [57_427 + 8_713 * row % 40_009 for row in range(60)]
    numbers[-1] = numbers[0] if repeated else numbers[-1]
    rows = lines(tmp_path, [{"text": f"the film {row} was long", name: number} for row, number in enumerate(numbers)])
    given = {} if repeated else {"label_column": name}
    assert content(draft_recipe(big, train_file=rows, **given))["task"] == "regression"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "section"),
    [
        ({"per_device_train_batch_size": 4}, "training"),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, "distill"),
    ],
)
def test_epochs_are_counted_in_the_updates_of_the_batches_that_are_given(
    given: dict[str, int], section: str, big: Path, tmp_path: Path
) -> None:
    rows, more = str(write_reviews(tmp_path, 160)), str(write_reviews(tmp_path, 12, "more"))
    assert content(draft_recipe(big, train_file=rows, validation_file=more))["distill"]["num_train_epochs"] == 20
    draft = draft_recipe(big, train_file=rows, validation_file=more, **{section: given})  # type: ignore[arg-type]
    assert content(draft)["distill"]["num_train_epochs"] == 5, "40 updates each"


@pytest.mark.parametrize("numbers", [["4,6", "3,2", "1,39"], ["12.5%", "3 %", "100%"]])
def test_numbers_as_people_write_them_are_neither_label_sets_nor_classes(
    numbers: list[str], big: Path, tmp_path: Path
) -> None:
    rows = lines(tmp_path, [{"text": f"the film {row} was", "score": numbers[row % 3]} for row in range(60)])
    with pytest.raises(InputError, match=r"expected names, or numbers such as 4.6, in column 'score', got .* a point"):
        draft_recipe(big, train_file=rows)


def test_a_file_whose_rows_are_of_several_splits_is_refused(big: Path, tmp_path: Path) -> None:
    """Its test rows would be trained on."""
    rows = [json.loads(line) for line in write_reviews(tmp_path, 40).read_text().splitlines()]
    splits = ["Train", "train", "test", "Train"]
    (tmp_path / "all.jsonl").write_text(
        "".join(json.dumps({**row, "split": splits[number % 4]}) + "\n" for number, row in enumerate(rows))
    )
    with pytest.raises(InputError, match="got a column 'split' with test, train; write the rows of each into a file"):
        draft_recipe(big, train_file=tmp_path / "all.jsonl")


def test_a_wrong_column_is_said_once_and_with_the_nearest(big: Path, tmp_path: Path) -> None:
    """Rows to score on are held out of the same file."""
    with pytest.raises(InputError) as refused:
        draft_recipe(big, train_file=write_reviews(tmp_path, 40), label_column="labels")
    (problem,) = refused.value.problems
    assert problem.startswith("train: expected a column 'labels', got columns ")
    assert "; did you mean label? Otherwise name it with" in problem
