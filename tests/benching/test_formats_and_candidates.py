"""What can be measured, and what is refused or said in one line before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ted_distill import InputError
from ted_distill.benching.candidates import distinct_titles, is_run, of_places
from ted_distill.benching.formats import chosen_formats
from ted_distill.models.load import ModelArguments
from ted_distill.output import write_json


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    found = {"bf16": True, "onnx": True}
    monkeypatch.setattr("ted_distill.benching.formats.does_bfloat16_well", lambda device: found["bf16"])
    monkeypatch.setattr("ted_distill.benching.formats.find_spec", lambda name: name if found["onnx"] else None)
    return found


def test_all_formats_are_measured_unless_some_are_named() -> None:
    assert chosen_formats(None) == (["pytorch", "bf16", "onnx", "int8"], [])
    assert chosen_formats(["int8", "pytorch", "int8"]) == (["pytorch", "int8"], [])


def test_without_the_packages_onnx_is_left_out_with_a_line_or_refused_where_it_was_asked_for(
    machine: dict[str, bool],
) -> None:
    machine["onnx"] = False
    formats, (note,) = chosen_formats(None)
    assert formats == ["pytorch", "bf16"]
    assert note.startswith("ONNX is left out, in an environment without onnx, onnxruntime, onnxscript; pip install")
    with pytest.raises(InputError, match=r"formats: expected the packages .* pip install 'ted-distill\[onnx\]'"):
        chosen_formats(["int8"])
    assert chosen_formats(["pytorch"]) == (["pytorch"], [])


def test_bf16_is_left_out_where_the_processor_has_none_and_measured_with_a_line_where_it_was_asked_for(
    machine: dict[str, bool],
) -> None:
    machine["bf16"] = False
    formats, (note,) = chosen_formats(None)
    assert formats == ["pytorch", "onnx", "int8"]
    assert "PyTorch bf16 is left out" in note
    formats, (note,) = chosen_formats(["bf16"])
    assert formats == ["bf16"]
    assert "may be slower" in note


@pytest.mark.parametrize(("given", "what"), [(["in8"], r"got 'in8'; did you mean int8\?"), ([], "got none")])
def test_unknown_formats_are_refused(given: list[str], what: str) -> None:
    with pytest.raises(InputError, match=what):
        chosen_formats(given)


def test_titles_have_as_much_of_the_path_as_tells_them_apart() -> None:
    assert distinct_titles(["/runs/a/ted", "/runs/b/ted", "/runs/b/kd"]) == ["a/ted", "b/ted", "kd"]
    assert distinct_titles(["owner/model", "/x/model"]) == ["owner/model", "model"]
    assert distinct_titles(["/ted"]) == ["ted"]


def test_a_run_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    assert not is_run(str(tmp_path))
    assert not is_run("owner/model")
    (tmp_path / "results.json").write_text("{}")
    assert is_run(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert not is_run(str(tmp_path))


def places(folder: Path, *names: str, **about: Any) -> list[str]:
    for name in names:
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    for name, files in about.items():
        write_json(folder / name / "export.json", {"files": files})
    return [str(folder / name) for name in names]


def test_one_checkpoint_twice_and_a_teacher_that_is_an_export_are_refused(tmp_path: Path) -> None:
    one, onnx = places(tmp_path, "one", "onnx", onnx={"float32": {"file": "onnx/model.onnx"}})
    with pytest.raises(InputError, match=r"bench: expected each checkpoint once, got .*one more than once"):
        of_places([one, f"{one}/../one"], None, ModelArguments())
    with pytest.raises(InputError, match=r"teacher: expected a checkpoint that PyTorch runs, .* got .*onnx, an export"):
        of_places([one], onnx, ModelArguments())
    found = of_places([onnx], one, ModelArguments())
    assert [(candidate.title, candidate.is_teacher) for candidate in found] == [
        ("one (teacher)", True),
        ("onnx", False),
    ]
    assert found[1].export is not None


def test_all_places_that_hold_no_model_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        of_places([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path), ModelArguments())
    assert len(error.value.problems) == 3
