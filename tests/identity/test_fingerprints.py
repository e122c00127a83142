"""Fingerprints: the same content has the same one wherever it is, and other content another."""

from __future__ import annotations

import hashlib
import importlib
import json
import linecache
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, IterableDataset, List, Value
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from ted_distill.identity import (
    CONTENT,
    backbone_fingerprint,
    changes,
    config_content,
    file_fingerprint,
    fingerprint,
    function_fingerprint,
    head_fingerprint,
    rows_fingerprint,
    source_fingerprint,
    tokenizer_fingerprint,
    weights_fingerprint,
)
from ted_distill.identity import content as identity
from ted_distill.method.layer_losses import LAYER_LOSSES
from tiny import save_tiny, tiny_config, tiny_tokenizer

ROWS: dict[str, list[Any]] = {
    "text": ["the film", "", None, "naïve café", "a" * 300],
    "label": [0, 1, None, 2, -1],
    "score": [0.5, -0.0, float("nan"), 1e300, None],
    "flag": [True, False, None, True, True],
    "tokens": [["a", "b"], [], None, ["c", None], ["ab", ""]],
    "answers": [{"text": ["x"], "start": [3]}, {"text": [], "start": []}, None, {"text": ["y", "z"], "start": [0, 1]},
                {"text": [None], "start": [None]}],
}  # fmt: skip


# --- rows -----------------------------------------------------------------------------------------------------------


def test_rows_have_one_fingerprint_however_they_lie_in_memory_and_on_disk(tmp_path: Path) -> None:
    rows = Dataset.from_dict(ROWS)
    expected = rows_fingerprint(rows)
    twice = Dataset.from_dict({name: values * 2 for name, values in ROWS.items()})
    assert rows_fingerprint(twice.select(range(5))) == expected
    assert rows_fingerprint(twice.select(np.array([5, 6, 7, 8, 9]))) == expected
    assert rows_fingerprint(rows.select([4, 3, 2, 1, 0]).select([4, 3, 2, 1, 0])) == expected
    assert rows_fingerprint(rows.select_columns(sorted(ROWS))) == expected
    rows.save_to_disk(tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "two")
    assert rows_fingerprint(Dataset.load_from_disk(tmp_path / "two")) == expected
    chunked = pa.concat_tables([rows.data.table.slice(0, 2), rows.data.table.slice(2)])
    assert rows_fingerprint(Dataset(chunked)) == expected


def changed(column: str, row: int, value: Any) -> dict[str, list[Any]]:
    return {**ROWS, column: [value if number == row else old for number, old in enumerate(ROWS[column])]}


@pytest.mark.parametrize(
    "other",
    [
        changed("text", 0, "the Film"),
        changed("text", 1, None),
        changed("text", 2, ""),
        changed("label", 0, 1),
        changed("label", 2, 0),
        changed("score", 0, 0.5000000001),
        changed("flag", 2, False),
        changed("tokens", 0, ["ab"]),
        changed("tokens", 0, ["a", "b", ""]),
        changed("tokens", 1, None),
        changed("tokens", 2, []),
        changed("answers", 0, {"text": ["x"], "start": [4]}),
        changed("answers", 1, None),
        {name: values[::-1] for name, values in ROWS.items()},
        {name: values[:4] for name, values in ROWS.items()},
        {"other" if name == "text" else name: values for name, values in ROWS.items()},
        {name: values for name, values in ROWS.items() if name != "flag"},
    ],
)
def test_any_other_value_order_number_or_name_gives_other_rows(other: dict[str, list[Any]]) -> None:
    assert rows_fingerprint(Dataset.from_dict(other)) != rows_fingerprint(Dataset.from_dict(ROWS))


def test_text_cut_elsewhere_between_two_rows_is_other_text() -> None:
    assert rows_fingerprint(Dataset.from_dict({"text": ["ab", "c"]})) != rows_fingerprint(
        Dataset.from_dict({"text": ["a", "bc"]})
    )


def test_the_order_of_the_classes_counts() -> None:
    def rows(names: list[str]) -> Dataset:
        return Dataset.from_dict({"tags": [[0, 1]]}, features=Features({"tags": List(ClassLabel(names=names))}))

    assert rows_fingerprint(rows(["a", "b"])) != rows_fingerprint(rows(["b", "a"]))


def test_decimals_and_dates_count_by_their_value() -> None:
    from datetime import date
    from decimal import Decimal

    def rows(value: Any) -> Dataset:
        return Dataset(pa.table({"value": pa.array([value])}))

    assert rows_fingerprint(rows(Decimal("1.50"))) == rows_fingerprint(rows(Decimal("1.50")))
    assert rows_fingerprint(rows(Decimal("1.50"))) != rows_fingerprint(rows(Decimal("1.51")))
    assert rows_fingerprint(rows(date(2026, 1, 2))) != rows_fingerprint(rows(date(2026, 1, 3)))


def test_a_stream_is_known_by_its_first_rows() -> None:
    def stream(texts: list[str]) -> IterableDataset:
        return Dataset.from_dict({"text": texts}, features=Features({"text": Value("string")})).to_iterable_dataset()

    assert rows_fingerprint(stream(["a", "b"])) == rows_fingerprint(stream(["a", "b"]))
    assert rows_fingerprint(stream(["a", "b"])) != rows_fingerprint(stream(["a", "c"]))


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_has_one_backbone_whatever_head_it_is_loaded_with(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", AutoModel)
    plain = AutoModel.from_pretrained(folder)
    torch.manual_seed(1)
    headed = AutoModelForSequenceClassification.from_pretrained(folder)
    assert backbone_fingerprint(plain) == backbone_fingerprint(headed)
    before = backbone_fingerprint(headed), head_fingerprint(headed)
    with torch.no_grad():
        headed.classifier.weight[0, 0] += 1
    assert (backbone_fingerprint(headed), head_fingerprint(headed) == before[1]) == (before[0], False)
    assert head_fingerprint(headed, ["classifier.weight"]) != before[1]
    with torch.no_grad():
        headed.bert.encoder.layer[1].output.dense.bias[0] += 1
    assert backbone_fingerprint(headed) != before[0]


def test_weights_left_out_do_not_count() -> None:
    model = AutoModelForSequenceClassification.from_config(tiny_config("bert"))
    head = [name for name in model.state_dict() if name.startswith("classifier.")]
    before = weights_fingerprint(model, head)
    with torch.no_grad():
        model.classifier.weight.zero_()
    assert weights_fingerprint(model, head) == before


def test_single_numbers_among_weights_count() -> None:
    one, other = ({"scale": torch.tensor(value), "steps": torch.tensor(3)} for value in (1.5, 2.5))
    assert weights_fingerprint(one) == weights_fingerprint({**one})
    assert weights_fingerprint(one) != weights_fingerprint(other)


def test_a_config_says_the_same_from_another_folder_and_version(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", AutoModel)
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    text = (moved / "config.json").read_text().replace('"transformers_version": "', '"transformers_version": "4.')
    (moved / "config.json").write_text(text)
    assert config_content(AutoConfig.from_pretrained(folder)) == config_content(AutoConfig.from_pretrained(moved))
    (moved / "config.json").write_text(text.replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
    assert config_content(AutoConfig.from_pretrained(folder)) != config_content(AutoConfig.from_pretrained(moved))


# --- tokenizers -----------------------------------------------------------------------------------------------------


def test_a_tokenizer_is_the_same_after_calls_and_in_another_folder(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer(["the film", "a"], padding=True, truncation=True, max_length=4)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.save_pretrained(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (tokenizer_fingerprint(AutoTokenizer.from_pretrained(tmp_path / name)) for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: tokenizer.add_tokens(["novel"]),
        lambda tokenizer: setattr(tokenizer, "model_max_length", 63),
        lambda tokenizer: setattr(tokenizer, "padding_side", "left"),
        lambda tokenizer: setattr(tokenizer, "truncation_side", "left"),
        lambda tokenizer: setattr(tokenizer, "pad_token", "[MASK]"),
        lambda tokenizer: setattr(tokenizer, "model_input_names", ["input_ids"]),
        lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", _lowercase()),
    ],
)
def test_a_tokenizer_that_does_something_else_is_another(change: Callable[[Any], Any]) -> None:
    tokenizer, other = tiny_tokenizer(), tiny_tokenizer()
    change(other)
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(other)


def _lowercase() -> Any:
    from tokenizers import normalizers

    return normalizers.Lowercase()


# --- other things ---------------------------------------------------------------------------------------------------


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    for name, content in (("a.txt", b"1"), ("b.csv", b"1"), ("c.txt", b"2")):
        (tmp_path / name).write_bytes(content)
    assert file_fingerprint(tmp_path / "a.txt") == file_fingerprint(tmp_path / "b.csv")
    assert file_fingerprint(tmp_path / "a.txt") != file_fingerprint(tmp_path / "c.txt")


def test_plain_values_are_known_whatever_the_order_of_their_keys() -> None:
    assert fingerprint({"a": 1, "b": [2, (3,)]}) == fingerprint({"b": [2, [3]], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})


def test_a_function_is_known_by_the_source_of_its_module(tmp_path: Path) -> None:
    import importlib.util

    def load(name: str, source: str) -> Any:
        (tmp_path / f"{name}.py").write_text(source)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        import sys

        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module.function

    one, same, other = (
        load("one", "def function(): return helper()\ndef helper(): return 1\n"),
        load("same", "def function(): return helper()\ndef helper(): return 1\n"),
        load("other", "def function(): return helper()\ndef helper(): return 2\n"),
    )
    assert source_fingerprint(one) == source_fingerprint(same)
    assert source_fingerprint(one) != source_fingerprint(other)


def test_differences_are_named_and_contents_are_not_shown() -> None:
    found = {"task": {"task": "sst2"}, "arguments": {"learning_rate": "1e-3", "seed": "1"}, "weights": "a" * 64}
    wanted = {"task": {"task": "mnli"}, "arguments": {"learning_rate": "1e-4", "seed": "1"}, "weights": "b" * 64}
    assert changes(found, wanted) == [
        "task task was sst2, now mnli",
        "arguments learning_rate was 1e-3, now 1e-4",
        "weights changed",
    ]
    assert changes(found, found) == []
    assert changes({"pairs": [(2, 1)]}, {"pairs": [[2, 1]]}) == []
    assert changes({"data": {"train": "a" * 64}}, {"data": {}}) == ["data train was other data, now none"]


def test_what_another_version_has_no_argument_for_is_passed_over_and_nothing_else() -> None:
    found = {"arguments": {"old": "1", "seed": "1"}, "model": {"config": {"a": 1}, "class": "A"}, "extra": 1}
    wanted = {"arguments": {"new": "1", "seed": "1"}, "model": {"config": {"b": 1}, "class": "A"}, "extra": 1}
    assert changes(found, wanted, same_versions=False) == []
    assert len(changes(found, wanted, same_versions=True)) == 4
    wanted["arguments"]["seed"] = "2"
    assert changes(found, wanted, same_versions=False) == ["arguments seed was 1, now 2"]
    assert changes({"extra": 1}, {}, same_versions=False) == ["extra was 1, now none"]


def test_a_number_that_is_written_in_another_way_is_the_same_argument() -> None:
    """Flags make 2.0 of what is 2 in Python."""
    kept = {"arguments": {"num_train_epochs": "2.0", "learning_rate": "0.001"}, "labels": ["1"]}
    assert changes(kept, {"arguments": {"num_train_epochs": "2", "learning_rate": "1e-3"}, "labels": ["1"]}) == []
    assert changes(kept, {"arguments": {"num_train_epochs": "3", "learning_rate": "1e-3"}, "labels": ["1.0"]}) == [
        "arguments num_train_epochs was 2.0, now 3",
        "labels was ['1'], now ['1.0']",
    ]


# --- once for each process ------------------------------------------------------------------------------------------


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> dict[Any, str]:
    """The files that are known, where a file needs no time to settle."""
    known: dict[Any, str] = {}
    monkeypatch.setattr(identity, "_files", known)
    monkeypatch.setattr(identity, "_SETTLED", -1.0)
    return known


def test_a_file_that_is_as_it_was_is_not_read_again(tmp_path: Path, settled: dict[Any, str]) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    found = file_fingerprint(file)
    (state,) = settled
    settled[state] = "as known"
    assert file_fingerprint(file) == "as known"
    assert file_fingerprint(shutil.copy(file, tmp_path / "copy")) == found


def test_a_file_with_other_content_of_the_same_size_and_time_is_read_again(
    tmp_path: Path, settled: dict[Any, str]
) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    before, times = file_fingerprint(file), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    time.sleep(0.02)
    file.write_bytes(b"two")
    os.utime(file, ns=times)
    assert file_fingerprint(file) == hashlib.sha256(b"two").hexdigest() != before
    other = tmp_path / "other"
    other.write_bytes(b"six")
    os.utime(other, ns=times)
    other.replace(file)
    assert file_fingerprint(file) == hashlib.sha256(b"six").hexdigest()


def test_a_file_that_was_written_a_moment_ago_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[Any, str] = {}
    monkeypatch.setattr(identity, "_files", known)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    file_fingerprint(file)
    assert not known


def test_only_so_many_fingerprints_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_KNOWN", 2)
    known = {"a": "1"}
    for key in "bc":
        identity._keep(known, key, key)
    assert known == {"b": "b", "c": "c"}


def test_a_tokenizer_that_changes_after_it_is_known_is_another() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer("a text", truncation=True, max_length=4, padding="max_length")
    assert tokenizer_fingerprint(tokenizer) == before
    content = {
        "special": tokenizer.special_tokens_map,
        "longest": tokenizer.model_max_length,
        "inputs": tokenizer.model_input_names,
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "backend": {**json.loads(tokenizer.backend_tokenizer.to_str()), "truncation": None, "padding": None},
    }
    assert before == fingerprint(content)  # as those that finished stages have recorded
    tokenizer.add_tokens(["[NEW]"])
    assert tokenizer_fingerprint(tokenizer) != before


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Fingerprint of the function `loss` of a file of this text, imported anew beside other files."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def made(text: str, name: str = "own_losses", **files: str) -> str | None:
        for other, content in {name: text, **files}.items():
            (tmp_path / f"{other}.py").write_text(content)
            sys.modules.pop(other, None)
        importlib.invalidate_caches()
        linecache.clearcache()
        try:
            return function_fingerprint(importlib.import_module(name).loss)
        finally:
            for other in (name, *files):
                sys.modules.pop(other, None)

    return made


LOSS = """
import functools, torch, helpers
from torch import nn
SCALE = 2
CRITERION = nn.SmoothL1Loss()
WEIGHTS = torch.tensor([1.0, 2.0])
HISTORY = []

class Power:
    number = 2
    def of(self, x):
        return x ** self.number

def help(x):
    return 3 * x

def counted(function):
    @functools.wraps(function)
    def wrapper(*args):
        HISTORY.append(1)
        return 4 * function(*args)
    return wrapper

@counted
def distance(x, y, power=5, of=torch.nn.functional.mse_loss):
    return help(Power().of(x - y) ** power) + SCALE + CRITERION(x, y) + WEIGHTS.sum() + helpers.more(x)

loss = functools.partial(distance, y=6)
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SCALE = 2", "SCALE = 7"), ("SmoothL1Loss()", "MSELoss()"), ("[1.0, 2.0]", "[1.0, 3.0]"),
        ("number = 2", "number = 7"), ("** self.number", "* self.number"), ("return 3 * x", "return 7 * x"),
        ("4 * function", "7 * function"), ("power=5", "power=7"), ("y=6", "y=7"), ("mse_loss", "l1_loss"),
        ("+ SCALE +", "- SCALE +"),
    ],
)  # fmt: skip
def test_a_function_is_known_by_all_that_it_does_and_names(
    before: str, after: str, own_file: Callable[..., str | None]
) -> None:
    """A layer loss of one's own is one of many things in a file, of which the others may change."""
    helpers = "def more(x):\n    return x\n"
    one = own_file(LOSS, helpers=helpers)
    assert one is not None
    assert own_file(LOSS.replace(before, after), helpers=helpers) != one
    assert own_file(LOSS, helpers=helpers.replace("return x", "return 2 * x")) != one
    assert own_file("# a note\n" + LOSS + "\nprint('done', HISTORY)\n", helpers=helpers) == one
    assert own_file(LOSS, name="moved_losses", helpers=helpers) == one


@pytest.mark.parametrize(
    ("text", "helpers", "before", "after"),
    [
        ("from helpers import W", "W = [1.0, 2.0]", "2.0", "3.0"),
        ("from helpers import V as W", "V = {'a': 1}", "1", "2"),
        ("from helpers import *", "W = [1.0]\nW[0] = 5", "5", "6"),
        ("W, V = [1.0], [2.0]", "", "1.0", "3.0"),
        ("if True:\n    W = [1.0]", "", "1.0", "3.0"),
        ("N = 3\nW = list(range(N))", "", "N = 3", "N = 4"),
        ("def made():\n    return [1.0]\nW = made()", "", "1.0", "3.0"),
        ("for W in [[1.0]]:\n    pass", "", "1.0", "3.0"), ("W = {}\nW.update({'a': 1})", "", "1", "2"),
        ("W = []\ndef fill():\n    W.append(1)\nfill()", "", "1", "2"),
    ],
)  # fmt: skip
def test_a_list_counts_wherever_and_however_it_is_written(
    text: str, helpers: str, before: str, after: str, own_file: Callable[..., str | None]
) -> None:
    loss = "\ndef loss(x):\n    return W\n"
    changed = own_file(text.replace(before, after) + loss, helpers=helpers.replace(before, after))
    assert own_file(text + loss, helpers=helpers) not in (changed, None)


def test_where_a_file_is_does_not_count_also_where_a_value_names_it(own_file: Callable[..., str | None]) -> None:
    text = "import os\nHERE = os.path.abspath(__file__)\nPLACE = [HERE, __name__]\ndef loss(x):\n    return PLACE\n"
    assert own_file(text) == own_file(text, name="moved_losses") is not None


def test_values_of_one_process_are_no_part_of_what_a_function_does(own_file: Callable[..., str | None]) -> None:
    text = (
        "import logging, time\nBEGUN = str(time.perf_counter())\nLOG = logging.getLogger('loss-' + BEGUN)\n"
        "def loss(x):\n    LOG.debug(x)\n    return x\n"
    )
    assert own_file(text) == own_file(text) is not None


def test_what_a_function_counts_while_it_runs_is_no_part_of_it(own_file: Callable[..., str | None]) -> None:
    text = (
        "SEEN = []\nSTEP = 0\nTABLE = {'f': print, 'x': object()}\n"
        "def loss(x):\n    global STEP\n    STEP += 1\n    SEEN.append(x)\n    return TABLE\n"
    )
    assert own_file(text) == own_file(text + "called = loss(1)\n") is not None


def test_a_value_of_a_notebook_counts_as_its_last_cell_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*cells: str) -> str | None:
        module = ModuleType("notebook")
        vars(module).update({CONTENT: "typed", "_ih": list(cells)})
        monkeypatch.setitem(sys.modules, "notebook", module)
        for cell in cells:
            exec(cell, vars(module))
        return function_fingerprint(vars(module)["loss"])

    loss = "def loss(x):\n    SEEN.append(x)\n    return W"
    once = made("SEEN = []", "W = [1]", loss)
    assert once == made("SEEN = []", "W = [2]", loss, "loss(1)", "W = [1]") is not None
    assert once != made("SEEN = []", "W = [2]", loss)


def test_a_function_that_is_typed_is_known_by_what_it_does_and_encloses() -> None:
    def made(text: str, **values: Any) -> str | None:
        module = ModuleType("typed_losses")
        vars(module).update({CONTENT: "typed", **values})
        sys.modules["typed_losses"] = module
        exec(text, vars(module))
        return function_fingerprint(vars(module)["loss"])

    outer = "def make(weight):\n    return lambda x: weight * x\nloss = make({weight})"
    helped = "def help(x):\n    return {factor} * x\ndef loss(x):\n    return help(x) + offset"
    found = [
        made(outer.format(weight=1)), made(outer.format(weight=2)), made(helped.format(factor=1), offset=1),
        made(helped.format(factor=2), offset=1), made(helped.format(factor=1), offset=2),
    ]  # fmt: skip
    assert len({*found, None}) == 6
    assert made("\n\n" + helped.format(factor=1), offset=1) == found[2]
    del sys.modules["typed_losses"]


def test_functions_of_libraries_are_known_by_their_versions() -> None:
    assert function_fingerprint(torch.nn.functional.mse_loss) is None
    assert function_fingerprint(LAYER_LOSSES["mse"]) is None
