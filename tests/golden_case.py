"""Directories of the golden cases' form, made on the spot from random tiny models.

The formulas of the published code are written down here a second time, in plain torch and apart from the package:
padding counts, the KL of scores is a softmax over the batch, the cross-entropy of classes is taken in float32. So these
cases show that the benchmark handles every form of a case; that the numbers are the published code's own only the
cases in `tests/data/published` can show.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import (
    DebertaV2Config,
    DebertaV2ForQuestionAnswering,
    DebertaV2ForSequenceClassification,
    PreTrainedModel,
)

ROWS, TOKENS, VOCABULARY = 4, 16, 60
STEPS, RATE, TEMPERATURE = 2, 1e-3, 2.0
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Form:
    """What a case is like."""

    task: str = "cls"
    num_labels: int = 2
    teacher_blocks: int = 2
    student_blocks: int = 2
    teacher_filter_interval: int = 1
    student_filter_interval: int = 1
    teacher_width: int = 16
    student_width: int = 8
    filter_output_dim: int | None = 16
    filter_nonlinear: bool = False


def write_case(folder: Path, form: Form, seed: int = 0) -> Path:
    """Models, filters, heads, a batch, and the golden numbers in both dtypes."""
    torch.manual_seed(seed)
    folder.mkdir()
    for owner, other_dim in (("teacher", None), ("student", form.filter_output_dim)):
        blocks, width = getattr(form, f"{owner}_blocks"), getattr(form, f"{owner}_width")
        model = _random_model(form, blocks, width)
        model.save_pretrained(folder / owner)
        dim = form.filter_output_dim or other_dim or width
        pairs = blocks // getattr(form, f"{owner}_filter_interval")
        save_file(_random_filters(pairs, width, dim, form.filter_nonlinear), folder / f"{owner}_filters.safetensors")
        save_file(_random_heads(form, pairs, dim), folder / f"{owner}_filter_heads.safetensors")
    lwd = _random_filters(pairs, form.student_width, form.teacher_width, form.filter_nonlinear)
    save_file(lwd, folder / "student_lwd_filters.safetensors")
    save_file({f"full.{name}": value for name, value in _random_batch(form).items()}, folder / "batches.safetensors")
    golden = {dtype: {"full": _golden(folder, form, dtype)} for dtype in (torch.float64, torch.float32)}
    (folder / "golden_fp64.json").write_text(json.dumps(golden[torch.float64]))
    (folder / "golden_fp32.json").write_text(json.dumps(golden[torch.float32]))
    info = {
        **asdict(form),
        "kl_alpha": 5.0,
        "mse_alpha": 100.0,
        "temperature": TEMPERATURE,
        "lr": RATE,
        "steps": STEPS,
        "adamw_betas": [0.9, 0.999],
        "adamw_eps": 1e-8,
        "weight_decay": 0.0,
        "zero_gradient_parameters": _zero_gradients(golden[torch.float64]["full"]),
    }
    (folder / "case.json").write_text(json.dumps(info))
    return folder


# --- random pieces --------------------------------------------------------------------------------------------


def _random_model(form: Form, blocks: int, width: int) -> PreTrainedModel:
    config = DebertaV2Config(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=blocks, num_attention_heads=2,
        intermediate_size=2 * width, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, relative_attention=True,
        pos_att_type=["p2c", "c2p"], share_att_key=True, norm_rel_ebd="layer_norm", position_buckets=8,
        max_position_embeddings=64, position_biased_input=False, type_vocab_size=0, num_labels=form.num_labels,
    )  # fmt: skip
    kind = DebertaV2ForQuestionAnswering if form.task == "qa" else DebertaV2ForSequenceClassification
    model = kind(config)
    for name, weight in model.named_parameters():
        center = 1.0 if "LayerNorm.weight" in name else 0.0
        torch.nn.init.normal_(weight, center, 0.3)
    return model


def _random_filters(pairs: int, width: int, dim: int, nonlinear: bool) -> Weights:
    layers = {"0.": (width, width), "2.": (dim, width)} if nonlinear else {"": (dim, width)}
    return {
        f"filters.{pair}.{layer}{part}": torch.randn(*(shape if part == "weight" else shape[:1])) * 0.3
        for pair in range(pairs)
        for layer, shape in layers.items()
        for part in ("weight", "bias")
    }


def _random_heads(form: Form, pairs: int, dim: int) -> Weights:
    shapes = {"filter_head.{}": (2 if form.task == "qa" else form.num_labels, dim)}
    if form.task != "qa":
        shapes["filter_pooler.{}.dense"] = (dim, dim)
    return {
        f"{name.format(pair)}.{part}": torch.randn(*(shape if part == "weight" else shape[:1])) * 0.3
        for pair in range(pairs)
        for name, shape in shapes.items()
        for part in ("weight", "bias")
    }


def _random_batch(form: Form) -> Weights:
    batch = {
        "input_ids": torch.randint(1, VOCABULARY, (ROWS, TOKENS)),
        "attention_mask": torch.ones(ROWS, TOKENS, dtype=torch.long),
    }
    if form.task == "qa":
        return batch | {f"{end}_positions": torch.randint(0, TOKENS, (ROWS,)) for end in ("start", "end")}
    return batch | {"labels": torch.randn(ROWS) if form.num_labels == 1 else torch.randint(0, form.num_labels, (ROWS,))}


# --- the formulas ---------------------------------------------------------------------------------------------


def _pred_loss(form: Form, logits: Tensor, batch: Weights) -> Tensor:
    rows = torch.arange(ROWS)
    if form.task == "qa":
        return sum(
            -logits[..., axis].log_softmax(-1)[rows, batch[f"{end}_positions"]].mean() / 2
            for axis, end in enumerate(("start", "end"))
        )
    if form.num_labels == 1:
        return (logits.view(-1) - batch["labels"].to(logits.dtype)).pow(2).mean()
    return functional.cross_entropy(logits.float(), batch["labels"])


def _kl_loss(form: Form, student: Tensor, teacher: Tensor) -> Tensor:
    def batch_mean(student: Tensor, teacher: Tensor) -> Tensor:
        log_p, log_q = (teacher / TEMPERATURE).log_softmax(-1), (student / TEMPERATURE).log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum() / ROWS * TEMPERATURE**2

    if form.task == "qa":
        return (batch_mean(student[..., 0], teacher[..., 0]) + batch_mean(student[..., 1], teacher[..., 1])) / 2
    if form.num_labels == 1:
        return batch_mean(student.view(-1), teacher.view(-1))
    return batch_mean(student, teacher)


def _filter(weights: Weights, pair: int, hidden: Tensor) -> Tensor:
    def linear(layer: str, inputs: Tensor) -> Tensor:
        return inputs @ weights[f"filters.{pair}.{layer}weight"].T + weights[f"filters.{pair}.{layer}bias"]

    if f"filters.{pair}.weight" in weights:
        return linear("", hidden)
    return linear("2.", functional.gelu(linear("0.", hidden)))


def _head(weights: Weights, pair: int, states: Tensor) -> Tensor:
    pooler, head = f"filter_pooler.{pair}.dense", f"filter_head.{pair}"
    if f"{pooler}.weight" in weights:
        states = functional.gelu(states[:, 0] @ weights[f"{pooler}.weight"].T + weights[f"{pooler}.bias"])
    return states @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]


def _run(model: PreTrainedModel, batch: Weights) -> tuple[Tensor, tuple[Tensor, ...]]:
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    outputs = model(**inputs, output_hidden_states=True)
    if "start_logits" in outputs:
        return torch.stack([outputs.start_logits, outputs.end_logits], -1), outputs.hidden_states
    return outputs.logits, outputs.hidden_states


# --- the golden numbers ---------------------------------------------------------------------------------------


class _Pieces:
    """What is in the folder, in one dtype; new leaves each time."""

    def __init__(self, folder: Path, form: Form, dtype: torch.dtype) -> None:
        self.folder, self.form, self.dtype = folder, form, dtype

    def model(self, owner: str) -> PreTrainedModel:
        kind = DebertaV2ForQuestionAnswering if self.form.task == "qa" else DebertaV2ForSequenceClassification
        return kind.from_pretrained(self.folder / owner).to(self.dtype)

    def tensors(self, name: str) -> Weights:
        from safetensors.torch import load_file

        return {
            key: value.to(self.dtype).requires_grad_()
            for key, value in load_file(self.folder / f"{name}.safetensors").items()
        }

    def batch(self) -> Weights:
        from safetensors.torch import load_file

        return {
            key.removeprefix("full."): value for key, value in load_file(self.folder / "batches.safetensors").items()
        }


def _golden(folder: Path, form: Form, dtype: torch.dtype) -> dict[str, Any]:
    pieces = _Pieces(folder, form, dtype)
    return {
        "stage1": {owner: _stage1(pieces, owner) for owner in ("teacher", "student")},
        "stage2": {method: _stage2(pieces, method) for method in ("ted", "lwd", "kd")},
    }


def _stage1(pieces: _Pieces, owner: str) -> dict[str, Any]:
    form, batch = pieces.form, pieces.batch()
    interval = getattr(form, f"{owner}_filter_interval")
    filters, heads = pieces.tensors(f"{owner}_filters"), pieces.tensors(f"{owner}_filter_heads")
    with torch.no_grad():
        _, hidden = _run(pieces.model(owner), batch)
    matched = hidden[interval::interval]

    def terms() -> dict[str, Tensor]:
        losses = [
            _pred_loss(form, _head(heads, pair, _filter(filters, pair, states)), batch)
            for pair, states in enumerate(matched)
        ]
        return {"total_loss": sum(losses) / len(losses)}

    states = [_filter(filters, pair, states) for pair, states in enumerate(matched)]
    trajectory, gradients, final = _five_steps(terms, filters | heads)
    losses = [step["total_loss"] for step in trajectory]
    return {
        "loss": losses[0],
        "filter_states": [_summary(state) for state in states],
        "hidden_states": [_summary(state) for state in hidden],
        "grads": gradients,
        "trajectory": losses,
        "final_filter_params": final,
        "final_filter_params_abs_sum": sum(norms[1] for norms in final.values()),
    }


def _stage2(pieces: _Pieces, method: str) -> dict[str, Any]:
    form, batch = pieces.form, pieces.batch()
    student, weights = pieces.model("student"), {"kl_alpha": 5.0, "mse_alpha": 0.0 if method == "kd" else 100.0}
    filters = {} if method == "kd" else pieces.tensors({"ted": "student_filters", "lwd": "student_lwd_filters"}[method])
    with torch.no_grad():
        teacher_logits, hidden = _run(pieces.model("teacher"), batch)
        matched = hidden[form.teacher_filter_interval :: form.teacher_filter_interval]
        teacher_filters = pieces.tensors("teacher_filters")
        targets = {
            "ted": [_filter(teacher_filters, pair, states) for pair, states in enumerate(matched)],
            "lwd": list(matched),
            "kd": [],
        }[method]

    def states_and_logits() -> tuple[list[Tensor], Tensor]:
        logits, own = _run(student, batch)
        interval = form.student_filter_interval
        return [_filter(filters, pair, own[(pair + 1) * interval]) for pair in range(len(targets))], logits

    def terms() -> dict[str, Tensor]:
        states, logits = states_and_logits()
        pairs = [(ours - target).pow(2).mean() for ours, target in zip(states, targets, strict=True)]
        pred, kl = _pred_loss(form, logits, batch), _kl_loss(form, logits, teacher_logits)
        mse = sum(pairs) / len(pairs) if pairs else torch.zeros(())
        total = pred + weights["kl_alpha"] * kl + weights["mse_alpha"] * mse
        return {"pred_loss": pred, "kl_loss": kl, "mse_loss": mse, "total_loss": total, "per_filter_mse": pairs}

    with torch.no_grad():
        states, logits = states_and_logits()
    trajectory, gradients, final = _five_steps(terms, dict(student.named_parameters()) | filters)
    return {
        **weights,
        **trajectory[0],
        "trajectory": trajectory,
        "student_logits": _logits(form, logits),
        "teacher_logits": _logits(form, teacher_logits),
        "student_filter_states": [_summary(state) for state in states],
        "teacher_states_all": [_summary(state) for state in (hidden[1:] if method == "lwd" else targets)],
        "student_grads": gradients,
        "final_student_params": final,
        "final_student_params_abs_sum": sum(norms[1] for norms in final.values()),
    }


def _five_steps(terms: Any, parameters: Weights) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    optimizer = torch.optim.AdamW(parameters.values(), lr=RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    trajectory, gradients = [], {}
    for step in range(STEPS + 1):
        now = terms()
        trajectory.append({
            name: [item.item() for item in value] if isinstance(value, list) else value.item()
            for name, value in now.items()
        })  # fmt: skip
        optimizer.zero_grad()
        now["total_loss"].backward()
        if step == 0:
            gradients = {name: _norms(weight.grad) for name, weight in parameters.items()}
        if step < STEPS:
            optimizer.step()
    return trajectory, gradients, {name: _norms(weight) for name, weight in parameters.items()}


def _norms(tensor: Tensor | None) -> list[float]:
    if tensor is None:
        return [0.0, 0.0]
    values = tensor.detach().double()
    return [values.pow(2).sum().sqrt().item(), values.abs().sum().item()]


def _summary(state: Tensor) -> dict[str, Any]:
    values = state.detach().double()
    sums = {"sum": values.sum().item(), "abs_sum": values.abs().sum().item()}
    return {
        "shape": list(values.shape),
        **sums,
        **{f"{name}_nonpad": value for name, value in sums.items()},
        "first": values[0, 0, :5].tolist(),
        "row1_pos3": values[1, 3, :5].tolist(),
        "last_row_last_pos": values[-1, -1, :5].tolist(),
    }


def _logits(form: Form, logits: Tensor) -> Any:
    if form.task == "qa":
        return {"start": logits[..., 0].tolist(), "end": logits[..., 1].tolist()}
    return logits.view(-1).tolist() if form.num_labels == 1 else logits.tolist()


def _zero_gradients(golden: dict[str, Any]) -> dict[str, list[str]]:
    """Parameters whose exact gradient is 0: in float64 nothing but rounding noise is left of it."""
    stages = {f"stage1_{owner}": stage["grads"] for owner, stage in golden["stage1"].items()}
    stages |= {f"stage2_{method}": stage["student_grads"] for method, stage in golden["stage2"].items()}
    return {stage: [name for name, (norm, _) in grads.items() if norm < 1e-12] for stage, grads in stages.items()}
