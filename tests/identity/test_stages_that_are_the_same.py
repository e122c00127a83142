"""What goes into a stage, changed alone, is refused by name; where nothing changed but places, the stage is skipped.

Opening a stage says which: it checks everything and writes nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from conftest import set_bfloat16
from small_runs import cut_off_at
from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    StageArguments,
    TaskArguments,
    distill,
    evaluate,
    finetune,
    learn_filters,
    load_task,
)
from ted_distill.identity import changes
from ted_distill.models.load import ModelArguments
from ted_distill.stages.distill import open_distill
from ted_distill.stages.finetune import open_finetune
from ted_distill.stages.learn_filters import open_learn_filters
from ted_distill.stages.lifecycle import OpenStage
from ted_distill.stages.stage_identity import stage_identity
from ted_distill.tasks.task_arguments import SELECT_ROWS
from tiny import CLASSES, save_tiny, write_reviews

TRAINING: dict[str, Any] = {
    "max_steps": 1, "per_device_train_batch_size": 8, "eval_strategy": "no", "save_strategy": "no",
    "report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_steps": 1,
}  # fmt: skip


def review_task(folder: Path, **changes: Any) -> Any:
    files = {"train_file": str(folder / "train.jsonl"), "validation_file": str(folder / "validation.jsonl")}
    return load_task(TaskArguments(**{"task": "sequence_classification", "max_seq_length": 16, **files, **changes}))


def stage_arguments(folder: Path, **changes: Any) -> StageArguments:
    return StageArguments(str(folder), **{**TRAINING, **changes})


def opened(stage: str, folder: Path, **changes: Any) -> OpenStage:
    """A stage of the folder as it was run, with `changes` to arguments of any kind."""
    task_changes = {
        name: changes.pop(name) for name in list(changes) if name in {f.name for f in fields(TaskArguments)}
    }
    task = review_task(Path(changes.pop("data", folder)), **task_changes)
    models = {name: str(changes.pop(name, folder / name)) for name in ("raw", "teacher_filters", "student_filters")}
    model = ModelArguments(**{name: changes.pop(name) for name in ("config_overrides",) if name in changes})
    own_kind = {"learn_filters": LearnFiltersArguments, "ted": DistillArguments, "lwd": DistillArguments}.get(stage)
    own = {f.name: changes.pop(f.name) for f in fields(own_kind or ModelArguments) if f.name in changes}
    args = stage_arguments(Path(changes.pop("output_dir", folder / stage)), **changes)
    if stage == "finetune":
        return open_finetune(models["raw"], task, args, model)
    if stage == "learn_filters":
        return open_learn_filters(models["raw"], task, args, LearnFiltersArguments(**own), model)
    arguments = DistillArguments(**{"method": stage, **own})
    return open_distill(models["teacher_filters"], models["student_filters"], task, args, arguments, model)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which every kind of stage is finished, in float32 whatever the machine."""
    with pytest.MonkeyPatch.context() as patch:
        set_bfloat16(patch, False)
        yield _made(tmp_path_factory.mktemp("made"))


def _made(folder: Path) -> Path:
    write_reviews(folder, 16, "train")
    write_reviews(folder, 8, "validation")
    save_tiny(folder / "raw", AutoModelForSequenceClassification, blocks=4, **CLASSES)
    save_tiny(folder / "small", AutoModelForSequenceClassification, blocks=2, width=8, seed=1, **CLASSES)
    task = review_task(folder)
    for owner, model, interval in (("teacher", "raw", 2), ("student", "small", 1)):
        learn_filters(
            folder / model, task, stage_arguments(folder / f"{owner}_filters"), LearnFiltersArguments(interval, 16)
        )
    opened("finetune", folder).result()
    opened("learn_filters", folder).result()
    opened("ted", folder).result()
    opened("lwd", folder).result()
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy elsewhere, to change."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


# --- what changes ---------------------------------------------------------------------------------------------------


def edit_rows(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / f"{name}.jsonl"
        file.write_text(file.read_text().replace("film", "song", 1))

    return edit


def edit_json(file: str, key: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        content[key] = value
        (folder / file).write_text(json.dumps(content))
        (folder / file).with_name("stage.json").unlink(missing_ok=True)  # else it counts as damaged

    return edit


def edit_weights(file: str, name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / file)
        weights[name] = weights[name] + 0.5
        save_file(weights, folder / file, metadata={"format": "pt"})
        (folder / file).with_name("stage.json").unlink(missing_ok=True)

    return edit


def relearn_filters(folder: Path) -> None:
    """Other filters of the same model in the same folder."""
    shutil.rmtree(folder / "teacher_filters")
    args = stage_arguments(folder / "teacher_filters", seed=7)
    learn_filters(folder / "raw", review_task(folder), args, LearnFiltersArguments(2, 16))


def nothing(folder: Path) -> None:
    """Only arguments differ."""


BACKBONE, HEAD = "bert.encoder.layer.1.output.dense.bias", "classifier.bias"
raw_backbone, raw_head = (edit_weights("raw/model.safetensors", name) for name in (BACKBONE, HEAD))


def raw_config(key: str, value: Any) -> Callable[[Path], None]:
    return edit_json("raw/config.json", key, value)


REFUSED: list[tuple[str, str, Callable[[Path], None], dict[str, Any], str]] = [
    ("finetune", "a word of the training rows", edit_rows("train"), {}, "data train changed"),
    ("finetune", "a word of the validation rows", edit_rows("validation"), {}, "data validation changed"),
    ("finetune", "fewer rows", nothing, {"max_train_samples": 8}, "rows train was 16, now 8"),
    ("finetune", "another sample to score on", nothing, {"max_eval_samples": 4}, "rows validation was 8, now 4"),
    ("finetune", "no validation rows", nothing, {"validation_file": None}, "data validation was other data, now none"),
    ("finetune", "length", nothing, {"max_seq_length": 12}, "task max_seq_length was 16, now 12"),
    ("finetune", "weights of the backbone", raw_backbone, {}, "model backbone changed"),
    ("finetune", "weights of the head", raw_head, {}, "model head changed"),
    ("finetune", "config", raw_config("layer_norm_eps", 1e-3), {}, "config layer_norm_eps was 1e-12"),
    ("finetune", "activation", raw_config("hidden_act", "relu"), {}, "hidden_act was gelu, now relu"),
    ("finetune", "overrides", nothing, {"config_overrides": "hidden_dropout_prob=0"}, "hidden_dropout_prob was 0.1"),
    ("finetune", "order of the labels", raw_config("id2label", {"0": "good", "1": "bad"}), {}, "id2label"),
    ("finetune", "tokenizer", edit_json("raw/tokenizer_config.json", "model_max_length", 32), {}, "tokenizer changed"),
    ("finetune", "learning rate", nothing, {"learning_rate": 2e-4}, "arguments learning_rate was 0.001, now 0.0002"),
    ("finetune", "seed", nothing, {"seed": 1}, "arguments seed was 42, now 1"),
    ("finetune", "batch", nothing, {"per_device_train_batch_size": 4}, "per_device_train_batch_size was 8, now 4"),
    ("finetune", "steps", nothing, {"max_steps": 2}, "max_steps was 1, now 2"),
    ("finetune", "precision", nothing, {"bf16": True}, "bf16 was False, now True"),
    ("learn_filters", "the model", raw_backbone, {}, "model backbone changed"),
    ("learn_filters", "the rows", edit_rows("train"), {}, "data train changed"),
    ("learn_filters", "interval", nothing, {"filter_interval": 2}, r"filters blocks was \[1, 2, 3, 4\], now \[2, 4\]"),
    ("learn_filters", "width", nothing, {"filter_output_dim": 8}, "filters filter_output_dim was 16, now 8"),
    ("learn_filters", "type", nothing, {"frozen_dtype": "bfloat16"}, "frozen_dtype was torch.float32"),
    ("ted", "relearnt filters", relearn_filters, {}, "distill teacher_filters changed"),
    ("ted", "the rows", edit_rows("train"), {}, "data train changed"),
    ("ted", "weight of the layer loss", nothing, {"mse_alpha": 7.0}, "distill mse_alpha was 10.0, now 7.0"),
    ("ted", "layer loss", nothing, {"layer_loss": "cosine"}, "distill layer_loss was normalized_mse, now cosine"),
    ("ted", "pairs", nothing, {"pairs": ["4:2"]}, r"distill pairs was \[\[2, 1\], \[4, 2\]\], now \[\[4, 2\]\]"),
    ("ted", "temperature", nothing, {"temperature": 1.0}, "distill temperature was 2.0, now 1.0"),
    ("ted", "method", nothing, {"method": "lwd"}, "distill method was ted, now lwd"),
    ("lwd", "the teacher", edit_weights("teacher_filters/model.safetensors", HEAD), {}, "teacher head changed"),
    ("lwd", "teacher's config", edit_json("teacher_filters/config.json", "hidden_act", "relu"), {}, "teacher config"),
    ("lwd", "the student", edit_weights("student_filters/model.safetensors", BACKBONE), {}, "student backbone changed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "change", "arguments", "named"),
    [pytest.param(stage, *rest, id=f"{stage}: {what}") for stage, what, *rest in REFUSED],
)
def test_a_stage_with_one_thing_changed_is_refused_by_name(
    copy: Path, stage: str, change: Callable[[Path], None], arguments: dict[str, Any], named: str, float32: None
) -> None:
    before = contents(copy / stage)
    change(copy)
    if arguments.get("validation_file", "") is None:
        arguments = {**arguments, "eval_strategy": "no"}
    with pytest.raises(InputError, match=named) as error:
        opened(stage, copy, **arguments)
    assert "a finished stage that differs" in str(error.value)
    assert contents(copy / stage) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


# --- what does not --------------------------------------------------------------------------------------------------


def move_all(folder: Path) -> dict[str, Any]:
    moved = folder.parent / "moved"
    shutil.move(folder, moved)
    return {"folder": moved}


def rename_data(folder: Path) -> dict[str, Any]:
    (folder / "train.jsonl").rename(folder / "rows.jsonl")
    return {"train_file": str(folder / "rows.jsonl")}


def convert_data(folder: Path) -> dict[str, Any]:
    """The same rows as a csv file with other column names, one of them more."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    lines = ["number,words,kind", *(f"{number},{row['text']},{row['label']}" for number, row in enumerate(rows))]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    same = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    renamed = [json.dumps({"words": row["text"], "kind": row["label"]}) for row in same]
    (folder / "rows.jsonl").write_text("\n".join(renamed) + "\n")
    files = {"train_file": str(folder / "rows.csv"), "validation_file": str(folder / "rows.jsonl")}
    return {**files, "text_column": "words", "label_column": "kind"}


def rename_model(folder: Path) -> dict[str, Any]:
    (folder / "raw").rename(folder / "another name")
    return {"raw": folder / "another name"}


def rename_stage(folder: Path) -> dict[str, Any]:
    (folder / "finetune").rename(folder / "mine")
    return {"output_dir": folder / "mine"}


def without_effect(folder: Path) -> dict[str, Any]:
    quiet = {"logging_steps": 3, "save_total_limit": 5, "per_device_eval_batch_size": 2, "dataloader_num_workers": 1}
    return {**quiet, "report_to": "tensorboard", "run_name": "x", "hub_token": "secret", "preprocessing_num_workers": 1}


def explicit_defaults(folder: Path) -> dict[str, Any]:
    return {"max_train_samples": 16, "max_eval_samples": 1000, "metric_for_best_model": "accuracy"}


def touch_files(folder: Path) -> dict[str, Any]:
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content)
    edit_json("raw/config.json", "transformers_version", "5.0.0")(folder)
    edit_json("raw/config.json", "_name_or_path", "/elsewhere")(folder)
    return {}


@pytest.mark.parametrize(
    "change",
    [move_all, rename_data, convert_data, rename_model, rename_stage, without_effect, explicit_defaults, touch_files],
)
def test_a_stage_is_skipped_where_nothing_changed_but_places(
    copy: Path, change: Callable[[Path], dict[str, Any]], float32: None
) -> None:
    arguments = change(copy)
    stage = opened("finetune", arguments.pop("folder", copy), **arguments)
    assert stage.finished is not None
    assert stage.result() == stage.finished


@pytest.mark.parametrize("stage", ["learn_filters", "ted", "lwd"])
def test_every_stage_is_skipped_in_a_folder_that_was_moved(copy: Path, stage: str, float32: None) -> None:
    folder = move_all(copy)["folder"]
    assert opened(stage, folder).finished is not None


def test_the_same_filters_in_another_folder_are_the_same(copy: Path, float32: None) -> None:
    shutil.copytree(copy / "teacher_filters", copy / "elsewhere")
    assert opened("ted", copy, teacher_filters=str(copy / "elsewhere")).finished is not None


def test_arguments_of_a_task_either_select_rows_or_count() -> None:
    """A new argument must be one or the other: what is not named counts."""
    names = {field.name for field in fields(TaskArguments)}
    assert names >= SELECT_ROWS
    assert {"task", "max_seq_length", "doc_stride", "mlm_probability", "stride"} <= names - SELECT_ROWS


def test_data_of_the_hub_are_known_by_their_rows_whatever_the_revision_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = {"one": "good", "the same again": "good", "mended": "great"}

    def load_dataset(name: str, config: str | None = None, revision: str = "one", **_: Any) -> DatasetDict:
        rows = {"sentence": [f"the film was {published[revision]} .", "the film was bad ."], "label": [1, 0]}
        return DatasetDict(dict.fromkeys(("train", "validation"), Dataset.from_dict(rows)))

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    found = {name: load_task(TaskArguments("sst2", dataset_revision=name)).identity for name in published}
    assert found["one"] == found["the same again"]
    assert changes(found["one"], found["mended"]) == ["data train changed", "data validation changed"]


def test_a_stream_is_another_where_its_file_or_what_is_taken_of_it_is_another(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("the film was good.\n" * 1500)

    def identity(**changed: Any) -> dict[str, Any]:
        arguments = {"train_file": str(file), "streaming": True, "max_train_samples": 1200, **changed}
        return load_task(TaskArguments("causal_lm", **arguments)).identity

    first = identity()
    assert identity() == first
    assert changes(first, identity(max_train_samples=1300)) == ["data train changed"]
    file.write_text(file.read_text() + "one line more\n")
    assert changes(first, identity()) == ["data train changed"]


def test_a_stream_of_a_folder_is_another_where_any_of_its_files_is_wherever_the_folder_is(tmp_path: Path) -> None:
    """Also behind the rows that are looked at when it is opened."""
    rows = [json.dumps({"text": f"the film number {number} was good ."}) for number in range(2500)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(rows))
    (tmp_path / "data" / "validation.jsonl").write_text("\n".join(rows[:5]))

    def identity(folder: str) -> dict[str, Any]:
        return load_task(TaskArguments("causal_lm", dataset_name=str(tmp_path / folder), streaming=True)).identity

    first = identity("data")
    (tmp_path / "data").rename(tmp_path / "moved")
    assert identity("moved") == first
    rows[2000] = rows[2000].replace("good", "bad")
    (tmp_path / "moved" / "train.jsonl").write_text("\n".join(rows))
    assert changes(first, identity("moved")) == ["data train changed"]


# --- interrupted stages ---------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(copy: Path, float32: None) -> Path:
    """A fine-tuning that ended after its first checkpoint."""
    shutil.rmtree(copy / "finetune")
    with cut_off_at(1):
        opened("finetune", copy, max_steps=3, save_strategy="steps").result()
    assert (copy / "finetune" / "checkpoint-1").is_dir()
    return copy


def test_an_interrupted_stage_does_not_go_on_with_other_data(interrupted: Path) -> None:
    edit_rows("train")(interrupted)
    with pytest.raises(InputError, match="an interrupted stage that differs: data train changed"):
        opened("finetune", interrupted, max_steps=3, save_strategy="steps")


def test_an_interrupted_stage_does_not_go_on_with_another_number_of_processes(
    interrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageArguments, "world_size", property(lambda self: 2))
    with pytest.raises(InputError, match="an interrupted stage that differs: processes was 1, now 2"):
        opened("finetune", interrupted, max_steps=3, save_strategy="steps")


def test_an_interrupted_stage_goes_on_with_its_data_under_another_name(interrupted: Path) -> None:
    stage = opened("finetune", interrupted, max_steps=3, save_strategy="steps", **rename_data(interrupted))
    assert stage.finished is None
    assert stage.result()["steps"] == 3


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(copy: Path) -> None:
    mine = copy / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("my notes")
    (mine / "checkpoint-9").mkdir()
    for call in (
        lambda: finetune(copy / "raw", review_task(copy), stage_arguments(mine)),
        lambda: distill(copy / "teacher_filters", copy / "student_filters", review_task(copy), stage_arguments(mine)),
        lambda: evaluate(copy / "raw", review_task(copy), output_dir=mine),
    ):
        with pytest.raises(InputError, match=r"mine, which holds README.md, checkpoint-9; give another output_dir"):
            call()
    assert {entry.name for entry in mine.iterdir()} == {"README.md", "checkpoint-9"}


def test_the_folder_of_the_model_itself_is_refused(copy: Path) -> None:
    for model in ("raw", "finetune"):
        before = contents(copy / model)
        with pytest.raises(InputError, match=rf"expected another folder than that of the model, got .*{model}; give"):
            finetune(copy / model, review_task(copy), stage_arguments(copy / model))
        assert contents(copy / model) == before


def test_a_refused_stage_leaves_no_folder(copy: Path) -> None:
    with pytest.raises(InputError):
        finetune(copy / "nowhere", review_task(copy), stage_arguments(copy / "new" / "deep"))
    assert not (copy / "new").exists()


def test_scores_are_not_written_over_a_finished_stage(copy: Path) -> None:
    before = contents(copy / "finetune")
    with pytest.raises(InputError, match="which holds a stage; give another output_dir"):
        evaluate(copy / "raw", review_task(copy), output_dir=copy / "finetune")
    assert contents(copy / "finetune") == before
    assert evaluate(copy / "raw", review_task(copy), output_dir=copy / "scores")
    assert evaluate(copy / "finetune", review_task(copy), output_dir=copy / "scores")  # its own, written again


def test_a_config_of_deepspeed_is_known_by_what_it_says_and_not_by_its_place(copy: Path) -> None:
    task = review_task(copy)
    args = stage_arguments(copy / "out")

    def identity(name: str, stage: int) -> Any:
        (copy / name).write_text(json.dumps({"zero_optimization": {"stage": stage}}))
        args.deepspeed = str(copy / name)
        return stage_identity("finetune", task, args)

    before = identity("one.json", 1)
    assert not changes(before, identity("moved.json", 1))
    assert changes(before, identity("one.json", 2)) == ["arguments deepspeed changed"]
