"""What is exported does what the checkpoint does, or nothing is published."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from ted_distill import InputError, bench, export_onnx
from ted_distill.cli.main import main
from ted_distill.errors import GateError
from ted_distill.export import written
from ted_distill.export.exporting import FLOAT, INT8, Exported, read_export
from ted_distill.export.graph import write_int8
from ted_distill.export.session import OnnxModel
from ted_distill.output import read_manifest
from tiny import FAMILIES, save_tiny, tiny_tokenizer, write_reviews

GOOD = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
"""The other order than that of the data."""
DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"
HEADS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sequence_classification": (AutoModelForSequenceClassification, GOOD),
    "regression": (AutoModelForSequenceClassification, {"num_labels": 1, "problem_type": "regression"}),
    "multi_label_classification": (
        AutoModelForSequenceClassification, {"num_labels": 3, "problem_type": "multi_label_classification"},
    ),
    "token_classification": (AutoModelForTokenClassification, {"id2label": {0: "O", 1: "B-person", 2: "I-person"}}),
    "question_answering": (AutoModelForQuestionAnswering, {}),
    "masked_lm": (AutoModelForMaskedLM, {}),
    "causal_lm": (AutoModelForCausalLM, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, `model`, and rows."""
    folder = tmp_path_factory.mktemp("export")
    # Larger weights than usual, so that not all rows are of one class.
    save_tiny(folder / "model", AutoModelForSequenceClassification, initializer_range=0.3, **GOOD)
    write_reviews(folder)
    return folder


@pytest.fixture(scope="module")
def exported(place: Path) -> Exported:
    """The checkpoint, exported as float32 and int8."""
    return export_onnx(place / "model", place / "onnx", int8=True, test=place / "reviews.jsonl", max_changed=1)


@pytest.fixture
def shifts(monkeypatch: pytest.MonkeyPatch, exported: Exported) -> dict[str, float]:
    """The files of `exported` in place of new ones, and what is added to the logits of each."""
    found = {"float32": 0.0, "int8": 0.0}

    def write_graph(model: Any, inputs: Any, file: Path, name: str) -> None:
        shifted(exported.files["float32"], file, found["float32"])

    def write_int8(source: Path, target: Path) -> dict[str, int]:
        shifted(exported.files["int8"], target, found["int8"])
        return {}

    monkeypatch.setattr(written, "write_graph", write_graph)
    monkeypatch.setattr(written, "write_int8", write_int8)
    return found


def shifted(source: Path, target: Path, shift: float) -> None:
    """Write a file again, with something added to the first logit."""
    model = onnx.load(str(source))
    for node in model.graph.node:
        node.output[:] = ["before" if name == "logits" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([shift, 0], dtype=np.float32), "shift"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "shift"], ["logits"]))
    onnx.save(model, str(target))


# --- what is published --------------------------------------------------------------------------------------------


def test_the_folder_is_laid_out_for_browsers_and_says_what_it_holds(exported: Exported) -> None:
    held = {file.relative_to(exported.folder).as_posix() for file in exported.folder.rglob("*") if file.is_file()}
    assert held == {FLOAT, INT8, "config.json", "tokenizer.json", "tokenizer_config.json", "export.json", "stage.json"}
    about = json.loads((exported.folder / "export.json").read_text())
    assert read_export(exported.folder).about == about
    assert about["labels"] == ["good", "bad"]
    assert (about["max_length"], about["positions"], about["config_overrides"]) == (64, 70, None)
    assert about["task"] == {
        "name": "sequence_classification", "kind": "sequence_classification", "pipeline_tag": "text-classification",
    }  # fmt: skip
    axes = {"type": "int64", "shape": ["batch", "length"]}
    assert about["inputs"] == dict.fromkeys(["input_ids", "attention_mask", "token_type_ids"], axes)
    assert about["outputs"] == {"logits": {"type": "float", "shape": ["batch", 2]}}
    assert about["parity"]["given"]
    assert about["parity"]["rows"] == 48
    assert about["parity"]["float32"]["largest_difference"] < 5e-5
    assert about["scores"]["pytorch"] == about["scores"]["float32"]
    assert about["int8_operators"]["embeddings"] > 0
    assert about["files"]["int8"]["bytes"] == exported.files["int8"].stat().st_size


def test_the_graph_has_no_paths_of_this_machine_and_its_weights_inside(exported: Exported) -> None:
    for file in exported.files.values():
        content = file.read_bytes()
        assert b"site-packages" not in content
        assert str(Path.home()).encode() not in content
        model = onnx.load(str(file), load_external_data=False)
        shapes = [value.type.tensor_type.shape for value in [*model.graph.input, *model.graph.output]]
        assert {dim.dim_param for shape in shapes for dim in shape.dim} == {"batch", "length", ""}
        assert not any(weight.external_data for weight in model.graph.initializer)
        assert model.opset_import[0].version == 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (5, 7), (2, 33)])
def test_batches_of_any_size_and_length_give_the_logits_of_the_checkpoint(
    place: Path, exported: Exported, shape: tuple[int, int]
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(place / "model").eval()
    ids = torch.randint(5, 30, shape)
    mask = torch.ones_like(ids)
    mask[-1, max(1, shape[1] // 2) :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        torch.testing.assert_close(
            OnnxModel(exported.files["float32"])(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-5
        )


def test_the_page_has_lines_that_run_it_with_onnxruntime_alone(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", DEPLOY.read_text(encoding="utf-8"), re.M | re.S)
    assert code.count("\n") <= 12
    assert "torch" not in code
    shutil.copytree(exported.folder, tmp_path / "student-onnx")
    monkeypatch.chdir(tmp_path)
    # Also of texts longer than the model reads.
    for text in ("the film was great.", "the film was great." * 40):
        exec(code.replace("the film was great.", text), {})
        assert re.fullmatch(r"\['(good|bad)', '(good|bad)'\]\n", capsys.readouterr().out)


# --- the gate -----------------------------------------------------------------------------------------------------


def test_logits_beyond_the_bound_end_with_4_and_nothing_is_published(
    place: Path, shifts: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shifts["float32"] = 0.01
    words = [str(place / "model"), str(tmp_path / "out"), "--test", str(place / "reviews.jsonl")]
    assert main(["export", *words]) == 4
    said = capsys.readouterr().err
    assert f"{FLOAT}: expected logits within 0.0001 of PyTorch's, got " in said
    assert "reviews.jsonl" in said
    assert not (tmp_path / "out").exists()
    assert main(["export", *words, "--max_difference", "10", "--config_overrides", "hidden_dropout_prob=0.5"]) == 0
    assert (tmp_path / "out" / FLOAT).is_file()
    assert read_export(tmp_path / "out").about["config_overrides"] == "hidden_dropout_prob=0.5"


def test_int8_that_changes_too_many_predictions_is_not_published(
    place: Path, shifts: dict[str, float], tmp_path: Path
) -> None:
    shifts["int8"] = 10.0
    options = {"int8": True, "test": place / "reviews.jsonl"}
    with pytest.raises(GateError, match=r"at most 2 % of predictions changed, got \d+\.\d\d % \(accuracy .* for .*\)"):
        export_onnx(place / "model", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    about = export_onnx(place / "model", tmp_path / "out", **options, max_changed=1.0).about
    assert about["parity"]["int8"]["changed"] > 0.02
    assert about["parity"]["int8"]["max_changed"] == 1


def test_logits_that_are_no_numbers_are_refused(place: Path, shifts: dict[str, float], tmp_path: Path) -> None:
    shifts["float32"] = float("nan")
    with pytest.raises(GateError, match="got inf"):
        export_onnx(place / "model", tmp_path / "out", test=place / "reviews.jsonl")


def test_without_data_it_is_said_that_nothing_is_known_of_the_score(
    place: Path, shifts: dict[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(place / "model"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "No data were given" in said.out
    assert "made-up rows of random words" in said.out
    assert read_export(tmp_path / "out").about["scores"] is None


# --- the folder ---------------------------------------------------------------------------------------------------


def test_an_export_is_made_again_over_itself_and_leaves_no_file_of_the_former(
    place: Path, shifts: dict[str, float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, rows = tmp_path / "out", place / "reviews.jsonl"
    export_onnx(place / "model", out, int8=True, test=rows, max_changed=1)
    assert (out / INT8).is_file()
    (out / "mine.txt").write_text("kept")
    assert INT8 not in caplog.text
    export_onnx(place / "model", out, test=rows)
    assert not (out / INT8).exists()
    assert f"{INT8} goes, give --int8 to make it again" in caplog.text
    assert (out / "mine.txt").read_text() == "kept"
    assert FLOAT in (read_manifest(out) or {})["files"]
    before = (out / FLOAT).read_bytes()
    shifts["float32"] = 1.5
    with pytest.raises(GateError):
        export_onnx(place / "model", out, test=rows)
    assert (out / FLOAT).read_bytes() == before
    assert {entry.name for entry in out.iterdir()} >= {"onnx", "mine.txt", "stage.json"}


def test_the_folder_of_someone_else_or_of_the_checkpoint_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match=r"which holds thesis\.txt"):
        export_onnx(place / "model", tmp_path)
    with pytest.raises(InputError, match="another folder than that of the model"):
        export_onnx(place / "model", place / "model")


def test_a_missing_package_is_named_with_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ted_distill.export.requirements.find_spec", lambda name: None if "script" in name else name)
    with pytest.raises(InputError, match=r"without onnxscript; pip install 'ted-distill\[onnx\]'"):
        export_onnx(place / "model")


def test_values_and_words_that_make_no_sense_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(place / "model"), "--max_changed", "2"]) == 2
    assert "max_changed: expected a number from 0 to 1, got 2" in capsys.readouterr().err
    assert main(["export", "--int8"]) == 2
    assert "write CHECKPOINT OUT first" in capsys.readouterr().err
    assert main(["export", str(place / "model"), "--test", "nowhere.csv"]) == 2
    assert "nowhere.csv" in capsys.readouterr().err


@pytest.mark.parametrize(("auto_class", "family"), [(AutoModelForCausalLM, "gpt2"), (AutoModelForMaskedLM, "bert")])
def test_the_graph_of_a_language_model_has_the_inputs_of_its_rows_alone(
    auto_class: Any, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds of tokens, which these rows lack, would have to be made up; GPT-2 adds a vector for each."""
    given: list[Any] = []

    def write_graph(model: Any, inputs: Any, file: Path, name: str) -> None:
        given.append(inputs)
        raise InputError("seen")

    monkeypatch.setattr(written, "write_graph", write_graph)
    tiny_tokenizer(True).save_pretrained(save_tiny(tmp_path / "model", auto_class, family))
    with pytest.raises(InputError, match="seen"):
        export_onnx(tmp_path / "model", tmp_path / "out")
    assert [set(inputs) for inputs in given] == [{"input_ids", "attention_mask"}]


def test_a_head_that_is_tied_to_the_embeddings_works_on_integers_too(tmp_path: Path) -> None:
    """Its weights are the transposed table, which no product on integers takes."""
    table = np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "input_ids"], ["states"]),
        onnx.helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0]),
        onnx.helper.make_node("MatMul", ["states", "head"], ["logits"]),
    ]
    ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "length"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "length", 24])
    graph = onnx.helper.make_graph(nodes, "tied", [ids], [logits], [numpy_helper.from_array(table, "table")])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), str(tmp_path / "float.onnx"))
    assert write_int8(tmp_path / "float.onnx", tmp_path / "int8.onnx") == {"MatMulInteger": 1, "embeddings": 1}
    rows = {"input_ids": torch.arange(24).reshape(4, 6)}
    exact, close = (OnnxModel(tmp_path / f"{name}.onnx")(**rows).logits for name in ("float", "int8"))
    torch.testing.assert_close(close, exact, rtol=0, atol=0.5)
    assert {file.name for file in tmp_path.iterdir()} == {"float.onnx", "int8.onnx"}


# --- families and heads -------------------------------------------------------------------------------------------


def test_a_model_that_the_exporter_cannot_write_is_refused_in_one_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr("transformers.exporters.OnnxExporter.export", fails)
    with pytest.raises(InputError, match=r"BertForSequenceClassification.*RuntimeError: no such operator\); use"):
        export_onnx(place / "model", tmp_path / "out", test=place / "reviews.jsonl")


CASES = [
    ("gpt2", "sequence_classification"),
    *((family, "sequence_classification") for family in FAMILIES if family not in ("bert", "xlm-roberta")),
    *(("bert", head) for head in HEADS if head not in ("causal_lm", "sequence_classification")),
    ("gpt2", "causal_lm"), ("modernbert", "masked_lm"), ("deberta-v2", "question_answering"),
    ("distilbert", "question_answering"), ("roberta", "token_classification"), ("qwen3", "causal_lm"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "head"), [CASES[0], *(pytest.param(*case, marks=pytest.mark.long) for case in CASES[1:])]
)
def test_every_family_and_head_does_the_same_as_a_file(
    family: str, head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    auto_class, changes = HEADS[head]
    checkpoint = save_tiny(tmp_path / "model", auto_class, family, **changes)
    exported = export_onnx(checkpoint, int8=True, max_changed=1)
    assert exported.folder == tmp_path / "model-onnx"
    assert exported.about["task"]["kind"] == head
    assert exported.about["parity"]["float32"]["largest_difference"] < 1e-5
    assert exported.about["parity"]["float32"]["changed"] < 1e-6
    made = {"token_type_ids"} & set(AutoTokenizer.from_pretrained(exported.folder).model_input_names)
    made = set() if head.endswith("_lm") else made
    assert set(exported.about["inputs"]) == {"input_ids", "attention_mask", *made}
    assert capsys.readouterr().out == ""
    rows = bench(exported.folder, tmp_path / "bench", formats=["onnx", "int8"], rounds=1, rows=2).candidates
    assert [row["format"] for row in rows] == ["onnx", "int8"]
    assert all(row["batch_32"]["rows_per_second"] > 0 for row in rows)
