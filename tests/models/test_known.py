"""A model that is loaded again is not examined again while a run works, and never mistaken for another one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ted_distill.fast.precision import cast_weights
from ted_distill.models import load
from ted_distill.models.load import LoadedModel, load_model
from ted_distill.models.trying.known import Source, knowing_models, known_of
from ted_distill.tasks import Task, TaskArguments, load_task
from tiny import save_tiny


def sst2(**arguments: Any) -> Task:
    return load_task(TaskArguments(task="sst2", **arguments))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", AutoModelForSequenceClassification)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were tried out, once for each time."""
    names: list[str] = []
    check: Callable[..., Any] = load.check_model

    def counted(module: Any, tokenizer: Any, task: Task, name: str) -> Any:
        names.append(Path(name).name)
        return check(module, tokenizer, task, name)

    monkeypatch.setattr(load, "check_model", counted)
    return names


def loaded_twice(folder: Path) -> tuple[LoadedModel, LoadedModel]:
    return load_model(folder, sst2()), load_model(folder, sst2())


def write_other_weights(folder: Path) -> None:
    """Weights of the same names and sizes, in a file of the same size and time."""
    file = folder / "model.safetensors"
    before, times = file.stat().st_size, (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.base_model.embeddings.word_embeddings.weight[7] += 1
    model.save_pretrained(folder)
    os.utime(file, ns=times)
    assert file.stat().st_size == before


def test_a_model_is_tried_out_once_in_a_run_and_every_time_without_one(folder: Path, tried: list[str]) -> None:
    with knowing_models():
        first, second = loaded_twice(folder)
        assert len(tried) == 1
        assert second.findings == first.findings
        assert second.identity == first.identity
    alone, _ = loaded_twice(folder)
    assert len(tried) == 3
    assert alone.identity == first.identity


def test_the_outermost_run_decides_how_long_it_is_known(folder: Path, tried: list[str]) -> None:
    with knowing_models():
        with knowing_models():
            load_model(folder, sst2())
        load_model(folder, sst2())
        assert len(tried) == 1
    with knowing_models():
        load_model(folder, sst2())
    assert len(tried) == 2


def test_weights_that_were_changed_meanwhile_are_noticed(folder: Path, tried: list[str]) -> None:
    with knowing_models():
        before = load_model(folder, sst2()).identity
        write_other_weights(folder)
        after = load_model(folder, sst2()).identity
    assert len(tried) == 2
    assert after["backbone"] != before["backbone"]
    assert after["backbone"] == load_model(folder, sst2()).identity["backbone"]


def test_a_tokenizer_that_was_changed_meanwhile_is_noticed(folder: Path, tried: list[str]) -> None:
    with knowing_models():
        first = load_model(folder, sst2())
        before = first.identity["tokenizer"]
        first.tokenizer.add_tokens(["[NEW]"])
        first.tokenizer.save_pretrained(folder)
        first.model.resize_token_embeddings(len(first.tokenizer))
        first.model.save_pretrained(folder)
        assert load_model(folder, sst2()).identity["tokenizer"] != before
    assert len(tried) == 2


def test_files_that_change_while_a_model_is_loaded_are_not_kept(folder: Path) -> None:
    with knowing_models():
        source = Source(str(folder), code=False)
        found = load_model(folder, sst2())
        known = known_of(found.model)
        assert known is not None
        write_other_weights(folder)
        source.keep(found.model, "how", known)
        assert source.known("how") is None


def test_nothing_that_is_trained_is_shared(folder: Path) -> None:
    with knowing_models():
        first, second = loaded_twice(folder)
        identity = dict(second.identity)
        with torch.no_grad():
            for weight in first.model.parameters():
                weight.zero_()
        assert all(weight.any() for name, weight in second.model.named_parameters() if name.endswith("dense.weight"))
        assert load_model(folder, sst2()).identity == identity


def change(model: torch.nn.Module) -> None:
    with torch.no_grad():
        next(model.base_model.parameters()).add_(1)


@pytest.mark.parametrize("what", [change, lambda model: cast_weights(model, torch.bfloat16)])
def test_a_model_that_was_trained_or_cast_is_not_taken_for_what_was_loaded(
    folder: Path, what: Callable[[torch.nn.Module], None]
) -> None:
    with knowing_models():
        first, second = loaded_twice(folder)
        what(first.model)
        assert known_of(first.model) is None
        assert first.identity["backbone"] != second.identity["backbone"]  # read too late, it says what is there now
        assert load_model(folder, sst2()).identity["backbone"] == second.identity["backbone"]


def test_what_is_made_of_a_model_is_another_one(folder: Path) -> None:
    with knowing_models():
        loaded = load_model(folder, sst2())
        assert loaded.identity["backbone"]
        torch.manual_seed(3)
        made = replace(loaded, model=type(loaded.model)(loaded.model.config))
        assert made.identity["backbone"] != loaded.identity["backbone"]


@pytest.mark.parametrize("other", [{"max_seq_length": 8}, {"config_overrides": "hidden_dropout_prob=0.3"}])
def test_another_task_or_config_is_tried_out_again(folder: Path, tried: list[str], other: dict[str, Any]) -> None:
    overrides = load.ModelArguments(config_overrides=other.pop("config_overrides", None))
    with knowing_models():
        load_model(folder, sst2())
        load_model(folder, sst2(**other), overrides)
    assert len(tried) == 2


def test_a_link_to_nothing_beside_a_model_does_no_harm(folder: Path, tried: list[str]) -> None:
    (folder / "link").symlink_to(folder / "nothing")
    with knowing_models():
        loaded_twice(folder)
    assert len(tried) == 2


def test_a_model_with_code_of_its_own_or_on_the_hub_is_not_known(folder: Path) -> None:
    with knowing_models():
        loaded = load_model(folder, sst2())
        known = known_of(loaded.model)
        assert known is not None
        for name, code in ((str(folder), True), ("no/folder", False)):
            source = Source(name, code)
            source.keep(loaded.model, "how", known)
            assert source.known("how") is None
