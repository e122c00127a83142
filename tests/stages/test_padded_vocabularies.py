"""One tokenizer, and embedding tables with more rows than it has tokens, not as many in teacher and student."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ted_distill import (
    DistillArguments,
    InputError,
    LearnFiltersArguments,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    evaluate,
    learn_filters,
    load_model,
    load_task,
)
from ted_distill.method.filters import Signals
from ted_distill.stages import DistillTrainer
from ted_distill.stages.distill_trainer import LossSettings, distillation_terms
from ted_distill.training.trainer import StageTrainer
from tiny import VOCABULARY, save_tiny, tiny_tokenizer, write_text

TOKENS = len(VOCABULARY)
FAMILIES = {"causal_lm": "qwen2", "masked_lm": "bert"}
NO_DROPOUT = {"bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, "qwen2": {}}
SIZES = {"both padded": (48, 40), "only the teacher": (48, TOKENS), "only the student": (TOKENS, 40), "alike": (40, 40)}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Task]:
    folder = tmp_path_factory.mktemp("text")
    files = [str(write_text(folder, rows, name)) for rows, name in ((40, "train"), (20, "validation"))]

    def make(name: str) -> Task:
        return load_task(TaskArguments(name, train_file=files[0], validation_file=files[1], max_seq_length=16))

    return make


def save(folder: Path, task: Task, rows: int, **changes: Any) -> Path:
    """A model with this number of rows in its embedding table."""
    family = FAMILIES[task.name]
    changes = {"initializer_range": 0.3, **NO_DROPOUT[family], **changes}
    save_tiny(folder, task.auto_model, family, vocab_size=rows, **changes)
    tokenizer_with_ends().save_pretrained(folder)
    return folder


def tokenizer_with_ends() -> PreTrainedTokenizerFast:
    """The tiny tokenizer; without ends of its own, transformers would give it one more token for Qwen's."""
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"
    return tokenizer


def arguments(folder: Path, **changes: Any) -> StageArguments:
    defaults = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "logging_steps": 1}
    return StageArguments(str(folder), **(defaults | {"disable_tqdm": True, "use_cpu": True, "bf16": False} | changes))


def kl(student: Tensor, teacher: Tensor, labelled: Tensor, temperature: float) -> Tensor:
    """By hand, on the logits of tokens alone."""
    student, teacher = (logits[labelled][:, :TOKENS] / temperature for logits in (student, teacher))
    return temperature**2 * F.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")


def batch_of(task: Task) -> dict[str, Tensor]:
    torch.manual_seed(0)
    ids = torch.randint(5, TOKENS, (3, 8))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    labels = ids.masked_fill((mask == 0) | (torch.rand(3, 8) < 0.5), -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("places", [slice(TOKENS), torch.arange(TOKENS)], ids=["slice", "places"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_match_is_the_kl_on_tokens_alone_and_has_no_gradient_elsewhere(
    name: str, sizes: tuple[int, int], places: slice | Tensor, text: Callable[[str], Task]
) -> None:
    task = text(name)
    batch = batch_of(task)
    teacher = torch.randn(3, 8, sizes[0])
    student = torch.randn(3, 8, sizes[1], requires_grad=True)
    terms = distillation_terms(
        Signals(student, []), Signals(teacher, []), task, batch,
        LossSettings(1.0, 0.0, 2.0, matched=places),
    )  # fmt: skip
    labelled = task.targets(batch) != -100
    assert torch.allclose(terms["match_loss"], kl(student, teacher, labelled, 2.0), rtol=1e-5)
    (gradient,) = torch.autograd.grad(terms["match_loss"], student)
    assert gradient[labelled][:, :TOKENS].abs().min() > 0
    assert not gradient[..., TOKENS:].any()
    # What the rows of no token hold does not matter.
    teacher[..., TOKENS:] = 1e4
    again = distillation_terms(
        Signals(student, []), Signals(teacher, []), task, batch,
        LossSettings(1.0, 0.0, 2.0, matched=places),
    )  # fmt: skip
    assert torch.equal(terms["match_loss"], again["match_loss"])
    # The prediction loss is the model's own, over all its rows.
    expected = F.cross_entropy(student.flatten(0, 1), task.targets(batch).flatten(), ignore_index=-100)
    assert torch.allclose(terms["pred_loss"], expected, rtol=1e-5)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]]:
    """(student's logits, teacher's, batch, terms) of every micro-batch."""
    seen: list[tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]] = []
    loss_terms = DistillTrainer.loss_terms

    def remember(self: DistillTrainer, model: Any, batch: dict[str, Tensor], counts: Any) -> dict[str, Tensor]:
        terms = loss_terms(self, model, batch, counts)
        with torch.no_grad():
            seen.append((model(batch).logits, self.teacher(batch).logits, batch, terms))
        return terms

    monkeypatch.setattr(DistillTrainer, "loss_terms", remember)
    return seen


@pytest.mark.parametrize("method", ["kd", "lwd", "ted"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_compares_the_tokens_of_tables_of_different_sizes(
    name: str, method: str, text: Callable[[str], Task], steps: list[Any], tmp_path: Path, float32: None
) -> None:
    """With a narrower student whose output embedding is its input embedding."""
    task = text(name)
    teacher = save(tmp_path / "teacher", task, 48)
    student = save(tmp_path / "student", task, 40, width=8, seed=1, tie_word_embeddings=True)
    if method == "ted":
        for owner, folder in (("teacher", teacher), ("student", student)):
            learn_filters(folder, task, arguments(tmp_path / f"{owner}_filters"), LearnFiltersArguments(1, 16))
        teacher, student = tmp_path / "teacher_filters", tmp_path / "student_filters"
    distill(teacher, student, task, arguments(tmp_path / "out"), DistillArguments(method, temperature=3.0))
    of_student, of_teacher, batch, terms = steps[0]
    assert (of_student.shape[-1], of_teacher.shape[-1]) == (40, 48)
    expected = kl(of_student, of_teacher, task.targets(batch) != -100, 3.0)
    assert expected > 0.01
    assert terms["match_loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert ("layer_loss" in terms) == (method != "kd")
    assert load_model(tmp_path / "out", task).model.config.vocab_size == 40


def test_a_wider_student_learns_from_a_teacher_without_further_rows(
    text: Callable[[str], Task], tmp_path: Path
) -> None:
    task = text("causal_lm")
    teacher, student = save(tmp_path / "t", task, TOKENS, width=8), save(tmp_path / "s", task, 64, seed=1)
    distill(teacher, student, task, arguments(tmp_path / "out"), DistillArguments("kd"))
    scores = evaluate(tmp_path / "out", task, teacher_name_or_path=teacher)
    assert 0 <= scores["agreement"] <= 100


def test_a_teacher_with_fewer_rows_than_the_tokenizer_has_tokens_is_refused(
    text: Callable[[str], Task], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = text("causal_lm")
    folders = {name: save(tmp_path / name, task, TOKENS, seed=seed) for seed, name in enumerate(("t", "s"))}
    tokenizer = tokenizer_with_ends()
    tokenizer.add_tokens(["opera"])
    for folder in folders.values():
        tokenizer.save_pretrained(folder)
    monkeypatch.setattr(StageTrainer, "fit", lambda self: pytest.fail("trained"))
    with pytest.raises(InputError, match=f"an embedding in .*/t for each of its tokens, got {TOKENS} embeddings"):
        distill(folders["t"], folders["s"], task, arguments(tmp_path / "out"), DistillArguments("kd"))
    assert not (tmp_path / "out").exists()


def test_a_task_without_a_vocabulary_matches_all_logits(
    text: Callable[[str], Task], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And so do language models without a row too many: nothing is cut off, and nothing is copied."""
    task = text("causal_lm")
    made: list[DistillTrainer] = []
    fit = StageTrainer.fit
    monkeypatch.setattr(StageTrainer, "fit", lambda self: made.append(self) or fit(self))
    teacher, student = save(tmp_path / "t", task, TOKENS), save(tmp_path / "s", task, TOKENS, seed=1)
    distill(teacher, student, task, arguments(tmp_path / "out"), DistillArguments("kd"))
    assert made[0].settings.matched is None
