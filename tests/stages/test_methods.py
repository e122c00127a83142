"""The methods beside KD, LWD and TED: alone, hidden states, attention relations; weights of pairs and over time."""

from __future__ import annotations

import copy
import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BartConfig, PreTrainedModel

from quick_stages import LABELS, reviews_task
from quick_stages import quick_arguments as arguments
from ted_distill import (
    DistillArguments,
    DistillTrainer,
    LearnFiltersArguments,
    StageArguments,
    Task,
    distill,
    finetune,
    learn_filters,
)
from ted_distill.errors import InputError
from ted_distill.method.losses import schedule_weights
from ted_distill.method.relations import relation_loss
from ted_distill.models.students import make_student
from ted_distill.runs.matching import fill_pairs
from ted_distill.stages.matching import pair_balance
from ted_distill.stages.method_checks import check_method
from ted_distill.stages.methods import METHODS, filter_learners, token_methods
from ted_distill.training.trainer import StageTrainer
from tiny import DECODERS, FAMILIES, save_tiny, tiny_config, tiny_tokenizer, usual_first

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return reviews_task(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, kind = tmp_path_factory.mktemp("models"), AutoModelForSequenceClassification
    return {
        "teacher": save_tiny(root / "teacher", kind, blocks=4, **LABELS),
        "student": save_tiny(root / "student", kind, blocks=2, seed=1, **LABELS),
        "narrow": save_tiny(root / "narrow", kind, blocks=2, width=8, seed=1, **LABELS),
    }


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[DistillTrainer]:
    """The trainers of Stage II; the terms of their losses are in `terms`, with the batch of each."""
    found: list[DistillTrainer] = []
    loss_terms = DistillTrainer.loss_terms

    def remember(self: DistillTrainer, model: nn.Module, batch: dict[str, Tensor], counts: Any) -> dict[str, Tensor]:
        if self not in found:
            self.seen, self.terms = [], []
            found.append(self)
        before = {name: weight.detach().clone() for name, weight in self.model.model.state_dict().items()}
        self.seen.append((before, batch))
        self.terms.append(loss_terms(self, model, batch, counts))
        return self.terms[-1]

    monkeypatch.setattr(DistillTrainer, "loss_terms", remember)
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


# --- alone ----------------------------------------------------------------------------------------------------


def test_a_student_alone_trains_as_in_fine_tuning_and_its_teacher_is_not_loaded(
    models: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    without = tmp_path / "student"
    model = AutoModelForSequenceClassification.from_pretrained(models["student"])
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(without)
    tiny_tokenizer().save_pretrained(without)
    results = distill(tmp_path / "nowhere", without, reviews, arguments(tmp_path / "a"), DistillArguments("alone"))
    tuned = finetune(without, reviews, arguments(tmp_path / "b"))
    assert all(torch.equal(weight, weights(tmp_path / "b")[name]) for name, weight in weights(tmp_path / "a").items())
    assert (results["steps"], results["evaluations"]) == (tuned["steps"], tuned["evaluations"])
    assert "Teacher" not in (tmp_path / "a" / "README.md").read_text()


# --- hidden states --------------------------------------------------------------------------------------------


def test_hidden_states_are_matched_as_they_are_and_divided_by_their_variance(
    models: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    results = distill(models["teacher"], models["student"], reviews, arguments(tmp_path), DistillArguments("hidden"))
    (trainer,) = trainers
    student = AutoModelForSequenceClassification.from_pretrained(models["student"]).eval()
    teacher = AutoModelForSequenceClassification.from_pretrained(models["teacher"]).eval()
    _, batch = trainer.seen[0]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        own, theirs = (model(**inputs, output_hidden_states=True).hidden_states for model in (student, teacher))
    real = batch["attention_mask"] != 0
    squares = [(own[s] - theirs[t])[real].square().mean().item() for t, s in ((2, 1), (4, 2))]
    expected = np.array(squares) / np.array(results["teacher_variances"])
    np.testing.assert_allclose(trainer.terms[0]["pair_losses"].detach(), expected, rtol=1e-4)
    assert not (tmp_path / "filters.json").exists()


def test_hidden_states_of_two_widths_are_refused(models: dict[str, Path], reviews: Task, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method: expected models of one width with method hidden.*got 16.*and 8"):
        distill(models["teacher"], models["narrow"], reviews, arguments(tmp_path), DistillArguments("hidden"))


# --- attention relations --------------------------------------------------------------------------------------


def projected(model: PreTrainedModel, block: int, batch: dict[str, Tensor]) -> list[Tensor]:
    """Queries, keys and values of a block of a BERT: its own linear maps of the states before it."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    before = model.eval()(**inputs, output_hidden_states=True).hidden_states[block - 1]
    attention = model.bert.encoder.layer[block - 1].attention.self
    return [getattr(attention, name)(before) for name in ("query", "key", "value")]


@pytest.mark.parametrize(("student", "heads"), [("student", 2), ("narrow", 2)])
@pytest.mark.parametrize("cached", [True, False])
def test_relations_of_the_last_blocks_are_matched_whatever_the_widths(
    models: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[DistillTrainer], student: str, heads: int,
    cached: bool,
) -> None:  # fmt: skip
    args = arguments(tmp_path, cache_limit=1.0 if cached else 0.0)
    distill(models["teacher"], models[student], reviews, args, DistillArguments("attention", attention_alpha=3.0))
    (trainer,) = trainers
    teacher, small = (
        AutoModelForSequenceClassification.from_pretrained(models[name]).eval() for name in ("teacher", student)
    )
    # Of the second epoch too, in which the teacher's are read from files.
    for place in (0, len(trainer.seen) - 1):
        before, batch = trainer.seen[place]
        small.load_state_dict(before)
        with torch.no_grad():
            vectors = projected(small, 2, batch), projected(teacher, 4, batch)
        expected = relation_loss(*vectors, batch["attention_mask"], heads)
        terms = trainer.terms[place]
        torch.testing.assert_close(terms["relation_loss"].detach(), expected, rtol=1e-4, atol=1e-6)
        total = terms["pred_loss"] + terms["match_loss"] + 3 * terms["relation_loss"]
        torch.testing.assert_close(terms["loss"], total)
    assert (trainer.teacher.cache is not None) == cached


@pytest.mark.parametrize("method", ["attention", "ted_attention"])
@pytest.mark.parametrize(
    ("blocks", "given", "expected"),
    [([1, 2], {}, (4, 2)), ([2, 4], {}, (4, 2)), ([1, 2], {"attention_pair": "3:1"}, (3, 1))],
)
def test_relations_are_those_of_the_last_pair(
    models: dict[str, Path], reviews: Task, tmp_path: Path, method: str, blocks: list[int],
    given: dict[str, str], expected: tuple[int, int],
) -> None:  # fmt: skip
    """Not of a block and its own copy, which have nothing to learn from each other."""
    make_student(models["teacher"], blocks, tmp_path / "student")
    teacher = models["teacher"]
    if method == "ted_attention":
        teacher = tmp_path / "filters"
        learn_filters(models["teacher"], reviews, arguments(teacher), LearnFiltersArguments())
    distill(teacher, tmp_path / "student", reviews, arguments(tmp_path / "out"), DistillArguments(method, **given))
    identity = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))["identity"]["distill"]
    assert (identity["relations"]["teacher_block"], identity["relations"]["student_block"]) == expected


def test_a_methods_own_pairs_give_the_relations_of_their_last_one() -> None:
    own, without, at_intervals = (
        DistillArguments("ted_attention", **given) for given in ({"pairs": ["2:1", "3:2"]}, {}, {"filter_interval": 2})
    )
    for section in (own, without, at_intervals):
        fill_pairs(section, [(2, 1), (4, 2)])
    assert (own.attention_pair, without.attention_pair, at_intervals.attention_pair) == ("3:2", "4:2", None)


@pytest.mark.parametrize("family", usual_first([*FAMILIES, *DECODERS]))
def test_every_family_is_trained_with_attention_relations(family: str, reviews: Task, tmp_path: Path) -> None:
    for name, blocks, seed in (("teacher", 3, 0), ("student", 2, 1)):
        torch.manual_seed(seed)
        config = tiny_config(family, blocks, **LABELS, label2id={"bad": 0, "good": 1}, pad_token_id=0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / name)
        tiny_tokenizer(token_type_ids=False).save_pretrained(tmp_path / name)
    args = arguments(tmp_path / "out", max_steps=4, eval_strategy="no", logging_steps=1)
    results = distill(tmp_path / "teacher", tmp_path / "student", reviews, args, DistillArguments("attention"))
    assert results["steps"] == 4
    assert (weights(tmp_path / "out").keys()) == weights(tmp_path / "student").keys()


def test_a_family_with_more_than_one_attention_in_a_block_is_refused(reviews: Task, tmp_path: Path) -> None:
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_attention_heads=2, decoder_ffn_dim=24, max_position_embeddings=70, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=2, **LABELS,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "bart")
    tiny_tokenizer(token_type_ids=False).save_pretrained(tmp_path / "bart")
    with pytest.raises(InputError, match=r"queries, keys and values of its own in each block.*choose method kd"):
        distill(
            tmp_path / "bart",
            tmp_path / "bart",
            reviews,
            arguments(tmp_path / "out"),
            DistillArguments("attention"),
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention_pair": "5:2"}, "attention_pair: expected a block of the teacher from 1 to 4, got 5"),
        ({"attention_pair": "0:1"}, "attention_pair: expected a block of the teacher from 1 to 4, got 0"),
        ({"attention_pair": "1:-1"}, "attention_pair: expected a block of the student from 1 to 2, got -1"),
        ({"relation_heads": 3}, "relation_heads: expected a number that divides 16.* got 3"),
        (
            {"pairs": ["4:2"]},
            "pairs: expected none, as method attention matches no hidden states, got 4:2; leave it out",
        ),
        ({"mse_alpha": 1.0}, "mse_alpha: expected 0, as method attention matches no hidden states"),
    ],
)
def test_relations_that_cannot_be_are_refused(
    models: dict[str, Path], reviews: Task, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        distill(
            models["teacher"],
            models["student"],
            reviews,
            arguments(tmp_path),
            DistillArguments("attention", **settings),
        )


def test_relations_whose_first_run_leaves_no_gradient_are_refused(
    models: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    # The name of 5.23; older versions of transformers know the other one.
    name = "activation" if hasattr(StageArguments, "activation_checkpointing") else "gradient"
    again = {f"{name}_checkpointing": True, f"{name}_checkpointing_kwargs": {"use_reentrant": True}}
    with pytest.raises(InputError, match="use_reentrant: expected false with attention relations"):
        distill(
            models["teacher"], models["student"], reviews, arguments(tmp_path, **again), DistillArguments("attention")
        )


def test_relations_are_added_to_filtered_states(
    models: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    learn_filters(models["teacher"], reviews, arguments(tmp_path / "t"), LearnFiltersArguments(filter_blocks=[2, 4]))
    settings = DistillArguments("ted_attention", kl_alpha=2.0, mse_alpha=5.0, attention_alpha=7.0)
    distill(tmp_path / "t", models["narrow"], reviews, arguments(tmp_path / "out"), settings)
    terms = trainers[0].terms[-1]
    total = terms["pred_loss"] + 2 * terms["match_loss"] + 5 * terms["layer_loss"] + 7 * terms["relation_loss"]
    torch.testing.assert_close(terms["loss"], total)


# --- weights of pairs, and over time --------------------------------------------------------------------------


def test_pairs_count_as_much_as_they_are_given(
    models: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    settings = DistillArguments("lwd", pair_weights=["3", "1"])
    distill(models["teacher"], models["student"], reviews, arguments(tmp_path), settings)
    terms = trainers[0].terms[0]
    torch.testing.assert_close(terms["layer_loss"], (3 * terms["pair_losses"][0] + terms["pair_losses"][1]) / 4)


def test_balanced_pairs_pull_equally_hard_at_the_start(
    models: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    # All rows in one batch, so that gradients can be compared exactly.
    args = arguments(tmp_path, per_device_train_batch_size=24, num_train_epochs=1)
    settings = DistillArguments("lwd", pair_weights=["balanced"], student_filters="least_squares")
    results = distill(models["teacher"], models["student"], reviews, args, settings)
    (trainer,) = trainers
    before, batch = trainer.seen[0]
    model = trainer.model.model
    model.load_state_dict(before)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    norms = []
    for place, weight in enumerate(results["pair_weights"]):
        # The filters have moved since; their start is what the pairs were balanced with.
        filters = trainer.filters_before
        states = model.eval()(**{n: batch[n] for n in ("input_ids", "attention_mask", "token_type_ids")},
                              output_hidden_states=True).hidden_states  # fmt: skip
        filtered = filters.filters[place](states[filters.blocks[place]])
        teacher = trainer.teacher(batch).states[place]
        loss = trainer.settings.losses[place](filtered, teacher, batch["attention_mask"], None)
        found = torch.autograd.grad(weight * loss, trained, allow_unused=True)
        norms.append(float(torch.stack([g.norm() for g in found if g is not None]).norm()))
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    assert sum(results["pair_weights"]) == pytest.approx(2, abs=1e-5)


def test_balancing_holds_the_gradients_of_one_pair_at_a_time(
    models: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[weakref.ref[torch.Tensor]] = []
    held: set[int] = set()

    def remember(weight: torch.Tensor) -> torch.Tensor:
        made = torch.zeros_like(weight)
        sums.append(weakref.ref(made))
        return made

    def count(loss: torch.Tensor, weights: list[torch.Tensor], **options: Any) -> Any:
        held.add(sum(made() is not None for made in sums) // len(weights))
        return torch.autograd.grad(loss, weights, **options)

    counted = SimpleNamespace(grad=count)
    watched = SimpleNamespace(zeros_like=remember, ones=torch.ones, stack=torch.stack, autograd=counted)
    monkeypatch.setattr(pair_balance, "torch", watched)
    settings = DistillArguments("lwd", pair_weights=["balanced"], student_filters="random")
    args = arguments(tmp_path, max_steps=1, eval_strategy="no", save_strategy="no")
    assert len(distill(models["teacher"], models["student"], reviews, args, settings)["pair_weights"]) == 2
    assert held == {1}


@pytest.fixture(autouse=True)
def remember_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers keep a copy of the filters that they start with."""
    fit = StageTrainer.fit

    def with_copy(self: StageTrainer) -> dict[str, Any]:
        if isinstance(self, DistillTrainer) and self.model.filters is not None:
            self.filters_before = copy.deepcopy(self.model.filters)
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", with_copy)


@pytest.mark.parametrize("given", [["1"], ["1", "2", "3"], ["-1", "2"], ["0", "0"], ["a", "b"], ["nan", "1"]])
def test_wrong_weights_of_pairs_are_refused_before_training(
    models: dict[str, Path], reviews: Task, tmp_path: Path, given: list[str]
) -> None:
    def train() -> None:
        settings = DistillArguments("lwd", pair_weights=given)
        distill(models["teacher"], models["student"], reviews, arguments(tmp_path / "out"), settings)

    with pytest.raises(InputError, match="pair_weights: expected"):
        train()
    assert not (tmp_path / "out").exists()


def test_the_weight_of_the_layers_follows_its_schedule() -> None:
    assert schedule_weights("constant", 0.7) == (1, 1)
    assert [schedule_weights("layers_first", progress) for progress in (0.0, 0.39, 0.4, 1.0)] == [
        (0, 1), (0, 1), (1, 1), (1, 1)
    ]  # fmt: skip
    assert schedule_weights("decay", 0.25) == (1, 0.75)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"method": "lwd", "mse_alpha": 0}, "mse_alpha"),
        ({"method": "attention", "attention_alpha": 0}, "attention_alpha"),
        ({"method": "ted_attention", "mse_alpha": 0, "attention_alpha": 0}, "mse_alpha and attention_alpha"),
    ],
)
def test_layers_first_without_a_weight_of_layers_is_refused(
    settings: dict[str, Any], names: str, tmp_path: Path
) -> None:
    args = StageArguments(str(tmp_path), use_cpu=True)
    with pytest.raises(InputError, match=f"layer_schedule: expected constant or decay with {names} of 0"):
        check_method(DistillArguments(**settings, layer_schedule="layers_first"), args)
    check_method(DistillArguments("ted_attention", layer_schedule="layers_first", mse_alpha=0), args)
    check_method(DistillArguments("lwd", layer_schedule="layers_first"), args)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"early_stopping_patience": 2}, "early_stopping_patience"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type reduce_lr_on_plateau"),
    ],
)
def test_layers_first_is_refused_with_what_follows_scores(settings: dict[str, Any], name: str, tmp_path: Path) -> None:
    """As long as predictions have no weight, scores do not get better."""
    scored = {"eval_strategy": "epoch", "save_strategy": "epoch", "metric_for_best_model": "accuracy"}
    args = StageArguments(str(tmp_path), use_cpu=True, **scored, **settings)
    with pytest.raises(InputError, match=f"layer_schedule: expected constant or decay with {name}, got layers_first"):
        check_method(DistillArguments("lwd", layer_schedule="layers_first"), args)
    check_method(DistillArguments("lwd", layer_schedule="decay"), args)


def test_a_training_of_layers_first_begins_without_predictions_and_ends_with_them(
    models: dict[str, Path], reviews: Task, tmp_path: Path, trainers: list[DistillTrainer]
) -> None:
    settings = DistillArguments("lwd", layer_schedule="layers_first", mse_alpha=2.0)
    distill(models["teacher"], models["student"], reviews, arguments(tmp_path), settings)
    first, *_, last = trainers[0].terms
    torch.testing.assert_close(first["loss"], 2 * first["layer_loss"])
    torch.testing.assert_close(last["loss"], last["pred_loss"] + last["match_loss"] + 2 * last["layer_loss"])


# --- what methods need ----------------------------------------------------------------------------------------


def test_stage_one_is_run_for_the_models_whose_learnt_filters_are_used() -> None:
    assert filter_learners(["alone", "kd", "lwd", "hidden", "attention"], {}) == []
    assert filter_learners(["kd", "ted"], {}) == ["teacher"]
    assert filter_learners(["ted", "ted_attention"], {"ted_attention": "learned"}) == ["teacher", "student"]


def test_methods_that_match_tokens_need_one_tokenizer() -> None:
    assert token_methods(list(METHODS)) == ["hidden", "attention", "lwd", "ted", "ted_attention"]


def test_a_start_of_filters_that_is_none_is_refused_with_the_nearest_word() -> None:
    with pytest.raises(InputError, match=r"student_filters: .* got 'least_square'; did you mean least_squ"):
        DistillArguments("ted", student_filters="least_square")


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        (
            "kd",
            {"layer_loss": "cosine"},
            "layer_loss: expected none, as method kd matches no hidden states, got cosine",
        ),
        ("kd", {"student_filters": "random"}, "student_filters: expected none, as method kd has no filters of the"),
        (
            "kd",
            {"layer_schedule": "decay"},
            "layer_schedule: expected none, as method kd matches nothing of the blocks",
        ),
        ("lwd", {"teacher_filters": "x"}, "teacher_filters: expected none, as method lwd has no learnt filters of the"),
        ("ted", {"relation_heads": 2}, "relation_heads: expected none, as method ted matches no attention relations"),
        (
            "alone",
            {"temperature": 3.0},
            "temperature: expected none, as method alone has no teacher, got 3.0; leave it",
        ),
        ("alone", {"kl_alpha": 1.0}, "kl_alpha: expected 0, as method alone has no teacher, got 1.0; leave it out or"),
    ],
)
def test_what_a_method_has_no_use_for_is_refused_and_not_ignored(
    method: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        DistillArguments(method, **given)
    # What is as it would be anyway is no contradiction.
    DistillArguments(method, layer_loss="normalized_mse", temperature=2.0, kl_alpha=0.0)
