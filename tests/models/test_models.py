"""Loading models, and whether a teacher fits a student: every family, against transformers itself."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ted_distill import (
    DistillArguments,
    FilterConfig,
    Filters,
    InputError,
    ModelArguments,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    load_model,
    load_task,
    student_from_teacher,
)
from ted_distill.method.filters import FilteredModel
from ted_distill.models.exponents import with_numbers
from ted_distill.models.students import make_student
from ted_distill.models.tokenizers import choose_tokenizers
from tiny import CLASSES, FAMILIES, save_tiny, tiny_config, tiny_tokenizer, usual_first, write_questions, write_reviews

AUTO = {"sequence_classification": AutoModelForSequenceClassification, "squad_v2": AutoModelForQuestionAnswering}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Task]:
    folder = tmp_path_factory.mktemp("data")
    reviews, questions = str(write_reviews(folder, 12)), str(write_questions(folder, 6))
    files = {"sequence_classification": reviews, "squad_v2": questions}
    return {
        name: load_task(
            TaskArguments(task=name, train_file=file, validation_file=file, max_seq_length=48, doc_stride=8)
        )
        for name, file in files.items()
    }


@pytest.fixture(scope="module")
def reviews(tasks: dict[str, Task]) -> Task:
    return tasks["sequence_classification"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a tiny model once for each set of arguments."""
    made: dict[str, Path] = {}

    def save(auto_class: type = AutoModelForSequenceClassification, family: str = "bert", **changes: Any) -> Path:
        if auto_class is AutoModelForSequenceClassification and "id2label" not in changes:
            changes |= CLASSES
        key = repr((auto_class.__name__, family, sorted(changes.items())))
        if key not in made:
            made[key] = save_tiny(tmp_path_factory.mktemp(family), auto_class, family, **changes)
        return made[key]

    return save


def labels(*names: str) -> dict[str, Any]:
    """Changes to a config that name its classes."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def batch_of(task: Task, tokenizer: PreTrainedTokenizerFast, rows: int = 5) -> dict[str, Tensor]:
    features = task.encode(task.rows["validation"], tokenizer)
    return task.collate([features[row] for row in range(rows)], tokenizer)


def logits_of(outputs: Any) -> Tensor:
    return outputs.logits if "logits" in outputs else torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)


def bytes_of(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


# --- logits and states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_name", AUTO)
@pytest.mark.parametrize("family", usual_first(FAMILIES))
@torch.no_grad()
def test_logits_and_states_are_those_of_the_plain_model(
    family: str, task_name: str, tasks: dict[str, Task], folder_of: Callable[..., Path]
) -> None:
    task, auto_class = tasks[task_name], AUTO[task_name]
    folder = folder_of(auto_class, family, blocks=4)
    loaded = load_model(folder, task)
    filters = Filters.identity([2, 4])
    batch = batch_of(task, loaded.tokenizer)
    found = loaded.with_filters(filters, task)(batch)
    plain = auto_class.from_pretrained(folder).eval()
    inputs = {name: batch[name] for name in AutoTokenizer.from_pretrained(folder).model_input_names}
    expected = plain(**inputs, output_hidden_states=True)
    assert torch.equal(found.logits, logits_of(expected))
    assert found.logits.abs().sum() > 0
    assert len(expected.hidden_states) == 5
    assert len(found.states) == 2
    assert torch.equal(found.states[0], expected.hidden_states[2])
    assert torch.equal(found.states[1], expected.hidden_states[4])
    assert torch.equal(loaded.as_module(task)(batch).logits, found.logits)


@pytest.mark.parametrize("family", usual_first(FAMILIES))
def test_states_of_learnt_filters_come_from_the_blocks_they_name(
    family: str, reviews: Task, folder_of: Callable[..., Path]
) -> None:
    loaded = load_model(folder_of(family=family, blocks=4), reviews)
    filters = Filters.random(FilterConfig.for_model(loaded.model.config, 2, 24))
    batch = batch_of(reviews, loaded.tokenizer)
    with torch.no_grad():
        states = loaded.with_filters(filters, reviews)(batch).states
        unfiltered = loaded.with_filters(Filters.identity([2, 4]), reviews)(batch).states
    for k in range(2):
        weight, bias = filters.filters[k].weight, filters.filters[k].bias
        torch.testing.assert_close(states[k], unfiltered[k] @ weight.T + bias)


@pytest.mark.parametrize("family", usual_first(FAMILIES))
@pytest.mark.parametrize("method", ["kd", "lwd"])
def test_the_teacher_keeps_its_bytes_and_gets_no_gradient_while_the_student_learns(
    family: str,
    method: str,
    reviews: Task,
    folder_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    float32: None,
) -> None:
    seen: list[tuple[FilteredModel, dict[str, bytes]]] = []
    freeze = FilteredModel.freeze

    def recorded(self: FilteredModel) -> FilteredModel:
        seen.append((self, bytes_of(self)))
        return freeze(self)

    monkeypatch.setattr(FilteredModel, "freeze", recorded)
    teacher, student = folder_of(family=family, blocks=4), folder_of(family=family, blocks=2, seed=1)
    args = StageArguments(
        str(tmp_path), max_steps=1, learning_rate=0.1, eval_strategy="no", save_strategy="no", report_to="none",
        disable_tqdm=True,
    )  # fmt: skip
    distill(teacher, student, reviews, args, DistillArguments(method))
    (live, before), *others = seen
    assert not others
    assert bytes_of(live) == before
    assert all(weight.grad is None and not weight.requires_grad for weight in live.parameters())
    assert not any(module.training for module in live.modules())
    signals = live(batch_of(reviews, load_model(teacher, reviews).tokenizer))
    assert not signals.logits.requires_grad
    # The student did learn: this is not the teacher of a training that did nothing.
    old, new = (
        AutoModelForSequenceClassification.from_pretrained(folder).state_dict() for folder in (student, tmp_path)
    )
    assert old.keys() == new.keys()
    assert sum(not torch.equal(old[name], new[name]) for name in old) > len(old) / 2


# --- labels ---------------------------------------------------------------------------------------------------


def three_ways(tmp_path: Path) -> Task:
    file = tmp_path / "rows.jsonl"
    names = ["bad", "fine", "good"] * 3
    file.write_text("\n".join(json.dumps({"text": f"the film was {name}", "label": name}) for name in names))
    return load_task(TaskArguments(task="sequence_classification", train_file=str(file), validation_file=str(file)))


@pytest.mark.parametrize(
    "names", [("good", "bad", "fine"), ("fine", "good", "bad"), ("GOOD", "Bad", "FINE"), ("bad", "fine", "good")]
)
def test_logits_stand_in_the_order_of_the_datas_labels_whatever_the_models(
    names: tuple[str, ...], tmp_path: Path, folder_of: Callable[..., Path]
) -> None:
    task = three_ways(tmp_path)
    assert task.label_names == ["bad", "fine", "good"]
    folder = folder_of(**labels(*names))
    loaded = load_model(folder, task)
    batch = batch_of(task, loaded.tokenizer)
    with torch.no_grad():
        found = loaded.as_module(task)(batch).logits
        plain = AutoModelForSequenceClassification.from_pretrained(folder)
        own = plain(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}).logits
    for column, label in enumerate(["bad", "fine", "good"]):
        assert torch.equal(found[:, column], own[:, [name.lower() for name in names].index(label)])
    assert list(plain.config.id2label.values()) == list(names)


def test_a_teacher_with_another_label_order_teaches_the_same(tmp_path: Path, folder_of: Callable[..., Path]) -> None:
    """The same weights with rows of the head swapped are the same teacher."""
    task = three_ways(tmp_path)
    folder, order = folder_of(**labels("bad", "fine", "good")), [2, 0, 1]
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.classifier.weight.data = model.classifier.weight.data[order]
    model.classifier.bias.data = model.classifier.bias.data[order]
    model.config.id2label = {0: "good", 1: "bad", 2: "fine"}
    model.config.label2id = {"good": 0, "bad": 1, "fine": 2}
    model.save_pretrained(tmp_path / "permuted")
    tiny_tokenizer().save_pretrained(tmp_path / "permuted")
    one, other = load_model(folder, task), load_model(tmp_path / "permuted", task)
    batch = batch_of(task, one.tokenizer)
    with torch.no_grad():
        logits = [loaded.as_module(task)(batch).logits for loaded in (one, other)]
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-6, atol=1e-7)
    assert logits[0].std() > 1e-4


def test_labels_the_model_does_not_know_are_refused_with_its_own(
    tmp_path: Path, folder_of: Callable[..., Path]
) -> None:
    folder = folder_of(**labels("bad", "great", "awful"))
    with pytest.raises(
        InputError, match=r"to have the data's labels, got bad, great, awful without fine, good; rename"
    ):
        load_model(folder, three_ways(tmp_path))


@pytest.mark.parametrize("names", [("bad", "good"), ("LABEL_0", "LABEL_1")])
def test_another_number_of_labels_is_refused(
    names: tuple[str, ...], tmp_path: Path, folder_of: Callable[..., Path]
) -> None:
    got = "to have the 3 labels of the task, got 2" if names[0] == "LABEL_0" else "got bad, good without fine; rename"
    with pytest.raises(InputError, match=got):
        load_model(folder_of(**labels(*names)), three_ways(tmp_path))


def test_labels_without_names_are_taken_in_the_datas_order_with_a_warning(
    tmp_path: Path, folder_of: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(**labels("LABEL_0", "LABEL_1", "LABEL_2"))
    with caplog.at_level(logging.WARNING, "ted_distill"):
        loaded = load_model(folder, three_ways(tmp_path))
    assert loaded.label_order is None
    (record,) = (record for record in caplog.records if record.name.startswith("ted_distill.models"))
    assert f"labels: expected named labels in the config of {folder}, got LABEL_0" in record.getMessage()
    assert record.getMessage().endswith("taking the data's order: bad, fine, good")


def test_named_labels_give_no_warning(
    reviews: Task, folder_of: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ted_distill"):
        load_model(folder_of(), reviews)
    assert not [record for record in caplog.records if record.name.startswith("ted_distill.models")]


# --- heads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_name", AUTO)
@pytest.mark.parametrize("family", usual_first(FAMILIES))
def test_a_missing_head_is_refused_unless_a_new_one_is_wanted(
    family: str, task_name: str, tasks: dict[str, Task], folder_of: Callable[..., Path]
) -> None:
    task, folder = tasks[task_name], folder_of(AutoModel, family)
    with pytest.raises(
        InputError,
        match=r"expected a trained head for this task in .*, got a checkpoint without .*; fine-tune it first",
    ):
        load_model(folder, task)
    torch.manual_seed(0)
    first = load_model(folder, task, new_head=True)
    torch.manual_seed(1)
    other = load_model(folder, task, new_head=True)
    backbone = AutoModel.from_pretrained(folder).state_dict()
    prefix = f"{first.model.base_model_prefix}."
    weights, others = first.model.state_dict(), other.model.state_dict()
    kept = {name for name in weights if name.startswith(prefix)}
    assert all(torch.equal(weights[name], backbone[name.removeprefix(prefix)]) for name in kept)
    assert any(not torch.equal(weights[name], others[name]) for name in weights.keys() - kept)
    if task.label_names:
        assert first.model.config.id2label == {0: "bad", 1: "good"}
        assert first.model.config.label2id == {"bad": 0, "good": 1}
        assert first.model.config.problem_type == "single_label_classification"


def test_fine_tuning_keeps_a_head_that_knows_the_labels(reviews: Task, folder_of: Callable[..., Path]) -> None:
    folder = folder_of(**labels("Good", "Bad"))
    loaded = load_model(folder, reviews, new_head=True)
    saved = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(loaded.model.classifier.weight, saved.classifier.weight)
    assert loaded.label_order == [1, 0]
    assert loaded.model.config.id2label == {0: "Good", 1: "Bad"}


def test_fine_tuning_keeps_a_head_whose_labels_have_no_names(reviews: Task, folder_of: Callable[..., Path]) -> None:
    folder = folder_of(**labels("LABEL_0", "LABEL_1"))
    loaded = load_model(folder, reviews, new_head=True)
    saved = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(loaded.model.classifier.weight, saved.classifier.weight)
    assert loaded.model.config.id2label == {0: "bad", 1: "good"}


@pytest.mark.parametrize("family", usual_first(FAMILIES))
@pytest.mark.parametrize("names", [("wrote", "sang"), ("one", "two", "three")], ids=["same number", "other number"])
def test_fine_tuning_makes_a_new_head_where_the_labels_are_others(
    family: str,
    names: tuple[str, ...],
    reviews: Task,
    folder_of: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = folder_of(family=family, **labels(*names))
    loaded = load_model(folder, reviews, new_head=True)
    saved = AutoModelForSequenceClassification.from_pretrained(folder).state_dict()
    last = next(name for name in saved if re.search(r"^classifier\.(out_proj\.)?weight$", name))
    weight = loaded.model.state_dict()[last]
    assert weight.shape == (2, 16)
    assert not torch.equal(weight, saved[last][:2])
    assert 0 < weight.std() < (0.06 if family != "modernbert" else 0.5)
    backbone = [name for name in saved if name.startswith(f"{loaded.model.base_model_prefix}.")]
    assert all(torch.equal(loaded.model.state_dict()[name], saved[name]) for name in backbone)
    assert loaded.model.config.id2label == {0: "bad", 1: "good"}
    assert loaded.label_order is None
    assert f"in {folder}, got one for {', '.join(names)}; making a new head" in caplog.text


def test_an_incomplete_backbone_is_refused_even_where_a_new_head_is_wanted(
    reviews: Task, folder_of: Callable[..., Path]
) -> None:
    folder = folder_of(blocks=2)
    with pytest.raises(
        InputError, match=r"got a checkpoint without 16 of its weights \(first: bert\.encoder\.layer\.2"
    ):
        load_model(folder, reviews, ModelArguments(config_overrides="num_hidden_layers=3"), new_head=True)


def test_a_backbone_of_another_size_is_refused_even_where_a_new_head_is_wanted(
    reviews: Task, folder_of: Callable[..., Path]
) -> None:
    for new_head in (False, True):
        with pytest.raises(InputError, match=r"to load as|weights of other sizes"):
            load_model(folder_of(), reviews, ModelArguments(config_overrides="intermediate_size=32"), new_head=new_head)


def test_a_folder_that_is_not_there_is_refused(reviews: Task, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected a folder or a Hub id, got the folder .*nowhere, which does not exist"
    ):
        load_model(tmp_path / "nowhere", reviews)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"expected a folder with a config.json, got .*empty, which holds nothing; check it"
    ):
        load_model(tmp_path / "empty", reviews)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_checkpoint_is_refused(
    share: float, reviews: Task, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    for file in folder_of().iterdir():
        content = file.read_bytes()
        cut = int(share * len(content)) if file.suffix == ".safetensors" else len(content)
        (tmp_path / file.name).write_bytes(content[:cut])
    with pytest.raises(InputError, match="to load as AutoModelForSequenceClassification, got an error"):
        load_model(tmp_path, reviews)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "gpt2"])
@pytest.mark.parametrize("left", [{}, {"tokenizer_config.json": "{}"}])
def test_a_model_without_the_files_of_its_tokenizer_is_refused(
    family: str, left: dict[str, str], reviews: Task, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    # For these families transformers then makes a tokenizer to which every word is unknown.
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder_of(family=family) / name).read_bytes())
    for name, content in left.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="to hold its tokenizer, got one without words"):
        load_model(tmp_path, reviews)


# --- config overrides -----------------------------------------------------------------------------------------


def test_config_overrides_reach_the_modules(reviews: Task, folder_of: Callable[..., Path]) -> None:
    overrides = "hidden_dropout_prob=0.25, classifier_dropout=0.5"
    model = load_model(folder_of(), reviews, ModelArguments(config_overrides=overrides)).model
    assert model.config.hidden_dropout_prob == 0.25
    assert model.bert.encoder.layer[0].output.dropout.p == 0.25
    assert model.dropout.p == 0.5
    assert load_model(folder_of(), reviews).model.dropout.p == 0.1


def test_config_overrides_may_have_exponents(reviews: Task, folder_of: Callable[..., Path]) -> None:
    overrides = "layer_norm_eps=1e-5,hidden_dropout_prob=2E-1"
    config = load_model(folder_of(), reviews, ModelArguments(config_overrides=overrides)).model.config
    assert (config.layer_norm_eps, config.hidden_dropout_prob) == (1e-5, 0.2)
    assert with_numbers({"rates": ["1e-5", {"most": "2e3"}, "e5"]}) == {"rates": [1e-5, {"most": 2000.0}, "e5"]}


def test_unknown_config_overrides_are_refused_all_at_once_with_near_names(
    reviews: Task, folder_of: Callable[..., Path]
) -> None:
    overrides = "cls_dropout=0,hidden_dropout_prop=0,initialiser_range=0.1,hidden_size"
    with pytest.raises(InputError) as refused:
        load_model(folder_of(), reviews, ModelArguments(config_overrides=overrides))
    unknown, misspelt, british, no_value = refused.value.problems
    assert "expected a field of the config of" in unknown
    assert "got `cls_dropout`; did you mean" in unknown
    assert "classifier_dropout" in unknown
    assert "hidden_dropout_prob" in misspelt
    assert "initializer_range" in british
    assert "expected `key=value`, got `hidden_size`" in no_value


def test_a_config_override_of_the_wrong_kind_is_refused(reviews: Task, folder_of: Callable[..., Path]) -> None:
    with pytest.raises(
        InputError, match=r"expected a value of hidden_dropout_prob that .* accepts, got much \(.*float"
    ):
        load_model(folder_of(), reviews, ModelArguments(config_overrides="hidden_dropout_prob=much"))


def test_a_config_override_may_hold_commas_in_brackets(reviews: Task, folder_of: Callable[..., Path]) -> None:
    overrides = "id2label={0: bad, 1: good}, hidden_dropout_prob=0.25"
    config = load_model(folder_of(), reviews, ModelArguments(config_overrides=overrides)).model.config
    assert config.id2label == {0: "bad", 1: "good"}
    assert config.hidden_dropout_prob == 0.25


@pytest.mark.parametrize("name", ["to_dict", "name_or_path", "model_type", "_name_or_path", "architectures"])
def test_a_config_override_sets_fields_of_the_model_and_nothing_else(
    name: str, reviews: Task, folder_of: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=f"expected a field of the config of .*, got `{name}`"):
        load_model(folder_of(), reviews, ModelArguments(config_overrides=f"{name}=1"))


# --- tokenizers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student_makes_them", [False, True])
def test_the_teacher_gets_token_type_ids_and_the_distilbert_student_does_not(
    student_makes_them: bool, folder_of: Callable[..., Path], tasks: dict[str, Task], tmp_path: Path
) -> None:
    task = tasks["squad_v2"]
    student_folder = save_tiny(tmp_path, AutoModelForQuestionAnswering, "distilbert")
    tiny_tokenizer(token_type_ids=student_makes_them).save_pretrained(student_folder)
    teacher = load_model(folder_of(AutoModelForQuestionAnswering), task)
    student = load_model(student_folder, task)
    batch = batch_of(task, choose_tokenizers(teacher, student, task).student)
    assert batch["token_type_ids"].sum() > 0
    seen: dict[str, set[str]] = {}
    for owner, loaded in (("teacher", teacher), ("student", student)):

        def look(module: Any, args: Any, inputs: dict[str, Any], owner: str = owner) -> None:
            seen[owner] = {name for name, value in inputs.items() if isinstance(value, Tensor)}

        loaded.model.register_forward_pre_hook(look, with_kwargs=True)
        with torch.no_grad():
            logits = loaded.as_module(task)(batch).logits
        assert torch.isfinite(logits).all()
    assert seen["teacher"] == {"input_ids", "attention_mask", "token_type_ids"}
    assert seen["student"] == {"input_ids", "attention_mask"}
    with torch.no_grad():
        blind = teacher.as_module(task)(batch | {"token_type_ids": 0 * batch["token_type_ids"]}).logits
        seeing = teacher.as_module(task)(batch).logits
    assert not torch.allclose(blind, seeing)


# --- students made from teachers ------------------------------------------------------------------------------

CUT = ["bert", "roberta", "xlm-roberta", "deberta-v2", "electra", "distilbert", "modernbert"]
BLOCK = re.compile(r"\.(?:layer|layers)\.(\d+)\.")


def teacher_of(family: str, auto_class: type = AutoModelForSequenceClassification, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return auto_class.from_config(tiny_config(family, blocks=5, **(CLASSES | changes))).eval()


def outputs_of(model: PreTrainedModel) -> Any:
    batch = {"input_ids": torch.tensor([[1, 5, 6, 7, 8, 9, 10, 11, 12, 2], [1, 9, 8, 7, 6, 5, 5, 5, 5, 2]])}
    with torch.no_grad():
        return model(**batch, attention_mask=torch.ones_like(batch["input_ids"]), output_hidden_states=True)


@pytest.mark.parametrize("blocks", [[1, 3, 5], [1, 2], [1, 4]])
@pytest.mark.parametrize("family", CUT)
def test_a_student_has_its_teachers_blocks_bit_for_bit(family: str, blocks: list[int]) -> None:
    teacher = teacher_of(family)
    before = bytes_of(teacher)
    student = student_from_teacher(teacher, blocks)
    assert student.config.num_hidden_layers == len(blocks)
    weights = student.state_dict()
    found_blocks = set()
    for name, weight in weights.items():
        match = BLOCK.search(name)
        number = None if match is None else int(match[1])
        found_blocks.add(number)
        source = name if number is None else name.replace(match[0], match[0].replace(match[1], str(blocks[number] - 1)))
        assert weight.numpy().tobytes() == before[source], name
    assert found_blocks == {None, *range(len(blocks))}
    of_one_block = sum(".0." in name and bool(BLOCK.search(name)) for name in before)
    assert of_one_block >= 5
    # A copy: training the student does not touch the teacher.
    for weight in student.parameters():
        weight.data.add_(1)
    assert bytes_of(teacher) == before
    assert teacher.config.num_hidden_layers == 5


@pytest.mark.parametrize("family", CUT)
def test_a_students_first_blocks_say_what_the_teachers_say(family: str) -> None:
    teacher = teacher_of(family)
    student = student_from_teacher(teacher, [1, 2, 4])
    expected, found = outputs_of(teacher).hidden_states, outputs_of(student).hidden_states
    assert len(found) == 4
    for block in (0, 1, 2):
        assert torch.equal(found[block], expected[block])
    assert torch.equal(outputs_of(student_from_teacher(teacher, [1, 2, 3, 4, 5])).logits, outputs_of(teacher).logits)


@pytest.mark.parametrize("auto_class", [AutoModelForSequenceClassification, AutoModelForQuestionAnswering, AutoModel])
@pytest.mark.parametrize("blocks", [[1, 3, 5], [1, 4]])
@pytest.mark.parametrize("family", CUT)
def test_a_saved_student_gives_the_same_outputs_as_the_one_in_memory(
    family: str, blocks: list[int], auto_class: type, tmp_path: Path
) -> None:
    student = student_from_teacher(teacher_of(family, auto_class), blocks)
    student.save_pretrained(tmp_path)
    reloaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    # Blocks know their place anew: caches and kinds of attention hang on it.
    places = [
        {
            name: part.layer_idx
            for name, part in model.named_modules()
            if isinstance(getattr(part, "layer_idx", None), int)
        }
        for model in (student, reloaded)
    ]
    assert places[0] == places[1]
    expected, found = outputs_of(student), outputs_of(reloaded.eval())
    assert len(found.hidden_states) == len(blocks) + 1
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(found[key], expected[key]) for key in expected if key != "hidden_states")


@pytest.mark.parametrize("family", [family for family in CUT if family != "modernbert"])
def test_a_student_of_even_blocks_is_what_they_compute_one_after_the_other(family: str, tmp_path: Path) -> None:
    teacher = teacher_of(family)
    student = student_from_teacher(teacher, [2, 4])
    student.save_pretrained(tmp_path)
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    # Blocks 1, 3 and 5 of the teacher pass on what they get.
    blocks = next(
        module for module in teacher.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == 5
    )
    for number in (4, 2, 0):
        del blocks[number]
    expected = outputs_of(teacher).logits
    assert torch.equal(outputs_of(student).logits, expected)
    assert torch.equal(outputs_of(reloaded).logits, expected)


def test_modernbert_without_its_first_block_is_refused() -> None:
    """Only the first block has no norm before its attention, so block 2 cannot be the first of a ModernBERT."""
    teacher = teacher_of("modernbert")
    for model in (teacher, teacher.base_model):
        with pytest.raises(InputError, match=r"student_layers: .*ModernBert.*; .*keep block 1"):
            student_from_teacher(model, [2, 4])


def test_modernberts_blocks_keep_their_kind_of_attention() -> None:
    teacher = teacher_of("modernbert")
    kinds = teacher.config.layer_types
    assert len(set(kinds)) == 2
    student = student_from_teacher(teacher, [1, 4, 5])
    assert student.config.layer_types == [kinds[0], kinds[3], kinds[4]]


@pytest.mark.parametrize("blocks", [[], [0, 1], [1, 6], [3, 1], [2, 2]])
def test_blocks_that_are_not_rising_numbers_of_the_teachers_are_refused(blocks: list[int]) -> None:
    with pytest.raises(InputError, match=r"student_layers: expected ascending numbers from 1 to 5, got \["):
        student_from_teacher(teacher_of("bert"), blocks)


def test_make_student_leaves_a_folder_with_head_labels_and_tokenizer(
    reviews: Task, folder_of: Callable[..., Path], tmp_path: Path
) -> None:
    teacher = folder_of(family="deberta-v2", blocks=4)
    make_student(teacher, [2, 4], tmp_path)
    loaded = load_model(tmp_path, reviews)
    assert loaded.model.config.num_hidden_layers == 2
    expected = AutoModelForSequenceClassification.from_pretrained(teacher)
    assert torch.equal(loaded.model.classifier.weight, expected.classifier.weight)
    assert AutoConfig.from_pretrained(tmp_path).id2label == {0: "bad", 1: "good"}
    assert choose_tokenizers(load_model(teacher, reviews), loaded, reviews, ["ted"]).shared


def test_a_head_or_a_backbone_of_other_sizes_than_its_config_is_refused_by_its_shapes(
    tasks: dict[str, Task], tmp_path: Path
) -> None:
    save_tiny(tmp_path, AutoModelForSequenceClassification, width=16, **CLASSES)
    config = json.loads((tmp_path / "config.json").read_text())
    file = tasks["sequence_classification"].arguments.train_file
    for changes, message in (
        ({"num_labels": 3, "id2label": {0: "bad", 1: "good", 2: "other"}},
         r"expected classifier.bias of .* to have the shape 3, as its config asks for, got 2 in its weights; "),
        ({"intermediate_size": config["intermediate_size"] + 8},
         r"\(first: bert.encoder.layer.0.intermediate.dense.bias, "),
    ):  # fmt: skip
        changed = {**config, **changes}
        changed["label2id"] = {name: number for number, name in changed["id2label"].items()}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        task = load_task(TaskArguments("sequence_classification", validation_file=file))
        with pytest.raises(InputError, match=message) as refused:
            load_model(tmp_path, task)
        assert "ignore_mismatched_sizes" not in str(refused.value)
