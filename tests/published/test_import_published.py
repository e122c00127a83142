from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, PreTrainedModel

from ted_distill.cli.main import main
from ted_distill.errors import InputError
from ted_distill.method.filter_files import load_filters
from ted_distill.method.filters import FilterConfig, Filters
from ted_distill.models.load import load_model
from ted_distill.published.checkpoints import import_published
from ted_distill.tasks import TaskArguments, load_task
from tiny import CLASSES, tiny_config, tiny_tokenizer, write_reviews

GOLDEN = Path(__file__).parents[1] / "data" / "published"
NATIVE = GOLDEN / "native_stage1"


def write_native(
    folder: Path,
    auto_class: Any = AutoModelForSequenceClassification,
    *,
    blocks: int = 2,
    width: int = 16,
    filter_interval: int = 1,
    filter_output_dim: int | None = 16,
    filter_nonlinear: bool = False,
    filters: bool = True,
    safetensors: bool = False,
    seed: int = 0,
    **config: Any,
) -> tuple[PreTrainedModel, Filters]:
    """A checkpoint in the form the published code leaves after Stage II: no filter heads, filters in the blocks."""
    torch.manual_seed(seed)
    model = auto_class.from_config(tiny_config("deberta-v2", blocks, width, pooler_hidden_size=width, **config))
    own = Filters.random(
        FilterConfig.for_model(model.config, filter_interval, filter_output_dim, filter_nonlinear), 0.3
    )
    weights = dict(model.state_dict())
    for name, weight in own.state_dict().items() if filters else ():
        _, number, rest = name.split(".", 2)
        weights[f"deberta.encoder.layer.{own.blocks[int(number)] - 1}.filter.{rest}"] = weight
    folder.mkdir()
    if safetensors:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(weights, folder / "pytorch_model.bin")
    ted = {
        "model_type": "ted-deberta-v2",
        "architectures": [f"TED{type(model).__name__}"],
        "train_filters": False,
        "filter_interval": filter_interval,
        "filter_output_dim": filter_output_dim,
        "filter_nonlinear": filter_nonlinear,
        "filter_disabled": not filters,
    }
    (folder / "config.json").write_text(json.dumps(json.loads(model.config.to_json_string()) | ted))
    return model, own


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_weights(folder: Path, edit: Any) -> None:
    file = folder / "pytorch_model.bin"
    weights = torch.load(file, weights_only=True)
    edit(weights)
    torch.save(weights, file)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, weight in expected.items():
        assert found[name].dtype == weight.dtype, name
        assert torch.equal(found[name], weight), name


def load_plain(folder: Path, auto_class: Any) -> PreTrainedModel:
    model, info = auto_class.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert model.config.model_type == "deberta-v2"
    return model


# --- what comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "case", "owner", "auto_class"),
    [
        ("qa_teacher", "qa", "teacher", AutoModelForQuestionAnswering),
        ("cls3_student", "cls3", "student", AutoModelForSequenceClassification),
    ],
)
def test_a_published_checkpoint_comes_out_bit_for_bit(name, case, owner, auto_class, tmp_path):
    import_published(NATIVE / name, tmp_path / "out")
    expected = load_file(GOLDEN / case / owner / "model.safetensors")
    expected.pop("deberta.embeddings.position_ids", None)  # a buffer that transformers used to save
    assert_same(load_file(tmp_path / "out" / "model.safetensors"), expected)
    assert_same(
        load_file(tmp_path / "out" / "filters.safetensors"), load_file(GOLDEN / case / f"{owner}_filters.safetensors")
    )
    model = load_plain(tmp_path / "out", auto_class)
    assert load_filters(tmp_path / "out", model).blocks == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "case", "owner"), [("qa_teacher", "qa", "teacher"), ("cls3_student", "cls3", "student")]
)
def test_its_config_is_that_of_the_plain_model(name, case, owner, tmp_path):
    import_published(NATIVE / name, tmp_path / "out")
    expected = json.loads((GOLDEN / case / owner / "config.json").read_text())
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == expected


def test_filters_of_stage_2_nonlinear_and_after_every_third_block(tmp_path):
    model, filters = write_native(
        tmp_path / "in", blocks=7, filter_interval=3, filter_output_dim=12, filter_nonlinear=True, num_labels=1
    )
    import_published(tmp_path / "in", tmp_path / "out")
    imported = load_plain(tmp_path / "out", AutoModelForSequenceClassification)
    assert_same(imported.state_dict(), model.state_dict())
    found = load_filters(tmp_path / "out", imported)
    assert found.blocks == [3, 6]
    assert_same(found.state_dict(), filters.state_dict())


def test_safetensors_and_half_precision_keep_every_bit(tmp_path):
    write_native(tmp_path / "in", AutoModelForQuestionAnswering, safetensors=True)
    file = tmp_path / "in" / "model.safetensors"
    save_file({name: weight.half() for name, weight in load_file(file).items()}, file)
    import_published(tmp_path / "in", tmp_path / "out")
    together = load_file(tmp_path / "out" / "model.safetensors") | {
        f"deberta.encoder.layer.{name.split('.')[1]}.filter.{name.split('.')[2]}": weight
        for name, weight in load_file(tmp_path / "out" / "filters.safetensors").items()
    }
    assert_same(together, load_file(file))


def test_label_names_become_strings(tmp_path):
    write_native(tmp_path / "in", num_labels=3)
    edit_config(tmp_path / "in", id2label={"0": 2, "1": 0, "2": 1}, label2id={"2": 0, "0": 1, "1": 2})
    import_published(tmp_path / "in", tmp_path / "out")
    config = load_plain(tmp_path / "out", AutoModelForSequenceClassification).config
    assert config.id2label == {0: "2", 1: "0", 2: "1"}
    assert config.label2id == {"2": 0, "0": 1, "1": 2}


def test_class_numbers_of_a_glue_task_become_its_label_names(tmp_path):
    write_native(tmp_path / "in", num_labels=3)
    edit_config(tmp_path / "in", finetuning_task="mnli", id2label={"0": 2, "1": 0, "2": 1}, label2id={"2": 0})
    import_published(tmp_path / "in", tmp_path / "out")
    tiny_tokenizer().save_pretrained(tmp_path / "out")
    loaded = load_model(tmp_path / "out", load_task(TaskArguments(task="mnli", max_seq_length=32)))
    assert loaded.model.config.id2label == {0: "contradiction", 1: "entailment", 2: "neutral"}
    assert loaded.label_order == [1, 2, 0]


def test_a_kd_student_has_no_filters_to_import(tmp_path):
    model, _ = write_native(tmp_path / "in", filters=False)
    assert import_published(tmp_path / "in", tmp_path / "out") is None
    names = ["config.json", "model.safetensors", "stage.json"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    assert_same(load_plain(tmp_path / "out", AutoModelForSequenceClassification).state_dict(), model.state_dict())


def test_what_comes_out_can_be_teacher_and_student_of_ted(tmp_path):
    for owner, blocks, width, seed in (("teacher", 4, 24, 0), ("student", 2, 16, 1)):
        interval = blocks // 2
        write_native(
            tmp_path / f"{owner}_in", blocks=blocks, width=width, filter_interval=interval, filter_output_dim=24,
            seed=seed, **CLASSES,
        )  # fmt: skip
        tiny_tokenizer().save_pretrained(tmp_path / f"{owner}_in")
        assert main(["import-published", str(tmp_path / f"{owner}_in"), str(tmp_path / owner)]) == 0
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / owner / name).read_bytes() == (tmp_path / f"{owner}_in" / name).read_bytes()
    rows = str(write_reviews(tmp_path, 16))
    code = main([
        "distill", "--method", "ted", "--task", "sequence_classification", "--train_file", rows,
        "--validation_file", rows, "--teacher_name_or_path", str(tmp_path / "teacher"),
        "--student_name_or_path", str(tmp_path / "student"), "--output_dir", str(tmp_path / "out"), "--max_steps", "2",
        "--use_cpu",
    ])  # fmt: skip
    assert code == 0
    assert (tmp_path / "out" / "all_results.json").exists()


def test_an_empty_folder_is_written_to(tmp_path):
    (tmp_path / "out").mkdir()
    import_published(NATIVE / "cls3_student", tmp_path / "out")
    assert (tmp_path / "out" / "filters.json").exists()


# --- what is refused ------------------------------------------------------------------------------------------


def drop(*names: str) -> Any:
    return lambda weights: [weights.pop(name) for name in names]


def add(name: str, *shape: int) -> Any:
    return lambda weights: weights.update({name: torch.ones(shape)})


FILTER = "deberta.encoder.layer.1.filter.weight"
DAMAGES: dict[str, tuple[Any, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "expected config.json, found no such file"),
    "half a config": (lambda folder: (folder / "config.json").write_text('{"model_type": "ted'), "cut off"),
    "another model": (lambda folder: edit_config(folder, model_type="bert"), "expected model_type ted-deberta-v2"),
    "a plain model": (lambda folder: edit_config(folder, model_type="deberta-v2"), "needs no import"),
    "no weights": (lambda folder: (folder / "pytorch_model.bin").unlink(), "found neither"),
    "no pickle": (lambda folder: (folder / "pytorch_model.bin").write_text("hello"), "holds more than tensors"),
    "empty": (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "holds more than tensors"),
    "a list": (lambda folder: torch.save([torch.ones(2)], folder / "pytorch_model.bin"), "named tensors"),
    "code": (lambda folder: torch.save({"a": Path("x")}, folder / "pytorch_model.bin"), "more than tensors"),
    "no head": (lambda folder: edit_weights(folder, drop("classifier.weight", "classifier.bias")), "got neither"),
    "two heads": (lambda folder: edit_weights(folder, add("qa_outputs.weight", 2, 16)), "got both"),
    "half a head": (lambda folder: edit_weights(folder, drop("classifier.bias")), "classifier.bias"),
    "no block": (lambda folder: edit_weights(folder, drop("deberta.encoder.layer.1.output.dense.bias")), "1 of"),
    "more blocks": (lambda folder: edit_config(folder, num_hidden_layers=3), "missing"),
    "fewer blocks": (lambda folder: edit_config(folder, num_hidden_layers=1), "do not belong there"),
    "wider": (lambda folder: edit_config(folder, intermediate_size=30), "expected shape (30, 16)"),
    "no label": (lambda folder: edit_config(folder, id2label={"0": "a", "1": "b", "2": "c"}), "classifier.weight, got"),
    "no filter": (lambda folder: edit_weights(folder, drop(FILTER)), "filters: 1 of 4 weights are missing"),
    "a filter more": (lambda folder: edit_weights(folder, add("deberta.encoder.layer.7.filter.bias", 2)), "belong"),
    "interval": (lambda folder: edit_config(folder, filter_interval=2), "filters: 2 weights do not belong there"),
    "interval 0": (lambda folder: edit_config(folder, filter_interval=0), "filter_interval"),
    "interval x": (lambda folder: edit_config(folder, filter_interval="x"), "expected numbers"),
    "dim": (lambda folder: edit_config(folder, filter_output_dim=20), "20 wide"),
    "nonlinear": (lambda folder: edit_config(folder, filter_nonlinear=True), "nonlinear"),
    "no heads": (lambda folder: edit_config(folder, num_attention_heads=3), "no model can be made"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_and_nothing_is_left(damage, tmp_path, capsys):
    write_native(tmp_path / "in")
    edit, message = DAMAGES[damage]
    edit(tmp_path / "in")
    assert main(["import-published", str(tmp_path / "in"), str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("safetensors", [False, True])
def test_weights_cut_off_anywhere_are_refused(safetensors, tmp_path):
    write_native(tmp_path / "in", safetensors=safetensors)
    file = tmp_path / "in" / ("model.safetensors" if safetensors else "pytorch_model.bin")
    whole = file.read_bytes()
    for share in range(20):
        file.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(InputError, match="cut off, damaged, or holds more than tensors"):
            import_published(tmp_path / "in", tmp_path / "out")
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="cut off, damaged, or holds more than tensors"):
        import_published(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_not_written_to(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        import_published(NATIVE / "qa_teacher", tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "someone/nothing"])
def test_a_source_that_is_not_there_is_refused(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ted_distill.published.checkpoints.snapshot_download", _offline)
    assert main(["import-published", source, str(tmp_path / "out")]) == 2
    assert source in capsys.readouterr().err


def _offline(*_: Any, **__: Any) -> str:
    raise OSError("the Hub cannot be reached")


@pytest.mark.parametrize("argv", [[], ["one"], ["one", "two", "three"]])
def test_the_command_wants_two_arguments(argv, capsys):
    assert main(["import-published", *argv]) == 2
    assert "SOURCE OUT" in capsys.readouterr().err
