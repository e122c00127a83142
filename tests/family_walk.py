"""One family of models through one task, from its config to a saved model: right, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from family_configs import tiny_family_config
from ted_distill import FilterConfig, Filters, InputError, StageArguments, Task, load_model
from ted_distill.method.shapes import num_blocks
from ted_distill.models.load import LoadedModel
from ted_distill.models.students import StudentArguments, student
from ted_distill.stages.autocast import fitting_autocast
from ted_distill.training.speed import undo_fast_modules, use_fast_modules
from tiny import tiny_tokenizer

Batch = dict[str, Tensor]


def walk(family: str, task: Task, folder: Path) -> str:
    """`right`, `right without states`, or the line that refuses the model; anything else is raised."""
    make_model(family, task, folder / "made")
    try:
        loaded = load_model(folder / "made", task, new_head=True)
    except InputError as error:
        problems = error.problems
    else:
        return check_right(loaded, task, folder)
    (problem,) = problems
    assert "\n" not in problem
    return problem


def check_right(loaded: LoadedModel, task: Task, folder: Path) -> str:
    """`right`, or `right without states`: rows, learning, the stages' changes, and saving."""
    batches = batches_of(task, loaded)
    check_rows(loaded, task, batches)
    check_learning(loaded, task, batches[0])
    check_autocast(loaded, task, batches[0])
    check_fast_modules(loaded, task, batches[0], folder)
    logits = logits_of(loaded, task, batches[0])
    loaded.model.save_pretrained(folder / "saved")
    loaded.tokenizer.save_pretrained(folder / "saved")
    again = load_model(folder / "saved", task)
    assert again.findings == loaded.findings
    assert again.label_order is None
    assert_same(logits_of(again, task, batches[0]), logits)
    check_student(loaded, task, batches[0], folder)
    if task.label_names:
        config = json.loads((folder / "saved" / "config.json").read_text())
        assert list(config["id2label"].values()) == task.label_names
    return "right" if loaded.findings.states_problem is None else "right without states"


def make_model(family: str, task: Task, folder: Path) -> None:
    """A folder with a tiny model of random weights, or with its config alone where no model can be made of it."""
    torch.manual_seed(0)
    config = tiny_family_config(family)
    try:
        task.auto_model.from_config(config).save_pretrained(folder)
    except Exception:
        config.save_pretrained(folder)
    tiny_tokenizer(token_type_ids=False).save_pretrained(folder)


def batches_of(task: Task, loaded: LoadedModel) -> list[Batch]:
    """All rows in one batch, and each alone; with hidden tokens, where the task hides some."""
    features = task.encode(task.rows["validation"], loaded.tokenizer)
    rows = [features[row] for row in range(min(4, len(features)))]
    rows += [features[len(features) - 1]]  # the last block of a text is shorter
    return [task.collate(rows, loaded.tokenizer), *(task.collate([row], loaded.tokenizer) for row in rows)]


def check_rows(loaded: LoadedModel, task: Task, batches: list[Batch]) -> None:
    """Each row alone, without padding, has the logits and states that it has in the batch."""
    together, *alone = batches
    filters = all_blocks(loaded)
    with torch.no_grad():
        found = loaded.with_filters(filters, task).eval()(together)
        for row, batch in enumerate(alone):
            length = int(batch["attention_mask"].sum())
            cut = {
                name: value[:, :length] if value.dim() > 1 and name != "labels" else value
                for name, value in batch.items()
            }
            own = loaded.with_filters(filters, task).eval()(cut)
            of_row = found.logits[row]
            assert_same(of_row[:length] if of_row.shape[0] == together["input_ids"].shape[1] else of_row, own.logits[0])
            for states, own_states in zip(found.states, own.states, strict=True):
                assert states.shape[:2] == together["input_ids"].shape
                assert_same(states[row, :length], own_states[0])


def check_student(loaded: LoadedModel, task: Task, batch: Batch, folder: Path) -> None:
    """One of all the blocks of what was saved is the same model, where the family can be cut."""
    try:
        blocks = ",".join(str(block) for block in range(1, num_blocks(loaded.model.config) + 1))
        student(folder / "saved", folder / "student", StudentArguments(layers=blocks))
    except InputError as error:
        if "a model that can be cut" not in str(error) and "a config with num_hidden_layers" not in str(error):
            raise
        return
    assert_same(logits_of(load_model(folder / "student", task), task, batch), logits_of(loaded, task, batch))


def all_blocks(loaded: LoadedModel) -> Filters | None:
    if loaded.findings.states_problem is not None:
        return None
    return Filters.identity(FilterConfig.for_model(loaded.model.config).blocks)


def check_learning(loaded: LoadedModel, task: Task, batch: Batch) -> None:
    """The task's loss, and one on filtered states, reach the backbone."""
    filters = None
    if loaded.findings.states_problem is None:
        filters = Filters.random(FilterConfig.for_model(loaded.model.config, filter_output_dim=4))
    module = loaded.with_filters(filters, task, "first" if task.first_token_only else None).train()
    signals = module(batch)
    loss = task.loss(signals.logits, batch) + sum(states.square().mean() for states in signals.states)
    loss.backward()
    assert torch.isfinite(loss)
    moved = [name for name, weight in loaded.model.named_parameters() if weight.grad is not None and weight.grad.any()]
    assert len(moved) > 3
    loaded.model.zero_grad()


def check_autocast(loaded: LoadedModel, task: Task, batch: Batch) -> None:
    """It learns in bf16 autocast too, unless it was found not to run in it, and is then left in float32."""
    if fitting_autocast(loaded, task, torch.device("cpu"), "bf16") == "no":
        return
    module = loaded.as_module(task).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = task.loss(module(batch).logits, batch)
    loss.backward()
    assert torch.isfinite(loss)
    loaded.model.zero_grad()


def check_fast_modules(loaded: LoadedModel, task: Task, batch: Batch, folder: Path) -> None:
    """The stages' changes inside a model leave its logits as they are."""
    before = logits_of(loaded, task, batch)
    args = StageArguments(str(folder / "out"), report_to="none", use_cpu=True)
    use_fast_modules(loaded.model, args)
    assert_same(logits_of(loaded, task, batch), before)
    undo_fast_modules(loaded.model)


def logits_of(loaded: LoadedModel, task: Task, batch: Batch) -> Tensor:
    with torch.no_grad():
        return loaded.as_module(task).eval()(batch).logits


def assert_same(found: Tensor, expected: Tensor) -> None:
    size = float(expected[expected.isfinite()].abs().max().clamp(min=1e-6))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * size)
