"""Layer losses by name, the variance one of them divides by, and pairs given outright in the stages."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import paired_cosine_distances
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    learn_filters,
    load_filters,
    load_task,
)
from ted_distill.cli.main import main
from ted_distill.method.filter_files import save_filters
from ted_distill.method.layer_losses import (
    LAYER_LOSSES,
    LayerLoss,
    bind_layer_loss,
    bound_variances,
    cosine_layer_loss,
    layer_losses,
    mse_layer_loss,
    normalized_mse_layer_loss,
    states_variances,
)
from ted_distill.training.trainer import StageTrainer
from tiny import CLASSES, save_tiny, write_reviews

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
VARIANCE = torch.tensor(0.25, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bound(name: str, variance: Tensor = VARIANCE) -> LayerLoss:
    """The layer loss of one pair of this variance."""
    (loss,) = bind_layer_loss(name, 1, lambda: variance.reshape(1))
    return loss


# --- the functions --------------------------------------------------------------------------------------------


def test_a_student_that_says_the_teachers_mean_leaves_all_of_its_variance() -> None:
    teacher = 3 + 7 * random(3, 5, 4)
    (variance,) = states_variances([([teacher], MASK)])
    mean = teacher[MASK != 0].mean(dim=0).expand_as(teacher)
    loss = normalized_mse_layer_loss(mean, teacher, MASK, teacher_variance=variance)
    assert float(loss) == pytest.approx(1.0, rel=1e-6)
    assert float(mse_layer_loss(mean, teacher, MASK)) > 30


def test_variances_are_those_of_numpy_over_real_tokens_of_all_batches() -> None:
    first, second = 100 + random(3, 5, 4), 100 + 9 * random(2, 7, 4, seed=1)
    masks = MASK, torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    first[MASK == 0] = torch.nan
    tokens = np.concatenate([first[masks[0] != 0].numpy(), second[masks[1] != 0].numpy()])
    batches = [([first, 2 * first], masks[0]), ([second, 2 * second], masks[1])]
    found = states_variances(batches)
    expected = tokens.var(axis=0).mean()
    np.testing.assert_allclose(found.numpy(), [expected, 4 * expected], rtol=1e-6)
    with pytest.raises(ValueError, match="expected a real token in the masks, got none"):
        states_variances([([first], torch.zeros_like(MASK))])


@pytest.mark.parametrize("tokens", [997, 5003])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_states_that_are_the_same_for_every_token_have_no_variance(tokens: int, scale: float) -> None:
    """The difference of their sums is a rounding error, above 0 or below it."""
    states = (scale * random(1, 1, 4)).expand(1, tokens, 4)
    (variance,) = states_variances([([states], torch.ones(1, tokens))])
    assert float(variance) == 0


def test_states_that_are_no_numbers_have_no_variance_either() -> None:
    (variance,) = states_variances([([torch.full((1, 3, 4), torch.nan)], torch.ones(1, 3))])
    assert torch.isnan(variance)


@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_the_scale_of_the_states_changes_the_mse_alone(scale: float) -> None:
    student, teacher = random(3, 5, 4), random(3, 5, 4, seed=1)
    found = {}
    for name, factor in (("one", 1.0), ("scaled", scale)):
        states = [factor * student], [factor * teacher]
        variances = states_variances([(states[1], MASK)]).double()
        found[name] = {
            loss: layer_losses(*states, MASK, None, bind_layer_loss(loss, 1, lambda of=variances: of))
            for loss in LAYER_LOSSES
        }
    torch.testing.assert_close(found["scaled"]["normalized_mse"], found["one"]["normalized_mse"], rtol=1e-6, atol=0)
    torch.testing.assert_close(found["scaled"]["cosine"], found["one"]["cosine"], rtol=1e-9, atol=0)
    torch.testing.assert_close(found["scaled"]["mse"], scale**2 * found["one"]["mse"])


def test_the_cosine_is_that_of_scikit_learn() -> None:
    student, teacher = random(3, 5, 4), random(3, 5, 4, seed=1)
    real = MASK != 0
    expected = paired_cosine_distances(student[real].numpy(), teacher[real].numpy()).mean()
    assert float(cosine_layer_loss(student, teacher, MASK)) == pytest.approx(expected, rel=1e-12)
    assert float(cosine_layer_loss(teacher, 3 * teacher, MASK)) == pytest.approx(0, abs=1e-12)
    assert float(cosine_layer_loss(teacher, -teacher, MASK)) == pytest.approx(2)
    assert float(cosine_layer_loss(torch.zeros_like(teacher), teacher, MASK)) == 1


@pytest.mark.parametrize("name", LAYER_LOSSES)
def test_no_layer_loss_sees_padding(name: str) -> None:
    loss = bound(name)
    student, teacher = random(3, 5, 4).requires_grad_(), random(3, 5, 4, seed=1)
    expected = loss(student, teacher, MASK, None)
    expected.backward()
    assert student.grad is not None
    assert bool((student.grad[MASK == 0] == 0).all())
    assert bool((student.grad[MASK == 1] != 0).all())
    for garbage in (1e9, math.inf, math.nan):
        broken = teacher.masked_fill((MASK == 0).unsqueeze(-1), garbage)
        assert torch.equal(loss(student, broken, MASK, None), expected)


@pytest.mark.parametrize("name", LAYER_LOSSES)
def test_layer_losses_of_two_halves_with_the_count_of_both_add_up(name: str) -> None:
    loss, count = bound(name), MASK.sum()
    student, teacher = random(3, 5, 4), random(3, 5, 4, seed=1)
    parts = [loss(student[rows], teacher[rows], MASK[rows], count) for rows in (slice(0, 1), slice(1, 3))]
    torch.testing.assert_close(sum(parts), loss(student, teacher, MASK, None), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LAYER_LOSSES)
def test_the_gradients_of_layer_losses_are_those_of_small_differences(name: str) -> None:
    teacher = random(3, 5, 2, seed=1)

    def loss(student: Tensor) -> Tensor:
        return bound(name)(student, teacher, MASK, None)

    assert torch.autograd.gradcheck(loss, random(3, 5, 2).requires_grad_())


@pytest.mark.parametrize("name", LAYER_LOSSES)
def test_half_precision_is_widened_first(name: str) -> None:
    student, teacher = (random(3, 5, 4, seed=seed).to(torch.bfloat16) for seed in (0, 1))
    found = bound(name, VARIANCE.float())(student, teacher, MASK, None)
    assert found.dtype == torch.float32
    expected = bound(name)(student.double(), teacher.double(), MASK, None)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_missing_variance_is_refused() -> None:
    states = random(3, 5, 4)
    with pytest.raises(TypeError, match="teacher_variance"):
        normalized_mse_layer_loss(states, states, MASK)  # type: ignore[call-arg]


# --- a loss of their own for each pair ------------------------------------------------------------------------


def never() -> Tensor:
    raise AssertionError("measured for a loss that does not look at it")


def test_a_variance_is_bound_only_where_the_loss_has_that_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(
        student: Tensor, teacher: Tensor, mask: Tensor, count: Tensor | None = None, *, teacher_variance: Tensor
    ) -> Tensor:
        return teacher_variance * mse_layer_loss(student, teacher, mask, count)

    monkeypatch.setitem(LAYER_LOSSES, "scaled", scaled)
    variances, asked = torch.tensor([0.5, 2.0]), []

    def measure() -> Tensor:
        asked.append(1)
        return variances

    student, teacher = random(3, 5, 4), random(3, 5, 4, seed=1)
    plain = mse_layer_loss(student, teacher, MASK)
    for number, (name, factors) in enumerate((("scaled", variances), ("normalized_mse", 1 / variances)), start=1):
        losses = bind_layer_loss(name, 2, measure)
        assert len(asked) == number  # once, and not again with each batch
        assert bound_variances(losses) == [0.5, 2.0]
        for _ in range(2):
            found = layer_losses([student] * 2, [teacher] * 2, MASK, None, losses)
            torch.testing.assert_close(found, plain * factors.double())
        assert len(asked) == number
    monkeypatch.setitem(LAYER_LOSSES, "as_it_is", partial(mse_layer_loss))
    for name in ("mse", "cosine", "as_it_is"):
        losses = bind_layer_loss(name, 2, never)
        assert losses == [LAYER_LOSSES[name]] * 2
        assert bound_variances(losses) == []


@pytest.mark.parametrize("name", LAYER_LOSSES)
def test_nothing_is_bound_or_measured_where_no_pair_is_matched(name: str) -> None:
    assert bind_layer_loss(name, 0, never) == []


def test_each_pair_has_its_own_loss_and_without_any_it_is_the_squared_error() -> None:
    student, teacher = [random(3, 5, 4), random(3, 5, 4, seed=2)], [random(3, 5, 4, seed=1), random(3, 5, 4, seed=3)]
    found = layer_losses(student, teacher, MASK, None, [mse_layer_loss, cosine_layer_loss])
    assert found[0] == mse_layer_loss(student[0], teacher[0], MASK)
    assert found[1] == cosine_layer_loss(student[1], teacher[1], MASK)
    plain = layer_losses(student, teacher, MASK)
    assert plain[0] == found[0]
    assert plain[1] == mse_layer_loss(student[1], teacher[1], MASK)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        layer_losses(student, teacher, MASK, None, [mse_layer_loss])


# --- in the stages --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = str(write_reviews(tmp_path_factory.mktemp("data"), 24))
    return load_task(TaskArguments("sequence_classification", train_file=file, validation_file=file))


def arguments(folder: Path, **changes: Any) -> StageArguments:
    quick = {"max_steps": 1, "per_device_train_batch_size": 24, "logging_steps": 1, "save_strategy": "no"}
    quiet = {"eval_strategy": "no", "disable_tqdm": True, "use_cpu": True, "train_sampling_strategy": "sequential"}
    return StageArguments(str(folder), **(quick | quiet | changes))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, reviews: Task) -> dict[str, Path]:
    """A teacher of 4 blocks and a student of 3 without dropout, with filters after each block."""
    root = tmp_path_factory.mktemp("pair")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
    folders = {}
    for owner, blocks in (("teacher", 4), ("student", 3)):
        model = save_tiny(root / f"raw_{owner}", AutoModelForSequenceClassification, blocks=blocks, **CLASSES, **still)
        folders[owner] = root / owner
        learn_filters(model, reviews, arguments(folders[owner]), LearnFiltersArguments(1, 16))
    return folders


def test_stage_two_divides_by_the_variance_it_measured(
    pair: dict[str, Path], reviews: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, float32: None
) -> None:
    """Against filters, states and numpy's variance of two plain models."""
    points: list[dict[str, float]] = []
    log = StageTrainer.log
    monkeypatch.setattr(StageTrainer, "log", lambda self, logs, *more: (log(self, logs, *more), points.append(logs)))
    settings = DistillArguments("ted", 0.0, 3.0, pairs=["2:1", "4:3"], layer_loss="normalized_mse")
    results = distill(pair["teacher"], pair["student"], reviews, arguments(tmp_path / "ted"), settings)

    tokenizer = AutoTokenizer.from_pretrained(pair["teacher"])
    batch = tokenizer(list(reviews.rows["train"]["text"]), padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool()
    states: dict[str, list[Tensor]] = {}
    for (owner, folder), blocks in zip(pair.items(), ((2, 4), (1, 3)), strict=True):
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        filters = load_filters(folder, model)
        with torch.no_grad():
            hidden = model(**batch, output_hidden_states=True).hidden_states
            states[owner] = [filters.filters[filters.blocks.index(block)](hidden[block])[real] for block in blocks]
    variances = [float(states_of.numpy().var(axis=0).mean()) for states_of in states["teacher"]]
    assert results["teacher_variances"] == pytest.approx(variances, rel=1e-3)
    expected = [
        float((student - teacher).square().mean()) / variance
        for student, teacher, variance in zip(states["student"], states["teacher"], variances, strict=True)
    ]
    assert points[0]["layer_loss/teacher_2_student_1"] == pytest.approx(expected[0], rel=1e-3)
    assert points[0]["layer_loss/teacher_4_student_3"] == pytest.approx(expected[1], rel=1e-3)
    assert points[0]["loss"] == pytest.approx(points[0]["pred_loss"] + 3 * sum(expected) / 2, rel=1e-3)


@pytest.mark.parametrize("method", ["lwd", "ted"])
def test_pairs_given_outright_are_those_that_are_matched(
    method: str, pair: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    settings = DistillArguments(method, pairs=["4:1", "1:3"], layer_loss="cosine")
    distill(pair["teacher"], pair["student"], reviews, arguments(tmp_path), settings)
    identity = json.loads((tmp_path / "settings.json").read_text())["identity"]
    assert identity["distill"]["pairs"] == [[4, 1], [1, 3]]
    kept = load_filters(tmp_path, AutoModelForSequenceClassification.from_pretrained(tmp_path))
    assert sorted(kept.blocks) == [1, 3]


def test_a_method_without_layers_has_nothing_to_measure(pair: dict[str, Path], reviews: Task, tmp_path: Path) -> None:
    """A recipe that sets the layer loss for all methods sets it for KD too."""
    settings = DistillArguments("kd", layer_loss="normalized_mse")
    results = distill(pair["teacher"], pair["student"], reviews, arguments(tmp_path / "kd"), settings)
    assert "teacher_variances" not in results


def test_states_that_are_all_alike_have_no_variance_to_divide_by(
    pair: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    for file in pair["teacher"].iterdir():
        # Without the manifest, which says what the filters were, they are as good as any others.
        if file.name != "stage.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    filters = load_filters(tmp_path, model)
    filters.load_state_dict({name: torch.zeros_like(weight) for name, weight in filters.state_dict().items()})
    save_filters(tmp_path, filters, model)
    settings = DistillArguments("ted", pairs=["2:1"], layer_loss="normalized_mse")
    with pytest.raises(InputError, match="that of block 2 is 0"):
        distill(tmp_path, pair["student"], reviews, arguments(tmp_path / "out"), settings)


def test_pairs_that_make_no_sense_are_refused_by_the_command(
    pair: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_reviews(tmp_path, 8)
    words = [
        "distill", "--teacher_name_or_path", str(pair["teacher"]), "--student_name_or_path", str(pair["student"]),
        "--task", "sequence_classification", "--train_file", str(file), "--validation_file", str(file),
        "--output_dir", str(tmp_path / "out"),
    ]  # fmt: skip
    for more, said in (
        (["--pairs", "9:1"], "pairs: expected blocks 1 to 4 of the teacher, got 9"),
        (["--pairs", "4:1", "--filter_interval", "1"], "given with filter_interval"),
        (["--pairs", "4:1", "--method", "kd"], "method kd matches no hidden states"),
        (["--layer_loss", "mae"], "layer_loss: expected one of mse, normalized_mse, cosine, got 'mae'"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()
