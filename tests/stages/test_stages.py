"""What the stages compute and leave behind, on tiny models."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from quick_stages import reviews_task
from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    StageArguments,
    Task,
    TaskArguments,
    TrainingError,
    distill,
    evaluate,
    finetune,
    learn_filters,
    load_task,
)
from ted_distill.method.filter_files import load_filters
from ted_distill.method.filters import Filters
from ted_distill.stages import DistillTrainer, FinetuneTrainer
from ted_distill.tasks import SequenceClassification
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny, write_questions

# The name of 5.23; older versions of transformers know the other one.
NEWER = hasattr(StageArguments, "activation_checkpointing")
CHECKPOINTING = "activation_checkpointing" if NEWER else "gradient_checkpointing"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return reviews_task(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("questions")
    files = write_questions(folder, 16, "train"), write_questions(folder, 9, "validation")
    arguments = TaskArguments("squad_v2", train_file=str(files[0]), validation_file=str(files[1]), max_seq_length=64)
    arguments.doc_stride = 8
    return load_task(arguments)


def arguments(folder: Path, **changes: Any) -> StageArguments:
    """Quick and quiet."""
    defaults = {"per_device_train_batch_size": 8, "num_train_epochs": 1, "learning_rate": 1e-3, "disable_tqdm": True}
    return StageArguments(str(folder), **(defaults | {"logging_steps": 1, "use_cpu": True} | changes))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, reviews: Task) -> dict[str, Path]:
    """A fine-tuned teacher of 4 blocks and student of 2, and both with their filters."""
    root = tmp_path_factory.mktemp("pair")
    big = save_tiny(root / "big", AutoModelForSequenceClassification, blocks=4)
    small = save_tiny(root / "small", AutoModelForSequenceClassification, blocks=2, width=8, seed=1)
    folders = {name: root / name for name in ("teacher", "student", "teacher_filters", "student_filters")}
    finetune(big, reviews, arguments(folders["teacher"]))
    finetune(small, reviews, arguments(folders["student"]))
    learn_filters(folders["teacher"], reviews, arguments(folders["teacher_filters"]), LearnFiltersArguments(2, 16))
    learn_filters(folders["student"], reviews, arguments(folders["student_filters"]), LearnFiltersArguments(1, 16))
    return folders


def log_history(trainers: list[StageTrainer]) -> list[dict[str, float]]:
    return trainers[-1].state.log_history


# --- what comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kd", "lwd", "ted"])
def test_a_distilled_student_loads_with_transformers_alone(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, method: str
) -> None:
    results = distill(
        pair["teacher_filters"], pair["student_filters"], reviews, arguments(tmp_path / "out"), DistillArguments(method)
    )
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert json.loads((tmp_path / "out" / "all_results.json").read_text())["accuracy"] == results["accuracy"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the film")["input_ids"] == [1, 5, 7, 2]
    assert (tmp_path / "out" / "filters.safetensors").exists() == (method != "kd")
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# small distilled (" in card
    assert "- Teacher: `big`, fine-tuned\n- Student before distillation: `small`, fine-tuned\n" in card
    assert "- Classes: bad, good\n" in card
    assert ("2 - 1, 4 - 2" in card) == (method != "kd")


def test_the_score_that_comes_out_is_that_of_the_saved_weights(
    pair: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    results = distill(
        pair["teacher"], pair["student"], reviews, arguments(tmp_path, num_train_epochs=3), DistillArguments("kd")
    )
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    right = 0
    for row in reviews.rows["validation"]:
        logits = model(**tokenizer(row["text"], return_tensors="pt")).logits
        right += int(logits.argmax()) == row["label"]
    assert results["accuracy"] == pytest.approx(100 * right / len(reviews.rows["validation"]))
    assert evaluate(tmp_path, reviews)["accuracy"] == results["accuracy"]


def test_stage_one_leaves_the_model_as_it_was_and_scores_every_block(pair: dict[str, Path]) -> None:
    before, after = (load_file(pair[name] / "model.safetensors") for name in ("teacher", "teacher_filters"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    scores = json.loads((pair["teacher_filters"] / "block_scores.json").read_text())
    assert scores["metric"] == "accuracy"
    assert set(scores["blocks"]) == {"2", "4", "model"}
    teacher = json.loads((pair["teacher"] / "all_results.json").read_text())
    assert scores["blocks"]["model"]["accuracy"] == teacher["accuracy"]


def test_the_teacher_is_not_changed_by_stage_two(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[StageTrainer], float32: None
) -> None:
    distill(pair["teacher_filters"], pair["student_filters"], reviews, arguments(tmp_path), DistillArguments("ted"))
    trainer = trainers[-1]
    assert isinstance(trainer, DistillTrainer)
    teacher = trainer.teacher
    saved = load_file(pair["teacher_filters"] / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in teacher.model.state_dict().items() if name in saved)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters())
    assert not teacher.training


def test_students_of_all_methods_start_from_the_same_weights(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[dict[str, Tensor]] = []

    def stop(self: StageTrainer) -> None:
        starts.append({name: tensor.clone() for name, tensor in self.model.model.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(StageTrainer, "fit", stop)
    for method, student in (("kd", "student"), ("lwd", "student"), ("ted", "student_filters")):
        with pytest.raises(KeyboardInterrupt):
            distill(
                pair["teacher_filters"], pair[student], reviews, arguments(tmp_path / method), DistillArguments(method)
            )
    for other in starts[1:]:
        assert all(torch.equal(starts[0][name], other[name]) for name in other)


# --- what is computed -----------------------------------------------------------------------------------------


def test_the_logged_terms_are_those_of_the_method(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[StageTrainer], float32: None
) -> None:
    """The first step's terms, recomputed from two plain models with torch alone."""
    order = ["sequential", 24]
    out = tmp_path / "out"
    args = arguments(out, max_steps=1, per_device_train_batch_size=order[1], train_sampling_strategy=order[0])
    settings = DistillArguments("ted", kl_alpha=3.0, mse_alpha=7.0, temperature=2.0, layer_loss="mse")
    for name in ("teacher_filters", "student_filters"):
        assert (pair[name] / "filters.json").exists()
    student_folder = without_dropout(pair["student_filters"], tmp_path / "student")
    distill(pair["teacher_filters"], student_folder, reviews, args, settings)
    logged = log_history(trainers)[0]

    batch = AutoTokenizer.from_pretrained(student_folder)(
        list(reviews.rows["train"]["text"]), padding=True, return_tensors="pt"
    )
    labels = torch.tensor(reviews.rows["train"]["label"])
    out, states = {}, {}
    for owner, folder in (("teacher", pair["teacher_filters"]), ("student", student_folder)):
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        filters = load_filters(folder, model)
        with torch.no_grad():
            out[owner] = model(**batch, output_hidden_states=True)
            hidden = [out[owner].hidden_states[block] for block in filters.blocks]
            states[owner] = [filter_(h) for filter_, h in zip(filters.filters, hidden, strict=True)]
    real = batch["attention_mask"].bool()
    mse = [float(F.mse_loss(s[real], t[real])) for s, t in zip(states["student"], states["teacher"], strict=True)]
    teacher, student = out["teacher"].logits / 2, out["student"].logits / 2
    kl = 4 * F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
    pred = F.cross_entropy(out["student"].logits, labels)
    assert logged["pred_loss"] == pytest.approx(float(pred), rel=1e-4)
    assert logged["match_loss"] == pytest.approx(
        float(kl), rel=2e-2, abs=1e-6
    )  # nearly 0 here: float32 has few digits left
    assert logged["layer_loss/teacher_2_student_1"] == pytest.approx(mse[0], rel=1e-4)
    assert logged["layer_loss/teacher_4_student_2"] == pytest.approx(mse[1], rel=1e-4)
    assert logged["layer_loss"] == pytest.approx(sum(mse) / 2, rel=1e-4)
    assert logged["loss"] == pytest.approx(float(pred) + 3 * float(kl) + 7 * sum(mse) / 2, rel=1e-4)


def without_dropout(folder: Path, copy: Path) -> Path:
    """The same model and filters with every dropout at 0."""
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "stage.json").unlink()
    return copy


@pytest.mark.parametrize("method", ["kd", "lwd", "ted"])
def test_one_batch_of_eight_and_two_of_four_give_the_same_step(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, method: str, float32: None
) -> None:
    """With rows of different length, so that the micro-batches hold different numbers of real tokens."""
    student = without_dropout(pair["student_filters"], tmp_path / "student")
    weights = []
    for name, size, accumulation in (("whole", 8, 1), ("halves", 4, 2)):
        args = arguments(
            tmp_path / name,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            max_steps=2,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=0,
        )
        distill(pair["teacher_filters"], student, reviews, args, DistillArguments(method))
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    before = load_file(student / "model.safetensors")
    moved = max(float((weights[0][name] - before[name]).abs().max()) for name in before)
    apart = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in before)
    assert moved > 1e-3
    assert apart < 1e-4 * moved


def test_stage_one_trains_filters_and_heads_only(
    pair: dict[str, Path], questions: Task, tmp_path: Path, trainers: list[StageTrainer]
) -> None:
    model = save_tiny(tmp_path / "model", AutoModelForQuestionAnswering, blocks=2)
    learn_filters(model, questions, arguments(tmp_path / "out"), LearnFiltersArguments(filter_nonlinear=True))
    learner = trainers[-1].model
    trained = {
        name.split(".")[0] + "." + name.split(".")[1] for name, p in learner.named_parameters() if p.requires_grad
    }
    assert trained == {"filtered.filters", "heads.0", "heads.1"}
    learner.train()
    assert not any(module.training for module in learner.filtered.model.modules())
    assert {"loss/block_1", "loss/block_2"} <= log_history(trainers)[0].keys()
    initial = Filters.random(learner.filtered.filters.config)
    saved = load_file(tmp_path / "out" / "filters.safetensors")
    assert initial.state_dict().keys() == saved.keys()


# --- training that goes wrong, or is told to stop -------------------------------------------------------------


def test_a_loss_that_becomes_nan_stops_the_stage_and_keeps_the_last_good_checkpoint(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_terms = FinetuneTrainer.loss_terms

    def spoil(self: FinetuneTrainer, *args: Any) -> dict[str, Tensor]:
        terms = loss_terms(self, *args)
        return {"loss": terms["loss"] * (float("nan") if self.state.global_step == 4 else 1)}

    monkeypatch.setattr(FinetuneTrainer, "loss_terms", spoil)
    with pytest.raises(TrainingError, match=r"step 5 .*checkpoint-3"):
        finetune(pair["student"], reviews, arguments(tmp_path, num_train_epochs=3, logging_steps=2))
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / "checkpoint-3" / "model.safetensors").values())
    assert not (tmp_path / "stage.json").exists()


def test_a_loss_that_is_nan_again_after_resuming_points_at_the_data_of_the_step(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_terms, seen = FinetuneTrainer.loss_terms, []

    def spoil(self: FinetuneTrainer, model: Any, batch: dict[str, Tensor], counts: Any) -> dict[str, Tensor]:
        if self.state.global_step != 4:
            return loss_terms(self, model, batch, counts)
        seen.append(batch["row"].tolist())
        return {"loss": loss_terms(self, model, batch, counts)["loss"] * float("nan")}

    monkeypatch.setattr(FinetuneTrainer, "loss_terms", spoil)
    messages = []
    for _ in range(2):
        with pytest.raises(TrainingError) as error:
            finetune(pair["student"], reviews, arguments(tmp_path, num_train_epochs=3, logging_steps=1))
        messages.append(str(error.value))
    assert "try a lower learning_rate" in messages[0]
    assert "another output_dir, as this one resumes as it was begun" in messages[0]
    assert seen[0] == seen[1]
    numbers = ", ".join(str(row + 1) for row in seen[1])
    assert "it had been resumed from checkpoint-3, and would stop here again: the data of this step" in messages[1]
    assert f"(training features {numbers}, counted from 1)" in messages[1]


def test_an_update_without_a_single_label_has_a_loss_of_zero_and_the_next_goes_on(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[StageTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    collate = SequenceClassification.collate
    batches = itertools.count()

    def first_unlabelled(self: SequenceClassification, features: Any, tokenizer: Any) -> dict[str, Tensor]:
        batch = collate(self, features, tokenizer)
        return batch if next(batches) else batch | {"labels": torch.full_like(batch["labels"], -100)}

    monkeypatch.setattr(SequenceClassification, "collate", first_unlabelled)
    finetune(pair["student"], reviews, arguments(tmp_path, eval_strategy="no", save_strategy="no", logging_steps=1))
    first, second, *_ = (entry["loss"] for entry in log_history(trainers) if "loss" in entry)
    assert first == 0
    assert second > 0


def test_a_trainer_uses_one_device_and_passes_the_prefix_of_its_scores_on(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[StageTrainer]
) -> None:
    args = arguments(tmp_path, num_train_epochs=1)
    assert args.n_gpu == 0
    args._n_gpu = 2  # as on a machine with two GPUs, where the Trainer would use both through `nn.DataParallel`
    finetune(pair["student"], reviews, args)
    trainer = trainers[-1]
    assert trainer.args.n_gpu == 1
    assert trainer.args.train_batch_size == args.per_device_train_batch_size
    assert type(trainer.model_wrapped) is type(trainer.model)
    by_name, by_position = trainer.evaluate(metric_key_prefix="mine"), trainer.evaluate(None, None, "mine")
    assert by_name | {"mine_seconds": 0} | {"seconds": 0} == by_position | {"mine_seconds": 0} | {"seconds": 0}
    assert "mine_accuracy" in by_name
    with pytest.raises(InputError, match="evaluate: expected no eval_dataset"):
        trainer.evaluate(reviews.rows["validation"])


def test_the_best_checkpoint_is_kept_also_when_the_metric_is_negative(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([-30.0, -10.0, -20.0])
    monkeypatch.setattr(SequenceClassification, "score", lambda self, predictions, rows: {"accuracy": next(scores)})
    monkeypatch.setattr(SequenceClassification, "uninformed_score", lambda self, split: None)
    results = finetune(pair["student"], reviews, arguments(tmp_path, num_train_epochs=3, keep_checkpoints=True))
    assert results["accuracy"] == -10.0
    assert results["best_step"] == 6
    best, out = (load_file(folder / "model.safetensors") for folder in (tmp_path / "checkpoint-6", tmp_path))
    assert all(torch.equal(best[name], out[name]) for name in best)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save_strategy": "no", "load_best_model_at_end": False},
        {"eval_strategy": "steps", "eval_steps": 3, "load_best_model_at_end": False},
    ],
)
def test_early_stopping_stops(
    options: dict[str, Any], pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where evaluations are not saved, and the last weights are the result: these are scored once."""
    scored: list[float] = []

    def score(self: Task, predictions: Any, rows: Any) -> dict[str, float]:
        scored.append(50.0)
        return {"accuracy": 50.0}

    monkeypatch.setattr(SequenceClassification, "score", score)
    monkeypatch.setattr(SequenceClassification, "uninformed_score", lambda self, split: None)
    args = arguments(tmp_path, num_train_epochs=9, early_stopping_patience=2, **options)
    assert finetune(pair["student"], reviews, args)["steps"] == 9
    assert len(scored) == 3


def test_early_stopping_has_waited_as_long_when_a_training_goes_on_after_an_interruption(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def score(self: Task, predictions: Any, rows: Any) -> dict[str, float]:
        made.append(len(made))
        if len(made) in interrupted:
            raise KeyboardInterrupt
        return {"accuracy": 50.0}

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    def stage() -> dict[str, Any]:
        return finetune(pair["student"], reviews, arguments(tmp_path, num_train_epochs=9, early_stopping_patience=2))

    monkeypatch.setattr(SequenceClassification, "score", score)
    monkeypatch.setattr(SequenceClassification, "uninformed_score", lambda self, split: None)
    interrupted = {3}
    with pytest.raises(KeyboardInterrupt):
        stage()
    # Stopped while the weights that were chosen are made the result, after the last evaluation.
    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "_finalize_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage()
    assert stage()["steps"] == 9
    # Three evaluations, one of them twice; nothing was trained or scored after that but the result.
    history = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in history if "eval_accuracy" in line] == [3, 6, 9]


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
def test_a_rate_that_follows_the_scores_stays_while_they_get_better(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    scores = iter(range(10, 90, 10))
    monkeypatch.setattr(SequenceClassification, "score", lambda self, predictions, rows: {"accuracy": next(scores)})
    monkeypatch.setattr(SequenceClassification, "uninformed_score", lambda self, split: None)
    kwargs = {"patience": 1} | ({"min_lr": 1e-6, "factor": 0.5} if schedule == "greedy" else {})
    args = arguments(
        tmp_path, num_train_epochs=6, lr_scheduler_type=schedule, lr_scheduler_kwargs=kwargs, logging_steps=3
    )
    finetune(pair["student"], reviews, args)
    entries = map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())
    rates = [entry["learning_rate"] for entry in entries if "learning_rate" in entry]
    assert len(rates) == 6
    assert min(rates) >= rates[0]


def test_the_last_weights_come_out_where_nothing_is_scored(
    pair: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    results = finetune(pair["student"], reviews, arguments(tmp_path, eval_strategy="no", save_strategy="no"))
    assert results["best_step"] is None
    assert "accuracy" in results


def test_the_same_seed_gives_the_same_student_and_another_does_not(
    pair: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    weights = {}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        distill(
            pair["teacher"], pair["student"], reviews, arguments(tmp_path / name, seed=seed), DistillArguments("lwd")
        )
        weights[name] = load_file(tmp_path / name / "model.safetensors")
    assert all(torch.equal(weights["one"][key], weights["again"][key]) for key in weights["one"])
    assert not all(torch.equal(weights["one"][key], weights["two"][key]) for key in weights["one"])


@pytest.mark.parametrize("changes", [{"bf16": True}, {CHECKPOINTING: True}])
def test_a_stage_runs_under(changes: dict[str, Any], pair: dict[str, Path], reviews: Task, tmp_path: Path) -> None:
    results = distill(
        pair["teacher_filters"],
        pair["student_filters"],
        reviews,
        arguments(tmp_path, **changes),
        DistillArguments("ted"),
    )
    assert 0 <= results["accuracy"] <= 100


def test_evaluate_reports_agreement_with_a_teacher_and_writes_predictions(
    pair: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    same = evaluate(pair["teacher"], reviews, teacher_name_or_path=pair["teacher"], output_dir=tmp_path)
    assert same["agreement"] == 100.0
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert set(predictions) <= {"good", "bad"}
    assert len(predictions) == len(reviews.rows["validation"])
