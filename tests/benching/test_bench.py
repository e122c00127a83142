"""A bench of tiny models: what it holds, that its scores are those of an export, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from ted_distill import InputError, ModelArguments, bench, export_onnx, load_task
from ted_distill.benching.bench import Benched, read_bench
from ted_distill.benching.candidates import Candidate
from ted_distill.benching.opened import open_candidate
from ted_distill.cli.main import main
from ted_distill.export import written
from ted_distill.export.exporting import Exported, read_export
from ted_distill.report.bench import bench_table, bench_text
from tiny import save_tiny, write_reviews

LABELS = {"id2label": {0: "good", 1: "bad"}, "label2id": {"good": 0, "bad": 1}}
FORMATS = ["pytorch", "bf16", "onnx", "int8"]
QUICK = {"rounds": 1, "rows": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, a student and rows."""
    folder = tmp_path_factory.mktemp("bench")
    for name, blocks in (("big", 4), ("model", 2)):
        save_tiny(folder / name, AutoModelForSequenceClassification, blocks=blocks, initializer_range=0.3, **LABELS)
    write_reviews(folder)
    return folder


@pytest.fixture(scope="module")
def exported(place: Path) -> Exported:
    """The student, exported as float32 and int8."""
    return export_onnx(place / "model", place / "onnx", int8=True, test=place / "reviews.jsonl", max_changed=1)


@pytest.fixture(scope="module")
def benched(place: Path, exported: Exported) -> Benched:
    """Teacher, student and its export, in all formats. The teacher's files are those of the student, to save time."""
    real = written.write_graph

    def write_graph(model: Any, inputs: Any, file: Path, name: str) -> None:
        if name.endswith("big"):
            shutil.copyfile(exported.files["float32"], file)
        else:
            real(model, inputs, file, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written, "write_graph", write_graph)
        return bench(
            [place / "model", place / "onnx"],
            place / "bench",
            teacher=place / "big",
            test=place / "reviews.jsonl",
            formats=FORMATS,
            rounds=2,
            rows=8,
        )


def rows_of(benched: Benched, model: str) -> dict[str, dict[str, Any]]:
    return {row["format"]: row for row in benched.candidates if row["model"] == model}


def test_every_model_is_there_in_every_format_that_it_has(benched: Benched) -> None:
    found = [(row["model"], row["format"]) for row in benched.candidates]
    of_checkpoints = [(model, kind) for model in ("big (teacher)", "model") for kind in FORMATS]
    assert found == [*of_checkpoints, ("onnx", "onnx"), ("onnx", "int8")]


def test_scores_are_those_that_an_export_says_whether_written_for_the_bench_or_given(
    benched: Benched, exported: Exported
) -> None:
    scores = exported.about["scores"]
    model, given = rows_of(benched, "model"), rows_of(benched, "onnx")
    for kind, name in (("pytorch", "pytorch"), ("onnx", "float32"), ("int8", "int8")):
        assert model[kind]["scores"] == scores[name]
    for kind, name in (("onnx", "float32"), ("int8", "int8")):
        assert given[kind]["scores"] == scores[name]
    assert model["int8"]["changed"] == exported.about["parity"]["int8"]["changed"]
    assert model["int8"]["to_float32"] == pytest.approx(scores["int8"]["accuracy"] - scores["pytorch"]["accuracy"])
    assert model["onnx"]["largest_difference"] < 5e-5 < model["bf16"]["largest_difference"]


def test_a_file_that_does_not_compute_what_pytorch_does_is_noted(benched: Benched) -> None:
    """As the teacher's here, which are the student's."""
    (note,) = (note for note in benched.about["notes"] if "is not what PyTorch computes" in note)
    assert note.startswith("big (teacher): ONNX float32 is not what PyTorch computes: logits are up to ")


def test_sizes_are_those_of_the_weights_or_the_file(benched: Benched, exported: Exported) -> None:
    model, given = rows_of(benched, "model"), rows_of(benched, "onnx")
    assert model["pytorch"]["bytes"] == 4 * model["pytorch"]["parameters"] == 2 * model["bf16"]["bytes"]
    assert given["int8"]["bytes"] == model["int8"]["bytes"] == exported.files["int8"].stat().st_size
    assert 0 < model["int8"]["parameters_without_embeddings"] < model["int8"]["parameters"]
    assert given["int8"]["parameters_without_embeddings"] == model["int8"]["parameters_without_embeddings"]


def test_everything_is_compared_with_the_teacher_in_pytorch(benched: Benched) -> None:
    teacher = rows_of(benched, "big (teacher)")["pytorch"]
    assert set(teacher["to_teacher"].values()) == {1.0}
    for row in benched.candidates:
        expected = row["batch_1"]["rows_per_second"] / teacher["batch_1"]["rows_per_second"]
        assert row["to_teacher"]["batch_1"] == pytest.approx(expected)
        assert row["to_teacher"]["score"] == pytest.approx(row["score"] / teacher["score"])
        assert row["batch_1"]["p50_ms"] <= row["batch_1"]["p95_ms"]
    assert any(row["on_front"] for row in benched.candidates)


def test_the_table_says_it_all_on_the_screen_and_in_the_folder(benched: Benched) -> None:
    head, *rows = bench_table(benched.about)
    assert head == [
        "model", "format", "parameters", "without embeddings", "size", "accuracy", "of teacher", "to float32",
        "changed", "p50 ms", "p95 ms", "rows/s at 1", "times at 1", "rows/s at 32", "times at 32", "CPU ms a row",
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["big (teacher)", "", "", "", "model", "", "", "", "onnx", ""]
    assert rows[0][6] == "100.0 %"
    assert rows[0][12] == rows[0][14] == "1.00"
    screen = bench_text(benched.about, short=True)
    assert max(map(len, screen.split("\n\n")[0].splitlines())) <= 120
    assert "bench.md has all figures" in screen
    text = bench_text(benched.about)
    assert "Scores are accuracy on 48 test rows of reviews.jsonl." in text
    assert re.search(r"8 rows of \d+ to \d+ tokens \(median", text)
    assert "2 rounds" in text
    assert "1 thread on " in text
    assert text in (benched.folder / "bench.md").read_text(encoding="utf-8")


def test_the_folder_holds_the_table_the_plot_and_nothing_of_what_was_written_on_the_way(benched: Benched) -> None:
    held = {entry.name for entry in benched.folder.iterdir()}
    assert held - {".ted-lock"} == {"bench.json", "bench.md", "bench.png", "stage.json"}
    assert (benched.folder / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert read_bench(benched.folder).about == json.loads((benched.folder / "bench.json").read_text())


def test_a_bench_is_made_again_over_itself_from_the_command_line_and_without_a_teacher_nothing_is_compared(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(place / "model"), "--output_dir", str(tmp_path / "out"), "--formats", "pytorch"]
    words += ["--rounds", "1", "--rows", "2"]
    assert main([*words, "--test", str(place / "reviews.jsonl")]) == 0
    said = capsys.readouterr().out
    assert "| model | PyTorch float32 |" in said
    assert "times" not in said.partition("\n")[0]
    assert str(tmp_path / "out" / "bench.png") in said
    # Without rows, nothing is known of the score, and there is nothing to plot.
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "accuracy" not in said.partition("\n")[0]
    assert "Nothing is known of scores: no rows were given" in said
    assert not (tmp_path / "out" / "bench.png").exists()


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_written_is_refused_before_anything_is_scored_or_left_out_with_a_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise InputError("export: expected model to be written as ONNX, got an error; use another")

    monkeypatch.setattr(written, "write_graph", fails)
    options = {"test": place / "reviews.jsonl", **QUICK}
    with monkeypatch.context() as patch:
        patch.setattr("ted_distill.benching.bench.scored", lambda *_: pytest.fail("scored"))
        with pytest.raises(InputError) as error:
            bench([place / "model", place / "big"], tmp_path / "out", formats=["onnx"], **options)
    assert len(error.value.problems) == 1
    assert not (tmp_path / "out").exists()
    about = bench(place / "model", tmp_path / "out", **options).about
    assert {row["format"] for row in about["candidates"]} <= {"pytorch", "bf16"}
    assert any(note.startswith("model: ONNX is left out. export: expected model to be") for note in about["notes"])


def test_a_graph_that_is_written_but_does_not_run_is_left_out(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of Funnel, some of whose axes are numbers in the graph."""
    monkeypatch.setattr(written, "write_graph", lambda model, inputs, file, name: file.write_bytes(b"no graph"))
    about = bench(place / "model", tmp_path / "out", test=place / "reviews.jsonl", **QUICK).about
    assert {row["format"] for row in about["candidates"]} <= {"pytorch", "bf16"}
    assert any("ONNX is left out. export: expected the ONNX graph of" in note for note in about["notes"])
    with pytest.raises(InputError, match=r"expected the ONNX graph of .*model .* to run, got an error"):
        export_onnx(place / "model", tmp_path / "onnx", test=place / "reviews.jsonl")
    assert not (tmp_path / "onnx").exists()


def test_where_only_int8_cannot_be_written_float32_is_measured(
    place: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no such operator")

    def write_graph(model: Any, inputs: Any, file: Path, name: str) -> None:
        shutil.copyfile(exported.files["float32"], file)

    monkeypatch.setattr(written, "write_graph", write_graph)
    monkeypatch.setattr(written, "write_int8", fails)
    options = {"test": place / "reviews.jsonl", **QUICK}
    about = bench(place / "model", tmp_path / "out", **options).about
    found = [row["format"] for row in about["candidates"]]
    assert "onnx" in found
    assert "int8" not in found
    assert any(note.startswith("model: ONNX int8 is left out. export: expected the") for note in about["notes"])
    with pytest.raises(InputError, match="to be written in int8, and run, got an error"):
        bench(place / "model", tmp_path / "other", formats=["onnx", "int8"], **options)


def test_folders_and_values_that_make_no_sense_are_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match=r"which holds thesis\.txt"):
        bench(place / "model", tmp_path, test=place / "reviews.jsonl", formats=["pytorch"])
    with pytest.raises(InputError, match="another folder than that of the model"):
        bench(place / "model", place / "model", test=place / "reviews.jsonl", formats=["pytorch"])
    with pytest.raises(InputError, match="bench: expected one or more checkpoints"):
        bench([], formats=["pytorch"])
    assert main(["bench", "--rounds", "2"]) == 2
    assert "write CHECKPOINT ... first" in capsys.readouterr().err
    assert main(["bench", str(place / "nowhere"), "--formats", "bf17"]) == 2
    said = capsys.readouterr().err
    assert "formats: expected one of pytorch, bf16, onnx, int8, got" in said or "bf17" in said
    assert main(["bench", str(place / "model"), "--threads", "0"]) == 2
    assert "threads: expected a whole number of at least 1, got 0" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="bench: expected one process, got several"):
        bench(place / "model")


def test_an_export_has_no_pytorch(exported: Exported) -> None:
    with pytest.raises(InputError, match=r"formats: expected one of those that .*onnx holds \(float32, int8\)"):
        bench(exported.folder, exported.folder.parent / "other", formats=["pytorch"], **QUICK)


@pytest.mark.parametrize(
    "task", ["causal_lm", "masked_lm", "multi_label_classification", "question_answering", "token_classification"]
)
def test_an_export_for_another_task_is_refused(exported: Exported, tmp_path: Path, task: str) -> None:
    with pytest.raises(InputError, match=rf"for task {task} .*onnx, which is for sequence_classification"):
        bench(exported.folder, tmp_path / "out", task=task, formats=["onnx"], **QUICK)


def test_rows_are_cut_to_what_an_export_reads(exported: Exported, tmp_path: Path) -> None:
    """Its tokenizer may know no limit, and a longer row would end in an error of onnxruntime."""
    folder = shutil.copytree(exported.folder, tmp_path / "onnx")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["model_max_length"]
    file.write_text(json.dumps(settings))
    task = load_task("sequence_classification", test=[{"text": "very " * 90, "label": one} for one in ("good", "bad")])
    candidate = Candidate("onnx", str(folder), ModelArguments(), export=read_export(folder))
    opened = open_candidate(candidate, task, "test", ["onnx"])
    assert opened.encoded.features["length"][:] == [70, 70]
    of_other = Exported(folder, {**exported.about, "inputs": {**exported.about["inputs"], "position_ids": {}}})
    with pytest.raises(InputError, match=r"batches of task sequence_classification hold, got .*takes position_ids too"):
        open_candidate(replace(candidate, export=of_other), task, "test", ["onnx"])


@pytest.fixture
def two_vocabularies(tmp_path: Path) -> Path:
    """A folder with texts and language models, causal and masked; those called `other` have no word `very`."""
    for kind, auto_class, family in (
        ("causal", AutoModelForCausalLM, "gpt2"),
        ("masked", AutoModelForMaskedLM, "bert"),
    ):
        for name in ("one", "other"):
            folder = save_tiny(tmp_path / f"{kind}-{name}", auto_class, family, initializer_range=0.3)
            if name == "other":
                file = folder / "tokenizer.json"
                content = json.loads(file.read_text())
                content["model"]["vocab"]["verily"] = content["model"]["vocab"].pop("very")
                file.write_text(json.dumps(content))
    (tmp_path / "text.jsonl").write_text("\n".join([json.dumps({"text": "the book was very good."})] * 40))
    return tmp_path


def test_causal_models_of_two_vocabularies_are_compared_by_the_perplexity_of_a_word(two_vocabularies: Path) -> None:
    """That of a token is lower the more tokens a text is cut into, and says nothing of two models."""
    place = two_vocabularies
    options = {"task": "causal_lm", "test": place / "text.jsonl", "formats": ["pytorch"], **QUICK}
    about = bench([place / "causal-other"], place / "bench", teacher=place / "causal-one", **options).about
    assert about["metric"] == "word_perplexity"
    assert about["lower_is_better"]
    assert [row["score"] for row in about["candidates"]] == [
        row["scores"]["word_perplexity"] for row in about["candidates"]
    ]
    assert any("vocabularies differ" in note for note in about["notes"])
    same = bench(place / "causal-one", place / "same", **options).about
    assert same["metric"] == "perplexity"


def test_masked_models_of_two_vocabularies_are_timed_but_not_scored_together(two_vocabularies: Path) -> None:
    place = two_vocabularies
    options = {"task": "masked_lm", "formats": ["pytorch"], **QUICK}
    models = {"checkpoints": [place / "masked-other"], "teacher": place / "masked-one"}
    with pytest.raises(InputError, match=r"expected models with one vocabulary.*masked-other; give them one by one"):
        bench(**models, output_dir=place / "bench", test=place / "text.jsonl", **options)
    assert not (place / "bench").exists()
    assert not bench(**models, output_dir=place / "bench", **options).about["scored"]
