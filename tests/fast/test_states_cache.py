"""Outputs of frozen models, from disk: the same as live, never another model's, and never half of a row."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from ted_distill import (
    TASKS,
    DistillArguments,
    LearnFiltersArguments,
    StageArguments,
    TaskArguments,
    distill,
    learn_filters,
    load_task,
)
from ted_distill.errors import InputError
from ted_distill.fast import row_file
from ted_distill.fast.states_cache import ROW, StatesCache, cache_folder, open_cache
from ted_distill.method.filters import FilteredModel, Signals
from ted_distill.stages.lifecycle import keeps_states
from ted_distill.tasks.sequence_classification import SequenceClassification
from tiny import CLASSES, save_tiny, write_questions, write_reviews

LENGTHS = [5, 3, 7, 1]


def _features(lengths: list[int] = LENGTHS, first: int = 0) -> Dataset:
    rows = [[first + row * 10 + token for token in range(length)] for row, length in enumerate(lengths)]
    return Dataset.from_dict({"input_ids": rows, "length": lengths})


def _batch(rows: list[int], width: int = 8) -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(len(rows), width, dtype=torch.long), ROW: torch.tensor(rows)}


class _Model:
    """Has other outputs for every row, token and block, and counts how often it is asked."""

    def __init__(
        self,
        dtype: torch.dtype = torch.bfloat16,
        per_token: bool = False,
        tokens: int | None = None,
        blocks: tuple[int, ...] = (2, 4),
    ) -> None:
        self.dtype, self.per_token, self.tokens, self.blocks, self.asked = dtype, per_token, tokens, blocks, 0

    def __call__(self, batch: dict[str, Tensor]) -> Signals:
        self.asked += 1
        rows, width = batch[ROW], self.tokens or batch["input_ids"].shape[1]
        token = torch.arange(width)[None, :, None] / 7 + rows[:, None, None]
        states = [(token + block + torch.arange(4)).to(self.dtype) for block in self.blocks]
        logits = token[..., :1].expand(-1, -1, 2) if self.per_token else rows[:, None].float().expand(-1, 3) / 3
        return Signals(logits.to(self.dtype), states)


def _assert_same(found: Signals, live: Signals, rows: list[int], per_token: bool = False) -> None:
    """Bit for bit at real tokens, zero at padding."""
    for kept, states in zip(found.states, live.states, strict=True):
        assert kept.dtype == states.dtype
        for number, row in enumerate(rows):
            length = min(LENGTHS[row], states.shape[1])
            assert torch.equal(kept[number, :length], states[number, :length])
            assert not kept[number, length:].any()
    for number, row in enumerate(rows):
        length = LENGTHS[row] if per_token else None
        assert torch.equal(found.logits[number][:length], live.logits[number][:length].float())


@pytest.fixture(params=["by position", "by seeking"])
def _each_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows cannot read and write at a position."""
    if request.param == "by seeking":
        for name in ("pread", "preadv", "pwrite", "pwritev"):
            monkeypatch.delattr(os, name)


@pytest.mark.usefixtures("_each_system")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("per_token", [False, True])
def test_what_comes_back_is_what_the_model_said_in_other_batches_too(
    tmp_path: Path, dtype: torch.dtype, per_token: bool
) -> None:
    model = _Model(dtype, per_token)
    cache = StatesCache(tmp_path, np.array(LENGTHS))
    for rows in ([2, 0], [1, 3]):
        cache(_batch(rows), [2, 4], model)
    assert model.asked == 2
    for again in (cache, StatesCache(tmp_path, np.array(LENGTHS))):
        for rows, width in (([0, 1, 2, 3], 8), ([3, 1], 16), ([2], 7)):
            found = again(_batch(rows, width), [2, 4], model)
            assert [tuple(states.shape) for states in found.states] == [(len(rows), width, 4)] * 2
            _assert_same(found, _Model(dtype, per_token)(_batch(rows, width)), rows, per_token)
    assert model.asked == 2


def test_states_keep_the_type_that_the_model_gives_them(tmp_path: Path) -> None:
    """Some of a model in float16 may be kept in float32, since float16 does not hold its numbers."""
    cache = StatesCache(tmp_path, np.array(LENGTHS))
    live = _Model(torch.float32)(_batch([0, 1]))
    large = Signals(live.logits, [states * 1e5 for states in live.states], [])
    cache(_batch([0, 1]), [2, 4], lambda batch: large)
    read = cache(_batch([0, 1]), [2, 4], lambda batch: pytest.fail("asked again"))
    _assert_same(read, large, [0, 1], False)
    assert all(states.dtype == torch.float32 and states.isfinite().all() for states in read.states)


def test_a_batch_with_one_new_row_asks_the_model(tmp_path: Path) -> None:
    model, cache = _Model(), StatesCache(tmp_path, np.array(LENGTHS))
    cache(_batch([0, 1]), [2, 4], model)
    cache(_batch([1, 2]), [2, 4], model)
    assert model.asked == 2
    cache(_batch([2, 0]), [2, 4], model)
    assert model.asked == 2


def test_blocks_come_in_the_order_they_are_asked_for_and_a_new_one_asks_the_model(tmp_path: Path) -> None:
    model, cache, rows = _Model(), StatesCache(tmp_path, np.array(LENGTHS)), [0, 1]
    cache(_batch(rows), [2, 4], model)
    _assert_same(cache(_batch(rows), [4, 2], model), _Model(blocks=(4, 2))(_batch(rows)), rows)
    _assert_same(cache(_batch(rows), [4], model), _Model(blocks=(4,))(_batch(rows)), rows)
    assert model.asked == 1
    other = _Model(blocks=(3, 4))
    cache(_batch(rows), [3, 4], other)
    assert other.asked == 1
    _assert_same(cache(_batch(rows), [3, 4], other), _Model(blocks=(3, 4))(_batch(rows)), rows)
    assert other.asked == 1


def test_logits_alone_serve_a_method_without_layers_and_do_not_pretend_to_be_states(tmp_path: Path) -> None:
    model, cache = _Model(), StatesCache(tmp_path, np.array(LENGTHS), with_hidden_states=False)
    cache(_batch([0, 1]), [2, 4], model)
    assert cache(_batch([1, 0]), [], model).states == []
    assert model.asked == 1
    cache(_batch([0, 1]), [2, 4], model)
    assert model.asked == 2


def test_first_tokens_alone_take_the_place_of_one_token_a_row(tmp_path: Path) -> None:
    model = _Model(tokens=1, blocks=(2,))
    cache = StatesCache(tmp_path, np.array(LENGTHS), one_a_row=True)
    cache(_batch([3, 0, 2]), [2], model)
    found = cache(_batch([0, 2]), [2], model)
    assert model.asked == 1
    assert found.states[0].shape == (2, 1, 4)
    assert torch.equal(found.states[0], _Model(tokens=1)(_batch([0, 2])).states[0])
    assert (tmp_path / "block_2.bin").stat().st_size == 4 * 4 * 2


def test_a_batch_without_row_numbers_is_never_looked_up(tmp_path: Path) -> None:
    cache = StatesCache(tmp_path, np.array(LENGTHS))
    asked: list[object] = []
    cache({"input_ids": torch.zeros(1, 2)}, [], lambda batch: asked.append(batch) or Signals(torch.zeros(1), []))
    assert len(asked) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_each_system")
@pytest.mark.parametrize("damage", ["changed", "cut off", "never written"])
def test_a_damaged_row_is_computed_again(tmp_path: Path, damage: str) -> None:
    StatesCache(tmp_path, np.array(LENGTHS))(_batch([0, 1, 2, 3]), [2, 4], _Model())
    file = tmp_path / "block_4.bin"
    data = bytearray(file.read_bytes())
    if damage == "changed":
        data[-3] ^= 1
    elif damage == "cut off":
        data = data[:-3]
    else:
        data[-8:] = bytes(8)
    file.write_bytes(data)
    model = _Model()
    cache = StatesCache(tmp_path, np.array(LENGTHS))
    rows = [0, 3]
    for asked in (1, 1):
        found = cache(_batch(rows), [2, 4], model)
        assert model.asked == asked
    _assert_same(found, _Model()(_batch(rows)), rows)


def test_no_damaged_byte_of_any_file_of_a_cache_is_used(tmp_path: Path) -> None:
    rows = [0, 1, 2, 3]
    StatesCache(tmp_path / "whole", np.array(LENGTHS))(_batch(rows), [2, 4], _Model())
    live, damaged = _Model()(_batch(rows)), 0
    folder = Path(shutil.copytree(tmp_path / "whole", tmp_path / "damaged"))
    for file in sorted(folder.iterdir()):
        written = file.read_bytes()
        flipped = [written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :] for at in range(0, len(written), 9)]
        for content in (None, b"", written[: len(written) // 2], *flipped):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            model = _Model()
            found = StatesCache(folder, np.array(LENGTHS))(_batch(rows), [2, 4], model)
            assert torch.equal(found.logits, live.logits.float() if not model.asked else live.logits)
            for kept, states in zip(found.states, live.states, strict=True):
                assert all(torch.equal(kept[row, :length], states[row, :length]) for row, length in enumerate(LENGTHS))
            damaged += model.asked
            for other in (tmp_path / "whole").iterdir():
                shutil.copy(other, folder)
    assert damaged > 20


def test_a_disk_that_is_full_stops_the_keeping_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    model, cache = _Model(), StatesCache(tmp_path, np.array(LENGTHS))
    for _ in range(2):
        assert cache(_batch([0]), [2], model).states[0].shape == (1, 8, 4)
    assert model.asked == 2
    (said,) = [record.message for record in caplog.records if "No space left" in record.message]
    assert said.startswith(f"cache_dir: expected to write into {tmp_path}, got an error")


def test_a_disk_that_cannot_be_read_any_more_costs_the_keeping_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a server is gone on which the cache was."""

    def gone(*_: object) -> int:
        raise OSError(116, "Stale file handle")

    model, cache = _Model(), StatesCache(tmp_path, np.array(LENGTHS))
    expected = cache(_batch([0]), [2], model).states[0]
    monkeypatch.setattr("os.preadv", gone)
    for _ in range(2):
        assert torch.equal(cache(_batch([0]), [2], model).states[0], expected)
    assert model.asked == 3
    (said,) = [record.message for record in caplog.records if "Stale file handle" in record.message]
    assert said.startswith(f"cache_dir: expected to read from {tmp_path}, got an error")


# --- whose cache ----------------------------------------------------------------------------------------------


def test_another_model_type_length_token_or_row_has_another_folder(tmp_path: Path) -> None:
    def folder(model: str = "a", features: Dataset | None = None, dtype=torch.bfloat16, first: bool = False) -> Path:
        return cache_folder(tmp_path, model, features or _features(), dtype, first)

    with_types = _features().add_column("token_type_ids", [[0] * length for length in LENGTHS])
    other_types = _features().add_column("token_type_ids", [[1] * length for length in LENGTHS])
    others = [
        folder("b"),
        folder(dtype=torch.float32),
        folder(first=True),
        folder(features=_features(first=1)),
        folder(features=_features([5, 3, 7])),
        folder(features=_features([5, 3, 1, 7])),
        folder(features=_features().select([1, 0, 2, 3])),
        folder(features=with_types),
        folder(features=other_types),
    ]
    assert len({folder(), *others}) == 10
    assert folder() == folder(features=_features().add_column("labels", [1, 0, 1, 0]))


def test_states_that_do_not_fit_the_limit_are_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    needed = sum(LENGTHS) * 4 * 2 * 2 / 1e9
    for limit, fits in ((needed, True), (needed / 1.01, False)):
        found = open_cache(tmp_path / "c", limit, "a", _features(), 2, 4, torch.bfloat16)
        assert found.with_hidden_states == fits
    assert "cache_limit: expected room for hidden states of 4 features" in caplog.text
    first = open_cache(tmp_path / "c", needed / 3, "a", _features(), 2, 4, torch.bfloat16, filter_token="first")
    assert first.with_hidden_states


def test_other_caches_in_the_folder_count_and_ones_own_does_not(tmp_path: Path) -> None:
    def fits(model: str) -> bool:
        return open_cache(tmp_path, 2e-5, model, _features(), 2, 4, torch.bfloat16).with_hidden_states

    own = cache_folder(tmp_path, "a", _features(), torch.bfloat16, None)
    own.mkdir()
    (own / "block_2.bin").write_bytes(b"x" * 40_000)
    assert fits("a")
    assert not fits("b")


# --- in the stages --------------------------------------------------------------------------------------------


def _arguments(folder: Path, **more: object) -> StageArguments:
    values = {
        "num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "disable_tqdm": True,
        "use_cpu": True, **more,
    }  # fmt: skip
    return StageArguments(str(folder), **values)


def _set_up(folder: Path, question_answering: bool) -> tuple[TaskArguments, Path, Path]:
    auto_class = AutoModelForQuestionAnswering if question_answering else AutoModelForSequenceClassification
    write = write_questions if question_answering else write_reviews
    task = TaskArguments(
        "squad_v2" if question_answering else "sequence_classification",
        train_file=str(write(folder, 27, "train")),
        validation_file=str(write(folder, 12, "validation")),
        max_seq_length=64,
        doc_stride=8,
    )
    names = {} if question_answering else CLASSES
    teacher = save_tiny(folder / "teacher", auto_class, "deberta-v2", blocks=4, initializer_range=0.3, **names)
    student = save_tiny(
        folder / "student", auto_class, "deberta-v2", blocks=2, width=8, seed=1, pooler_hidden_size=8, **names
    )
    return task, teacher, student


@pytest.mark.parametrize(
    ("options", "features", "kept"),
    [
        ({"max_steps": 3}, 24, False), ({"max_steps": 4}, 24, True), ({"max_steps": 3}, None, True),
        ({"num_train_epochs": 1}, 24, False), ({"num_train_epochs": 1.5}, 24, True), ({}, 24, True),
    ],
)  # fmt: skip
def test_outputs_are_kept_only_if_they_are_read_again(
    tmp_path: Path, options: dict[str, Any], features: int | None, kept: bool
) -> None:
    """A short stage on many rows would write gigabytes that nobody reads."""
    arguments, _, _ = _set_up(tmp_path, False)
    args = _arguments(tmp_path / "out", per_device_train_batch_size=8, **options)
    assert keeps_states(args, load_task(arguments), shared=False, features=features) is kept
    assert keeps_states(args, load_task(arguments), shared=True, features=features)


@pytest.fixture
def runs_of_frozen_models(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each run of a frozen model, validation included."""
    rows: list[int] = []
    run = FilteredModel.run

    def counted(self: FilteredModel, batch: dict[str, Tensor], need_logits: bool = True, **needs: bool) -> Signals:
        if self.frozen_model:
            rows.append(len(batch["input_ids"]))
        return run(self, batch, need_logits, **needs)

    monkeypatch.setattr(FilteredModel, "run", counted)
    return rows


@pytest.mark.parametrize("question_answering", [False, True])
@pytest.mark.parametrize("method", ["kd", "lwd"])
def test_stage_two_ends_with_the_same_weights_with_and_without_a_cache(
    tmp_path: Path, runs_of_frozen_models: list[int], method: str, question_answering: bool, float32: None
) -> None:
    arguments, teacher, student = _set_up(tmp_path, question_answering)
    results = {}
    for name, limit in (("live", 0), ("cached", 1)):
        runs_of_frozen_models.clear()
        args = _arguments(tmp_path / name, cache_limit=limit)
        results[name] = distill(teacher, student, load_task(arguments), args, DistillArguments(method))
        features = results[name]["train_features"]
        # Without a cache the variances are measured in a pass of their own.
        measured = method == "lwd"
        assert sum(runs_of_frozen_models) == features * (1 if limit else 3 + measured)
        assert not (tmp_path / name / "states-cache").exists()
    live, cached = (load_file(tmp_path / name / "model.safetensors") for name in results)
    before = load_file(student / "model.safetensors")
    assert max(float((live[name] - before[name]).abs().max()) for name in live) > 1e-2
    for name in live:
        torch.testing.assert_close(cached[name], live[name], rtol=0, atol=2e-4)


@pytest.mark.parametrize("question_answering", [False, True])
def test_stage_one_runs_the_frozen_model_once_and_learns_the_same_filters(
    tmp_path: Path, runs_of_frozen_models: list[int], question_answering: bool, float32: None
) -> None:
    arguments, teacher, _ = _set_up(tmp_path, question_answering)
    learnt, scores = {}, {}
    for name, limit in (("live", 0), ("cached", 1)):
        runs_of_frozen_models.clear()
        task, args = load_task(arguments), _arguments(tmp_path / name, cache_limit=limit)
        results = learn_filters(teacher, task, args, LearnFiltersArguments(2))
        learnt[name] = load_file(tmp_path / name / "filters.safetensors")
        scores[name] = json.loads((tmp_path / name / "block_scores.json").read_text())
        if limit:
            validation = len(task.encode(task.rows["validation"], _tokenizer(teacher)))
            # Where heads read the first token alone, the states of all tokens are looked at once, for the start.
            passes = 1 if question_answering else 2
            assert sum(runs_of_frozen_models) == passes * results["train_features"] + validation
    assert scores["live"] == scores["cached"]
    for name, weight in learnt["live"].items():
        torch.testing.assert_close(learnt["cached"][name], weight, rtol=0, atol=1e-5)


def _tokenizer(folder: Path) -> object:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_methods_and_students_share_one_folder_and_another_teacher_does_not_meet_it(
    tmp_path: Path, runs_of_frozen_models: list[int]
) -> None:
    arguments, teacher, student = _set_up(tmp_path, False)
    other = save_tiny(
        tmp_path / "other", AutoModelForSequenceClassification, "deberta-v2", blocks=4, seed=5,
        id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1},
    )  # fmt: skip
    asked = []
    for number, (method, model, seed) in enumerate(
        [("lwd", teacher, 1), ("kd", teacher, 1), ("lwd", teacher, 2), ("lwd", other, 1)]
    ):
        runs_of_frozen_models.clear()
        args = _arguments(tmp_path / str(number), cache_dir=str(tmp_path / "shared"), num_train_epochs=1, seed=seed)
        distill(model, student, load_task(arguments), args, DistillArguments(method))
        asked.append(sum(runs_of_frozen_models))
    assert asked == [27, 0, 0, 27]


def test_a_frozen_model_in_bfloat16_is_saved_as_it_was(tmp_path: Path) -> None:
    arguments, teacher, _ = _set_up(tmp_path, False)
    args = _arguments(tmp_path / "filters", frozen_dtype="bfloat16", num_train_epochs=1)
    learn_filters(teacher, load_task(arguments), args, LearnFiltersArguments(2))
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, tmp_path / "filters"))
    assert before.keys() == after.keys()
    for name in before:
        assert after[name].dtype == torch.float32
        assert torch.equal(before[name], after[name])


@pytest.mark.parametrize("frozen_dropout", [False, True])
def test_dropout_of_the_frozen_model_is_off_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen_dropout: bool
) -> None:
    arguments, teacher, _ = _set_up(tmp_path, False)
    modes: list[bool] = []
    run = FilteredModel.run

    def watched(self: FilteredModel, batch: dict[str, Tensor], need_logits: bool = True, **needs: bool) -> Signals:
        if torch.is_grad_enabled():  # not while scoring
            modes.append(self.model.training)
        return run(self, batch, need_logits, **needs)

    monkeypatch.setattr(FilteredModel, "run", watched)
    args = _arguments(tmp_path / "filters", num_train_epochs=1)
    learn_filters(teacher, load_task(arguments), args, LearnFiltersArguments(2, frozen_dropout=frozen_dropout))
    assert modes
    assert set(modes) == {frozen_dropout}


def test_processes_run_a_model_they_share_together_or_not_at_all(tmp_path: Path) -> None:
    """One of them has no row left, another lacks a row: all run the model, and none of them waits for ever."""
    cache, model = StatesCache(tmp_path, np.array(LENGTHS)), _Model()
    cache(_batch([0, 1]), model.blocks, model)
    told: list[bool] = []

    def agree(here: bool) -> bool:
        told.append(here)
        return all(told)

    cache.agree = agree
    _assert_same(cache(_batch([1, 0]), model.blocks, model), model(_batch([1, 0])), [1, 0])
    assert (told, model.asked) == ([True], 2)
    without_rows = {name: tensor for name, tensor in _batch([0]).items() if name != ROW}
    cache(without_rows, model.blocks, lambda batch: model(_batch([0])))
    assert (told, model.asked) == ([True, False], 3)
    cache(_batch([1, 0]), model.blocks, model)
    assert (told, model.asked) == ([True, False, True], 4)


# --- many rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk_is_full", [False, True])
def test_where_rows_begin_is_not_in_memory_unless_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_is_full: bool
) -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 200_000)
    if disk_is_full:

        def full(**_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(row_file.tempfile, "TemporaryFile", full)
    cache = StatesCache(tmp_path / "cache", lengths)
    assert isinstance(cache.starts, np.memmap) != disk_is_full
    assert np.array_equal(cache.starts, np.concatenate([[0], lengths.cumsum()]))
    assert np.array_equal(cache.lengths, lengths)
    assert not any(cache.folder.iterdir())


def test_a_row_that_is_known_to_be_whole_says_nothing_of_its_neighbours(tmp_path: Path) -> None:
    file = row_file.RowFile(tmp_path / "x", row_file.RowForm([2], False, torch.float32), np.arange(21))
    for row in (0, 7, 8, 19):
        file.write([row], torch.full((1, 2), float(row)))
    assert [row for row in range(20) if file._has_seen(row)] == [0, 7, 8, 19]
    assert [row for row in range(20) if file.knows([row])] == [0, 7, 8, 19]
    assert len(file._seen) == 3


class HiddenWords(SequenceClassification):
    """A task whose training batches change from update to update."""

    def augment(self, batch: dict[str, Tensor], tokenizer: Any, seeds: Sequence[int]) -> dict[str, Tensor]:
        hidden = torch.tensor([[seed % 5] for seed in seeds])
        return batch | {"input_ids": batch["input_ids"].scatter(1, 1 + hidden, tokenizer.unk_token_id)}


class PaddedLeft(SequenceClassification):
    def collate(self, features: list[dict[str, Any]], tokenizer: Any) -> dict[str, Tensor]:
        batch = super().collate(features, tokenizer)
        names = ("input_ids", "attention_mask")
        return batch | {name: batch[name].flip(1) for name in names}


def test_the_teacher_reads_a_batch_as_it_was_changed(
    tmp_path: Path, runs_of_frozen_models: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said of the words that were hidden in the first epoch is no target in the second."""
    arguments, teacher, student = _set_up(tmp_path, False)
    monkeypatch.setitem(TASKS, "hidden_words", HiddenWords)
    args = _arguments(tmp_path / "out", cache_dir=str(tmp_path / "cache"), num_train_epochs=2)
    task = load_task(replace(arguments, task="hidden_words"))
    results = distill(teacher, student, task, args, DistillArguments("kd"))
    assert sum(runs_of_frozen_models) >= 2 * results["train_features"]
    assert not list((tmp_path / "cache").glob("*"))


def test_padding_on_the_left_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, teacher, student = _set_up(tmp_path, False)
    monkeypatch.setitem(TASKS, "padded_left", PaddedLeft)
    with pytest.raises(InputError, match="expected batches with padding on the right alone"):
        distill(teacher, student, load_task(replace(arguments, task="padded_left")), _arguments(tmp_path / "out"),
                DistillArguments("kd"))  # fmt: skip
