"""Blocks of a stream: from any place on they are the rest, and processes that share the tokenising see the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest
from datasets import IterableDataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from ted_distill import InputError, TaskArguments, load_task
from ted_distill.tasks.text import block_stream
from ted_distill.tasks.text.block_stream import BlockStream, Place, Share, Walk, read_place, write_place
from ted_distill.tasks.text.blocks import Ends, stream_blocks
from ted_distill.training.sharded.shares import ProcessRows
from tiny import tiny_tokenizer, write_text

ROWS = 47


@pytest.fixture(autouse=True)
def _few_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_stream, "_ROWS", 5)


def blocks_of(folder: Path, source: str = "file", buffer_size: int = 1, **ends: tuple[int, ...]) -> BlockStream:
    """Of a file, of the same rows without some at its beginning, or of rows given in Python."""
    file = write_text(folder, ROWS)
    size = {"validation_size": 6} if source == "skipped" else {}
    rows = load_task(TaskArguments("causal_lm", train_file=str(file), streaming=True, **size)).rows["train"]
    stream = stream_blocks(rows, tokenizer(), Ends((1,), (2,)), 8, **ends, has_positions=source != "given")
    return stream.shuffle(seed=3, buffer_size=buffer_size)


def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer(token_type_ids=False)


def listed(blocks: Iterator[np.ndarray]) -> list[list[int]]:
    return [block.tolist() for block in blocks]


@pytest.mark.parametrize("buffer_size", [1, 2, 7, 500])
@pytest.mark.parametrize("source", ["file", "skipped", "given"])
def test_from_each_place_on_a_stream_gives_what_came_after_it(tmp_path: Path, source: str, buffer_size: int) -> None:
    stream = blocks_of(tmp_path, source, buffer_size, before=(3,), after=(4, 5))
    stream.set_epoch(2)
    places: list[Place] = []
    every = listed(stream.walk(Walk(passed=places.append)))
    assert [row["input_ids"] for row in stream] == every
    assert len(places) > (0 if buffer_size == 500 else 5)
    for number, place in enumerate(places):
        write_place(place, tmp_path / f"{number}.safetensors")
    for number in range(len(places)):
        place = read_place(tmp_path / f"{number}.safetensors")
        assert listed(stream.walk(Walk(place))) == every[place.blocks :]


def test_nothing_before_a_place_is_tokenised_again(tmp_path: Path) -> None:
    stream = blocks_of(tmp_path, buffer_size=4)
    places: list[Place] = []
    list(stream.walk(Walk(passed=places.append)))
    texts = [row["text"] for row in stream.source.rows]
    tokenise = stream.source.tokenise
    for place in places[::5]:
        made: list[str] = []

        def noted(rows: dict[str, list[Any]], *others: Any, made: list[str] = made) -> dict[str, list[Any]]:
            made += rows["text"]
            return tokenise(rows, *others)

        source = block_stream.BlockSource(**{**vars(stream.source), "tokenise": noted})
        list(BlockStream(source, 3, 4).walk(Walk(place)))
        assert made == texts[place.rows :]


def test_two_passes_through_the_same_rows_do_not_disturb_each_other(tmp_path: Path) -> None:
    stream = blocks_of(tmp_path)
    places: list[Place] = []
    first = stream.walk(Walk(passed=places.append))
    every = []
    for block in first:
        every.append(block.tolist())
        next(iter(stream))
    assert listed(stream.walk(Walk(places[len(places) // 2]))) == every[places[len(places) // 2].blocks :]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_make_batches_give_each_block_once(tmp_path: Path, workers: int) -> None:
    stream = blocks_of(tmp_path, buffer_size=4)
    loader = DataLoader(ProcessRows(stream, 3, False, 1, 0), 3, collate_fn=list, num_workers=workers)
    found = [row["input_ids"] for batch in loader for row in batch]
    assert found == [row["input_ids"] for row in stream]


def test_an_epoch_has_an_order_of_its_own_and_all_blocks(tmp_path: Path) -> None:
    orders = []
    for epoch in (0, 1, 0):
        stream = blocks_of(tmp_path, buffer_size=10)
        stream.set_epoch(epoch)
        orders.append([row["input_ids"] for row in stream])
    plain = [row["input_ids"] for row in blocks_of(tmp_path)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(plain)
    assert orders[0] != plain


class Group:
    """Threads that exchange what they have, as processes do."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.parts = size, Barrier(size), [None] * size

    def share(self, process: int) -> Share:
        def gather(part: Any) -> list[Any]:
            self.parts[process] = part
            self.barrier.wait(5)
            found = list(self.parts)
            self.barrier.wait(5)
            return found

        return Share(self.size, process, gather)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_processes_tokenise_each_text_once_and_see_the_same_blocks(
    tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there are more of them than rows at once."""
    stream, group = blocks_of(tmp_path, buffer_size=6), Group(processes)
    alone = listed(stream.walk(Walk()))
    made: list[str] = []
    original, one_at_a_time = block_stream._Tokens._made, Lock()

    def noted(self: Any, texts: list[Any]) -> np.ndarray:
        with one_at_a_time:  # a tokenizer belongs to one thread
            made.extend(texts)
            return original(self, texts)

    monkeypatch.setattr(block_stream._Tokens, "_made", noted)
    with ThreadPoolExecutor(processes) as threads:
        streams = [blocks_of(tmp_path, "given", 6) for _ in range(processes)]
        walks = [own.walk(Walk(share=group.share(number))) for number, own in enumerate(streams)]
        found = threads.map(listed, walks)
        assert all(blocks == alone for blocks in found)
    assert sorted(made) == sorted(row["text"] for row in stream.source.rows)


@pytest.mark.parametrize("place", [1, 1050])
@pytest.mark.parametrize(("text", "said"), [(None, "text in every row, got none"), ("a\0b", "text without NUL")])
def test_rows_of_a_stream_that_a_file_is_refused_for_are_refused_whenever_they_come(
    tmp_path: Path, place: int, text: str | None, said: str
) -> None:
    rows: list[dict[str, Any]] = [{"text": f"text number {number}"} for number in range(1100)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [*rows[:place], {"text": text}, *rows[place:]])))
    task = load_task(TaskArguments("causal_lm", train_file=str(tmp_path / "x.jsonl"), streaming=True))
    stop = pytest.raises(InputError, match=f"train: expected {said}")
    if place == 1:
        with stop:
            _ = task.rows
        return
    blocks = task.encode_training(task.rows["train"], tokenizer())
    with stop:
        list(blocks)


def test_a_text_that_one_process_cannot_read_stops_all(tmp_path: Path) -> None:
    rows = [{"text": "some words"}] * 4 + [{"text": ["no", "text"]}]
    streams = [
        stream_blocks(IterableDataset.from_generator(lambda: iter(rows)), tokenizer(), Ends(), 2, has_positions=False)
        for _ in range(3)
    ]
    group = Group(3)

    def said(process: int) -> str:
        with pytest.raises(InputError, match="train: expected text in every row") as error:
            list(streams[process].walk(Walk(share=group.share(process))))
        return str(error.value)

    with ThreadPoolExecutor(3) as threads:
        assert len(set(threads.map(said, range(3)))) == 1
