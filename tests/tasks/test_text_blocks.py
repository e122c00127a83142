"""Running text: how rows are joined, cut into blocks, streamed, and scored with a stride."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from ted_distill import InputError, StageArguments, finetune, load_task
from ted_distill.stages.lifecycle import read_data
from ted_distill.stages.rows.held_out import hold_out
from ted_distill.tasks import Task, TaskArguments
from ted_distill.tasks.text.blocks import blocks, windows
from tiny import save_tiny, tiny_tokenizer, write_text


def causal(folder: Path, **arguments: Any) -> Task:
    return load_task(TaskArguments("causal_lm", max_seq_length=8, **arguments))


def given(**rows: Dataset) -> Task:
    return load_task(TaskArguments("causal_lm", max_seq_length=8), **rows)


def tokenizer_with_ends() -> PreTrainedTokenizerFast:
    """One whose end-of-text token is `[SEP]`, and that puts nothing around a text."""
    tokenizer = tiny_tokenizer(token_type_ids=False)
    tokenizer.eos_token = "[SEP]"
    tokenizer.backend_tokenizer.post_processor = None
    return tokenizer


# --- blocks and windows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 7, 8, 100])
def test_blocks_are_the_text_and_lose_no_token(size: int) -> None:
    tokens = np.arange(43)
    found = blocks(tokens, size)
    assert [token for ids in found["input_ids"] for token in ids] == tokens.tolist()
    assert found["length"] == [len(ids) for ids in found["input_ids"]]
    assert set(found["length"][:-1]) <= {size}


def test_special_tokens_stand_around_every_block() -> None:
    found = blocks(np.arange(10, 20), 6, before=[1], after=[2])
    assert found["input_ids"] == [[1, 10, 11, 12, 13, 2], [1, 14, 15, 16, 17, 2], [1, 18, 19, 2]]


@pytest.mark.parametrize(("size", "stride", "length"), [(8, 8, 43), (8, 4, 43), (8, 3, 44), (8, 1, 9), (8, 4, 5)])
def test_windows_score_every_token_once_with_the_context_they_promise(size: int, stride: int, length: int) -> None:
    scored = []
    for window in windows(np.arange(length), size, stride):
        ids, first = window["input_ids"], window["scored_from"]
        assert len(ids) <= size
        # Those at the start of the text have less before them.
        assert first >= size - stride or ids[0] == 0
        scored += ids[first:]
    assert scored == list(range(length))


@pytest.mark.parametrize(
    ("length", "stride", "said"),
    [(1, 4, "at least two tokens, got 1"), (20, 0, "1 to 8 tokens"), (20, 9, "1 to 8 tokens")],
)
def test_a_text_or_stride_that_is_none_is_refused(length: int, stride: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        windows(np.arange(length), 8, stride)


# --- rows -------------------------------------------------------------------------------------------------------


def ids_of(task: Task, tokenizer: PreTrainedTokenizerFast, split: str = "train") -> list[int]:
    found = task.encode_training(task.rows[split], tokenizer)["input_ids"]
    return [token for ids in found for token in ids]


def test_rows_are_documents_unless_they_are_lines(tmp_path: Path) -> None:
    rows = [{"text": "the film was good."}, {"text": "a book"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    tokenizer = tokenizer_with_ends()
    first, second = (tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in rows)
    end = [tokenizer.eos_token_id]
    assert ids_of(causal(tmp_path, train_file=str(file)), tokenizer) == [*first, *end, *second, *end]
    assert ids_of(causal(tmp_path, train_file=str(file), row_separator="none"), tokenizer) == [*first, *second]
    lines = write_text(tmp_path, 6)
    text = lines.read_text()
    assert ids_of(causal(tmp_path, train_file=str(lines)), tokenizer) == tokenizer(text)["input_ids"]
    with_ends = ids_of(causal(tmp_path, train_file=str(lines), row_separator="eos"), tokenizer)
    assert with_ends.count(tokenizer.eos_token_id) == 6


def test_one_document_that_ends_with_a_newline_makes_no_lines_of_the_others(tmp_path: Path) -> None:
    texts = [f"the film number {number} was good." for number in range(20)]
    texts[3] += "\n"
    task = given(train=Dataset.from_dict({"text": texts}))
    tokenizer = tokenizer_with_ends()
    assert ids_of(task, tokenizer).count(tokenizer.eos_token_id) == 20


def test_documents_of_several_lines_are_no_lines() -> None:
    texts = [f"the film {number}:\n    was good\n" for number in range(20)]
    task = given(train=Dataset.from_dict({"text": texts}))
    tokenizer = tokenizer_with_ends()
    assert ids_of(task, tokenizer).count(tokenizer.eos_token_id) == 20


def test_all_splits_are_joined_as_the_training_rows_are() -> None:
    lines = [f"line {number} of a text\n" for number in range(20)]
    rest = Dataset.from_dict({"text": ["a last line", "the film was good."]})
    task = given(train=Dataset.from_dict({"text": lines}), validation=rest)
    tokenizer = tokenizer_with_ends()
    scored = task.encode(task.rows["validation"], tokenizer)["input_ids"]
    assert tokenizer.eos_token_id not in [token for ids in scored for token in ids]


@pytest.mark.parametrize(("train", "validation"), [("", "\n"), ("\n", "")])
def test_splits_in_two_forms_are_refused_unless_one_is_named(train: str, validation: str) -> None:
    splits = {
        name: Dataset.from_dict({"text": [f"text {number} of {name}{end}" for number in range(20)]})
        for name, end in (("train", train), ("validation", validation))
    }
    said = "lines of one text, as in train, got texts with" if train else "as in train, got lines of one text; give"
    with pytest.raises(InputError, match=f"validation: .*{said}.* set row_separator"):
        _ = given(**splits).rows
    for separator in ("none", "eos"):
        assert load_task(TaskArguments("causal_lm", row_separator=separator), **splits).rows
    mixed = Dataset.from_dict({"text": [f"text {number}" + "\n" * (number % 2) for number in range(20)]})
    assert given(train=splits["train"], validation=mixed).rows


@pytest.mark.parametrize(("end", "kept"), [("\n", True), ("", False)])
def test_lines_of_a_text_keep_their_order_when_some_are_held_out_or_left_out(end: str, kept: bool) -> None:
    texts = [f"line {number} of a text{end}" for number in range(40)]
    text = Dataset.from_dict({"text": texts})
    fewer = {"validation_size": 10, "max_train_samples": 20, "max_eval_samples": 5}
    rows = load_task(TaskArguments("causal_lm", **fewer), train=text).rows
    assert (rows["train"]["text"] == texts[:20]) is kept
    assert (rows["validation"]["text"] == texts[30:35]) is kept
    assert not set(rows["train"]["text"]) & set(rows["validation"]["text"])
    parts = hold_out(given(train=text), seed=1).rows
    assert ([*parts["validation"]["text"], *parts["train"]["text"]] == texts) is kept


def test_how_rows_of_text_are_joined_is_said() -> None:
    lines, texts = (Dataset.from_dict({"text": [f"a text{end}"] * 3}) for end in ("\n", ""))
    task = given(train=lines)
    assert task.describe_labels(lines) == "3 rows, read as lines of one text (row_separator)"
    assert str(task.describe_labels(texts)).startswith("3 rows, read as texts with an end-of-text token between them")


def test_a_stride_that_leaves_a_token_without_one_before_it_is_refused(tmp_path: Path) -> None:
    task = causal(tmp_path, train_file=str(write_text(tmp_path, 6)), stride=8)
    with pytest.raises(InputError, match=r"stride: expected 1 to 7 tokens, .*got 8"):
        task.encode(task.rows["train"], tokenizer_with_ends())


def test_text_files_keep_their_line_feeds(tmp_path: Path) -> None:
    file = write_text(tmp_path, 5)
    rows = causal(tmp_path, train_file=str(file)).rows["train"]
    assert "".join(rows["text"]) == file.read_text()


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        ([{"body": "a"}], {}, r"expected a column 'text', got columns body; .*--text_column"),
        ([{"text": " "}], {}, "expected text in column 'text', got none in the first 1 rows"),
        ([{"text": "a"}, {"text": None}], {}, r"expected text in every row, got none in 1 row \(2; counted from 1\)"),
        ([{"text": "a"}], {"row_separator": "dot"}, "row_separator: expected one of auto, eos, none, got dot"),
        ([{"text": "a"}], {"validation_size": 0}, "validation_size: expected a whole number of at least 1, got 0"),
        ([{"text": "a"}], {"validation_size": 3}, "expected less than the 1 training rows, got 3"),
    ],
)
def test_rows_without_text_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], arguments: dict[str, Any], said: str
) -> None:
    file = tmp_path / "rows.parquet"
    Dataset.from_list(rows).to_parquet(file)
    with pytest.raises(InputError, match=said):
        _ = causal(tmp_path, train_file=str(file), **arguments).rows


def test_rows_held_out_are_not_trained_on(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": f"row {number}"}) for number in range(20)))
    rows = causal(tmp_path, train_file=str(file), validation_size=5).rows
    assert len(rows["validation"]) == 5
    assert {*rows["train"]["text"]} | {*rows["validation"]["text"]} == {f"row {number}" for number in range(20)}
    stream = causal(tmp_path, train_file=str(file), validation_size=5, streaming=True).rows
    assert stream["validation"]["text"] == [f"row {number}" for number in range(5)]
    assert [row["text"] for row in stream["train"]] == [f"row {number}" for number in range(5, 20)]


# --- streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["txt", "jsonl", "parquet"])
def test_a_stream_gives_the_same_blocks(tmp_path: Path, ending: str) -> None:
    text = write_text(tmp_path, 40)
    file = tmp_path / f"rows.{ending}"
    rows = Dataset.from_dict({"text": text.read_text().splitlines(keepends=True)})
    if ending == "txt":
        file = text
    elif ending == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        rows.to_parquet(file)
    whole, stream = (causal(tmp_path, train_file=str(file), streaming=streaming) for streaming in (False, True))
    tokenizer = tokenizer_with_ends()
    expected = whole.encode_training(whole.rows["train"], tokenizer)
    found = stream.encode_training(stream.rows["train"], tokenizer)
    assert isinstance(found, IterableDataset)
    # All but the rest that fills no block.
    assert [row["input_ids"] for row in found] == expected["input_ids"][: len(expected) - 1]


def stage(folder: Path, **arguments: Any) -> StageArguments:
    return StageArguments(
        str(folder), per_device_train_batch_size=2, disable_tqdm=True, learning_rate=1e-2, **arguments
    )


def test_a_stream_needs_a_number_of_steps(tmp_path: Path) -> None:
    file = str(write_text(tmp_path))
    task = causal(tmp_path, train_file=file, validation_file=file, streaming=True)
    model = save_tiny(tmp_path / "m", AutoModelForCausalLM, "gpt2")
    with pytest.raises(InputError, match="max_steps: expected a number of steps"):
        finetune(model, task, stage(tmp_path / "out"))


def test_an_interrupted_stage_on_a_stream_goes_on_with_the_same_text(tmp_path: Path) -> None:
    file = str(write_text(tmp_path))
    model = save_tiny(tmp_path / "m", AutoModelForCausalLM, "gpt2")
    weights = []
    for name in ("whole", "halved"):
        task = causal(tmp_path, train_file=file, validation_file=file, streaming=True)
        args = stage(tmp_path / name, max_steps=8, eval_strategy="steps", eval_steps=4, save_strategy="steps")
        args.save_steps, args.load_best_model_at_end, args.lr_scheduler_type = 4, False, "constant"
        if name == "halved":
            _stop_after(4, lambda args=args, task=task: finetune(model, task, args))
            assert (tmp_path / name / "checkpoint-4").is_dir()
        finetune(model, task, args)
        weights.append(AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def _stop_after(steps: int, run: Any) -> None:
    """Interrupt a stage after so many steps, as Ctrl-C would."""
    from ted_distill.training.trainer import StageTrainer

    step, done = StageTrainer.training_step, [0]

    def counted(self: StageTrainer, *args: Any, **kwargs: Any) -> Any:
        if done[0] == steps + 1:
            raise KeyboardInterrupt
        done[0] += 1
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", counted)
        with pytest.raises(KeyboardInterrupt):
            run()


def test_a_stream_is_read_no_further_than_it_is_asked_for(tmp_path: Path) -> None:
    file = str(write_text(tmp_path, 60))
    task = causal(tmp_path, train_file=file, streaming=True, max_train_samples=12)
    data = read_data(task, tokenizer_with_ends(), stage(tmp_path / "out", max_steps=1, eval_strategy="no"))
    whole = causal(tmp_path, train_file=file)
    first = whole.rows["train"].select(range(12))
    found = whole.encode_training(first, tokenizer_with_ends())["input_ids"]
    expected = [ids for ids in found if len(ids) == 8]
    assert sorted(row["input_ids"] for row in data.train) == sorted(expected)
    assert task.row_counts == {"train": "stream"}


def test_tasks_that_look_at_all_rows_refuse_a_stream(tmp_path: Path) -> None:
    task = load_task(TaskArguments("sequence_classification", train_file=str(write_text(tmp_path)), streaming=True))
    with pytest.raises(
        InputError, match="streaming: expected false, as task sequence_classification needs all its rows"
    ):
        _ = task.rows
