"""Stage II with rows that have no label: the teacher's outputs are learnt of all, the labels of some."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification
from transformers import AutoModelForTokenClassification as ForTags

from small_runs import cut_off_at
from ted_distill import DistillArguments, InputError, StageArguments, TaskArguments, distill, load_task
from ted_distill.fast.states_cache import StatesCache
from ted_distill.method.filters import Signals
from ted_distill.models.scratch import train_tokenizer
from ted_distill.stages import DistillTrainer
from ted_distill.stages.distill import open_distill
from ted_distill.stages.distill_trainer import LossSettings, distillation_terms
from ted_distill.stages.finetune import open_finetune
from ted_distill.training.labelled import LABELLED, labelled_counts
from ted_distill.training.updates import collate
from tiny import CLASSES, WORDS, save_tiny, tiny_tokenizer, write_entities, write_questions, write_reviews, write_text

pytestmark = pytest.mark.usefixtures("float32")

PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
SETTINGS = LossSettings(1.0, 0.0, 2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews, texts without labels, a teacher and students."""
    folder = tmp_path_factory.mktemp("made")
    write_reviews(folder, 14, "train")
    write_reviews(folder, 6, "validation")
    (folder / "texts.txt").write_text("".join(f"a {word} meal was very {word}.\n\n" for word in WORDS[2:14]))
    save_tiny(folder / "teacher", AutoModelForSequenceClassification, blocks=4, **PLAIN, **CLASSES)
    save_tiny(folder / "student", AutoModelForSequenceClassification, width=8, seed=1, **PLAIN, **CLASSES)
    return folder


def reviews(folder: Path, **changes: Any) -> Any:
    files = {f"{name}_file": str(folder / f"{name}.jsonl") for name in ("train", "validation")}
    files |= {"unlabelled_file": str(folder / "texts.txt")}
    return load_task(TaskArguments("sequence_classification", **(files | changes)))


def arguments(folder: Path, size: int = 4, accumulated: int = 1, **changes: Any) -> StageArguments:
    """Plain gradient descent: Adam would hide that a loss is some times too large."""
    found = {
        "per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "num_train_epochs": 1,
        "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "disable_tqdm": True, "use_cpu": True,
        "logging_steps": 1, "cache_limit": 0, **changes,
    }  # fmt: skip
    return StageArguments(str(folder), **found)


def distilled(made: Path, args: StageArguments, task: Any = None, method: str = "kd", **own: Any) -> dict[str, Any]:
    task = reviews(made) if task is None else task
    return distill(made / "teacher", made / "student", task, args, DistillArguments(method, **own))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# --- the loss -----------------------------------------------------------------------------------------------------


def test_the_prediction_loss_is_that_of_the_labelled_rows_and_the_match_that_of_all() -> None:
    torch.manual_seed(0)
    task = load_task("sequence_classification")
    logits = torch.randn(4, 3, requires_grad=True)
    teacher = torch.randn(4, 3)
    labels = torch.tensor([2, 0, 1, 0])
    mask = torch.ones(4, 5, dtype=torch.long)
    labelled = torch.tensor([True, False, True, False])
    batch = {"labels": labels, "attention_mask": mask, LABELLED: labelled}
    terms = distillation_terms(Signals(logits, []), Signals(teacher, []), task, batch, SETTINGS)
    by_hand = -(logits[0].log_softmax(0)[2] + logits[2].log_softmax(0)[1]) / 2
    assert torch.allclose(terms["pred_loss"], by_hand)
    kl = F.kl_div((logits / 2).log_softmax(-1), (teacher / 2).softmax(-1), reduction="batchmean") * 4
    assert torch.allclose(terms["match_loss"], kl)
    (gradient,) = torch.autograd.grad(terms["pred_loss"], logits, retain_graph=True)
    (expected,) = torch.autograd.grad(by_hand, logits, retain_graph=True)
    assert torch.allclose(gradient, expected)
    assert not gradient[~labelled].any()
    assert torch.autograd.grad(terms["match_loss"], logits)[0].abs().sum(dim=-1).min() > 0
    counts = labelled_counts(task, batch)
    assert [float(count) for count in counts] == [2, 4, 20]


@pytest.mark.parametrize("worst", [float("inf"), float("nan")])
def test_a_batch_without_labels_has_a_prediction_loss_of_0_whatever_its_logits(worst: float) -> None:
    task = load_task("sequence_classification")
    logits = torch.full((2, 3), worst, requires_grad=True)
    batch = {"labels": torch.zeros(2, dtype=torch.long), "attention_mask": torch.ones(2, 4)}
    batch[LABELLED] = torch.zeros(2, dtype=torch.bool)
    loss = distillation_terms(Signals(logits, []), None, task, batch, SETTINGS)["loss"]
    assert loss == 0
    assert not torch.autograd.grad(loss, logits)[0].any()
    assert float(labelled_counts(task, batch).labels) == 0


def test_a_batch_says_which_rows_have_labels_only_if_its_features_do(made: Path) -> None:
    task, tokenizer = reviews(made), tiny_tokenizer()
    features = list(task.encode(task.rows["train"].select(range(2)), tokenizer))
    assert LABELLED not in collate(features, task, tokenizer)
    marked = [feature | {LABELLED: number == 1} for number, feature in enumerate(features)]
    assert collate(marked, task, tokenizer)[LABELLED].tolist() == [False, True]


# --- the stage ----------------------------------------------------------------------------------------------------


def test_one_batch_of_8_gives_the_step_of_two_of_4_and_of_four_of_2(made: Path, tmp_path: Path) -> None:
    for size, accumulated in ((8, 1), (4, 2), (2, 4)):
        args = arguments(tmp_path / str(size), size, accumulated, train_sampling_strategy="random")
        distilled(made, args, method="lwd", mse_alpha=0.1)
    first, *others = (weights(tmp_path / str(size)) for size in (8, 4, 2))
    start = weights(made / "student")
    moved = max(float((first[name] - start[name]).abs().max()) for name in first)
    for other in others:
        assert max(float((first[name] - other[name]).abs().max()) for name in first) < 1e-4 * moved


def test_a_stage_that_is_cut_off_ends_with_the_weights_of_one_that_is_not(made: Path, tmp_path: Path) -> None:
    saved = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "no", "learning_rate": 1e-2}
    own: dict[str, Any] = {"augment": ["mask", "replace"], "unlabelled_share": 0.6}
    distilled(made, arguments(tmp_path / "whole", **saved), **own)
    with cut_off_at(3):
        distilled(made, arguments(tmp_path / "cut", **saved), **own)
    distilled(made, arguments(tmp_path / "cut", **saved), **own)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_cache_serves_rows_without_labels_bit_for_bit(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    find = StatesCache._find

    def spy(self: StatesCache, rows: list[int], *args: Any) -> Any:
        kept = find(self, rows, *args)
        found.extend(rows if kept is not None else [])
        return kept

    monkeypatch.setattr(StatesCache, "_find", spy)
    for name, limit in (("live", 0), ("cached", 1)):
        args = arguments(tmp_path / name, num_train_epochs=2, cache_limit=limit, train_sampling_strategy="sequential")
        distilled(made, args, method="lwd", mse_alpha=0.1, augment=["mask"])
    assert set(found) == set(range(14 + 12 + 14))
    first, second = weights(tmp_path / "live"), weights(tmp_path / "cached")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_epoch_has_all_rows_or_the_share_that_is_asked_for_drawn_by_the_seed(
    made: Path, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    def trained(**own: Any) -> Any:
        seed = own.pop("seed", 42)
        once = {"max_steps": 1, "eval_strategy": "no", "save_strategy": "no", "seed": seed}
        distilled(made, arguments(tmp_path / f"{len(trainers)}", **once), **own)
        return trainers[-1].train_dataset

    everything = trained()
    assert everything[LABELLED][:] == [True] * 14 + [False] * 12
    some = [trained(unlabelled_share=0.3, seed=seed) for seed in (1, 1, 2)]
    assert [rows[LABELLED][:].count(False) for rows in some] == [6, 6, 6]
    first, same, other = (rows["input_ids"][14:] for rows in some)
    assert first == same != other
    assert len(trained(unlabelled_share=0.3, augment=["mask"])) == 20
    assert len(trained(unlabelled_share=0.8, augment=["mask"])) == 14 + 56


def test_the_student_alone_sees_the_same_batches_and_learns_the_labels_alone(
    made: Path, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    results = distilled(made, arguments(tmp_path / "alone", 7, 4), method="alone")
    assert results["train_features"] == 26
    assert results["steps"] == 1
    task = reviews(made)
    model = AutoModelForSequenceClassification.from_pretrained(made / "student").eval()
    rows = tiny_tokenizer()(task.rows["train"]["text"][:], padding=True, return_tensors="pt")
    with torch.no_grad():
        # The mean over the labelled rows of the update, of all its micro-batches.
        expected = F.cross_entropy(model(**rows).logits, torch.tensor(task.rows["train"]["label"][:]))
    (said,) = [entry["pred_loss"] for entry in trainers[-1].state.log_history if "pred_loss" in entry]
    assert said == pytest.approx(float(expected), rel=1e-4)


def test_neither_fine_tuning_nor_a_stage_without_such_rows_depends_on_them(made: Path, tmp_path: Path) -> None:
    with_file, without = reviews(made), reviews(made, unlabelled_file=None)
    tunes = [open_finetune(made / "student", task, arguments(tmp_path / "x")).identity for task in (with_file, without)]
    assert tunes[0] == tunes[1]
    assert with_file.identity == without.identity
    assert with_file.row_counts == without.row_counts == {"train": 14, "validation": 6}

    def identity(task: Any, **own: Any) -> Any:
        opened = open_distill(
            made / "teacher", made / "student", task, arguments(tmp_path / "x"), DistillArguments("kd", **own)
        )
        return opened.identity

    other = tmp_path / "others.txt"
    other.write_text("the book was fine.\n")
    stages = [
        identity(without), identity(with_file), identity(with_file, unlabelled_share=0.2),
        identity(with_file, augment=["mask"]), identity(reviews(made, unlabelled_file=str(other))),
    ]  # fmt: skip
    assert "unlabelled" not in stages[0]["distill"]
    assert len({json.dumps(stage["distill"], sort_keys=True) for stage in stages}) == len(stages)


# --- every kind of task -------------------------------------------------------------------------------------------


def write_scores(folder: Path, rows: int, name: str) -> Path:
    return _labelled(folder, rows, name, lambda number, line: {"label": float(number % 5)})


def write_sets(folder: Path, rows: int, name: str) -> Path:
    return _labelled(folder, rows, name, lambda number, line: {"label": [line["label"], "long"][: 1 + number % 2]})


def write_pairs(folder: Path, rows: int, name: str) -> Path:
    return _labelled(folder, rows, name, lambda number, line: {"text_pair": f"a {WORDS[number % 5 + 2]}"})


def _labelled(folder: Path, rows: int, name: str, change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Path:
    file = write_reviews(folder, rows, name)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | change(number, line)) + "\n" for number, line in enumerate(lines)))
    return file


QA: dict[str, Any] = {"max_seq_length": 64, "doc_stride": 8}
KINDS: dict[str, tuple[str, Any, Any, dict[str, Any]]] = {
    "scores": ("regression", write_scores, AutoModelForSequenceClassification, {}),
    "sets": ("multi_label_classification", write_sets, AutoModelForSequenceClassification, {}),
    "pairs": ("sequence_classification", write_pairs, AutoModelForSequenceClassification, {}),
    "tags": ("token_classification", write_entities, ForTags, {}),
    "answers": ("squad_v2", write_questions, AutoModelForQuestionAnswering, QA),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_trains_on_rows_of_its_own_form_whose_labels_are_dropped(
    kind: str, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    name, write, auto_class, own = KINDS[kind]
    files = {f"{split}_file": str(write(tmp_path, 8, split)) for split in ("train", "validation", "unlabelled")}
    task = load_task(TaskArguments(name, **files, **own))
    labels = {"num_labels": task.num_labels} if name == "regression" else {}
    if task.label_names:
        labels = {"id2label": dict(enumerate(task.label_names))}
        labels["label2id"] = {name: number for number, name in labels["id2label"].items()}
    if problem := getattr(task, "problem_type", None):
        labels["problem_type"] = problem
    for owner, blocks in (("teacher", 4), ("student", 2)):
        save_tiny(tmp_path / owner, auto_class, blocks=blocks, seed=blocks, **PLAIN, **labels)
    swap = ["swap"] if kind in ("pairs", "answers") else []
    args = arguments(tmp_path / "out", 4, num_train_epochs=2, cache_limit=1)
    results = distilled(tmp_path, args, task, "lwd", mse_alpha=0.1, augment=["mask", "replace", *swap])
    assert results["steps"] == 12
    rows = trainers[-1].train_dataset
    assert rows[LABELLED][:].count(True) == 8
    assert all(np.isfinite(entry["match_loss"]) for entry in trainers[-1].state.log_history if "match_loss" in entry)
    # The texts are the same, but no label of the file is left.
    own_texts = task.text_columns(task.rows["train"])
    assert [task.unlabelled_rows[column][:] for column in own_texts] == [
        task.rows["train"][column][:] for column in own_texts
    ]
    dropped = {"tags": "tags", "answers": "answers"}.get(kind, "label")
    assert len({json.dumps(value if kind != "tags" else value[:1]) for value in task.unlabelled_rows[dropped]}) == 1


def test_a_teacher_with_another_tokenizer_reads_the_same_rows(
    made: Path, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    tokenizer = train_tokenizer(iter([WORDS]), 280, 64, [], masked=True)
    names = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    changes = {**PLAIN, **CLASSES, **names}
    student = save_tiny(
        tmp_path / "student", AutoModelForSequenceClassification, "roberta", vocab_size=len(tokenizer), **changes
    )
    tokenizer.save_pretrained(student)
    own = DistillArguments("kd", unlabelled_share=0.3)
    distill(made / "teacher", student, reviews(made), arguments(tmp_path / "out"), own)
    trainer = trainers[-1]
    inputs = trainer.teacher_inputs
    assert inputs is not None
    assert len(trainer.train_dataset) == len(inputs.features) == 20
    for mine, of_teacher in zip(trainer.train_dataset, inputs.features, strict=True):
        read = inputs.tokenizers.teacher.decode(of_teacher["input_ids"], skip_special_tokens=True)
        assert tokenizer.decode(mine["input_ids"], skip_special_tokens=True).replace(" ", "") == read.replace(" ", "")
    with pytest.raises(InputError, match="augment: expected swap alone, as teacher and student read different tokens"):
        distill(
            made / "teacher",
            student,
            reviews(made),
            arguments(tmp_path / "x"),
            DistillArguments("kd", augment=["mask"]),
        )


# --- refusals -----------------------------------------------------------------------------------------------------


def refused(made: Path, folder: Path, task: Any = None, **own: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        distilled(made, arguments(folder / "out"), task, **own)
    assert not (folder / "out").exists()
    return error.value.problems


def test_arguments_that_do_not_fit_are_refused_in_one_line(made: Path, tmp_path: Path) -> None:
    nothing = reviews(made, unlabelled_file=None)
    assert refused(made, tmp_path, nothing, unlabelled_share=0.5) == [
        "unlabelled_share: expected unlabelled_file or augment with it, got 0.5 and neither; name a file or leave it "
        "out"
    ]
    assert refused(made, tmp_path, nothing, augment=["swap"]) == [
        "augment: expected pairs of texts for swap, got single texts; leave swap out"
    ]
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(InputError, match="unlabelled_share: expected a number above 0 and below 1, got"):
            DistillArguments(unlabelled_share=share)
    with pytest.raises(InputError, match="augment: expected one or more of mask, replace, swap, got 'masks'"):
        DistillArguments(augment=["masks"])


def test_hiding_tokens_needs_a_token_that_hides(made: Path, tmp_path: Path) -> None:
    for owner in ("teacher", "student"):
        save_tiny(tmp_path / owner, AutoModelForSequenceClassification, **CLASSES)
        tokenizer = tiny_tokenizer()
        tokenizer.mask_token = None
        tokenizer.save_pretrained(tmp_path / owner)
    task = reviews(made)
    with pytest.raises(InputError) as error:
        distill(tmp_path / "teacher", tmp_path / "student", task, arguments(tmp_path / "o"),
                DistillArguments("kd", augment=["mask"]))  # fmt: skip
    (problem,) = error.value.problems
    assert problem.startswith("augment: expected a tokenizer with a mask token for mask, got ")


def test_running_text_is_its_own_label_and_streams_have_no_such_rows(tmp_path: Path) -> None:
    text = str(write_text(tmp_path))
    for own, said in (({}, "as all text is its own label there"), ({"streaming": True}, "with streaming")):
        task = load_task(TaskArguments("causal_lm", train_file=text, unlabelled_file=text, **own))
        with pytest.raises(InputError) as error:
            _ = task.rows
        (problem,) = error.value.problems
        assert problem.startswith("unlabelled_file: expected none")
        assert said in problem


def test_wrong_rows_are_named_with_those_of_the_other_files_before_any_stage(made: Path, tmp_path: Path) -> None:
    bad, train = tmp_path / "bad.jsonl", tmp_path / "train.jsonl"
    bad.write_text('{"text": "fine"}\n{"text": " "}\n')
    train.write_text('{"text": "fine", "label": "a"}\n{"text": "", "label": "b"}\n')
    task = reviews(made, train_file=str(train), validation_file=None, unlabelled_file=str(bad))
    with pytest.raises(InputError) as error:
        _ = task.rows
    assert sorted(problem.split(":")[0] for problem in error.value.problems) == ["train", "unlabelled"]
    for file, said in ((bad, "expected a column 'sentence'"), (tmp_path / "none.txt", "found no such file")):
        lines = [{"sentence": "good", "label": 1, "other": 1}, {"sentence": "bad", "label": 0, "other": 1}]
        train.write_text("".join(json.dumps(line) + "\n" for line in lines))
        bad.write_text('{"text": "fine", "label": 1}\n')
        with pytest.raises(InputError, match=said):
            _ = reviews(made, train_file=str(train), validation_file=None, unlabelled_file=str(file)).rows
