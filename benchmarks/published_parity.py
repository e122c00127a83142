"""Recompute the golden numbers of the published implementation with this package, and say how far apart they are.

    python benchmarks/published_parity.py CASE_DIR [--batch full|padded]

CASE_DIR is a directory of golden cases (docs/method.md, "Parity"): two plain checkpoints, initial filters and
heads, batches, and the losses, states, gradients and five-step trajectories that the published code made of them.
Everything is recomputed through the package's own tasks, filters, losses and stage losses, in float64 and float32.
Exit code: 0, 1 if an error exceeds its limit, 2 if CASE_DIR is not a case.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from published_case import Case, Golden, Parameters
from ted_distill.method.filters import Batch, Filters
from ted_distill.method.pairs import filtered_blocks
from ted_distill.stages.distill_trainer import LossSettings, distillation_terms
from ted_distill.stages.filters.filter_learner import FilterLearner, filter_head_losses

LIMITS = {
    torch.float64: {"loss": 1e-12, "state": 1e-9, "gradient": 1e-9, "parameter": 1e-9},
    torch.float32: {"loss": 1e-4, "state": 1e-5, "gradient": 1e-4, "parameter": 1e-5},
}
"""Largest relative error of each kind of quantity; states and logits below 1 count as if they were 1."""

TERM_NAMES = {
    "pred_loss": "pred_loss",
    "match_loss": "kl_loss",
    "layer_loss": "mse_loss",
    "loss": "total_loss",
}
"""Our names of the terms of Stage II -> those of the golden files."""


class Error(NamedTuple):
    """The largest relative error of one quantity."""

    quantity: str
    kind: str
    value: float


# --- the stages -----------------------------------------------------------------------------------------------


def stage1_errors(case: Case, owner: str) -> Iterator[Error]:
    """Stage I of `teacher` or `student`: its filters and heads, the rest frozen."""
    golden, task, batch = case.golden["stage1"][owner], case.task, case.batch
    model = case.model(owner)
    filters = case.filters(f"{owner}_filters", model.config, case.info[f"{owner}_filter_interval"])
    heads, head_parameters = case.heads(owner, filters, model)
    learner = FilterLearner(case.with_filters(model, filters), heads).train()
    with torch.no_grad():
        states = learner.filtered(batch).states
    yield _states_error("hidden_states", _hidden_states(case, model), golden["hidden_states"], batch)
    yield _states_error("filter_states", states, golden["filter_states"], batch)

    def terms() -> dict[str, Tensor]:
        return filter_head_losses([task.loss(logits, batch) for logits in learner(batch)[0]])

    parameters = {**dict(filters.named_parameters()), **head_parameters}
    trained = train(terms, parameters, case.info)
    losses = [step["loss"] for step in trained.trajectory]
    yield _losses_error("loss", losses[:1], [golden["loss"]])
    yield _losses_error("trajectory", losses, golden["trajectory"])
    yield from _parameters_errors(
        trained, golden["grads"], golden["final_filter_params"], golden["final_filter_params_abs_sum"],
        case.skipped(f"stage1_{owner}"),
    )  # fmt: skip


def stage2_errors(case: Case, method: str) -> Iterator[Error]:
    """Stage II with method `ted`, `lwd` or `kd`: the whole student and its filters."""
    golden, info, batch = case.golden["stage2"][method], case.info, case.batch
    teacher_model, model = case.model("teacher"), case.model("student")
    teacher_filters, filters = _method_filters(case, method, teacher_model.config, model.config)
    student = case.with_filters(model, filters).train()
    teacher = case.with_filters(teacher_model, teacher_filters).freeze()(batch)
    with torch.no_grad():
        output = student(batch)
    yield _logits_error("student_logits", output.logits, golden["student_logits"])
    yield _logits_error("teacher_logits", teacher.logits, golden["teacher_logits"])
    if filters is not None:
        teacher_states = _hidden_states(case, teacher_model)[1:] if method == "lwd" else teacher.states
        yield _states_error("student_states", output.states, golden["student_filter_states"], batch)
        yield _states_error("teacher_states", teacher_states, golden["teacher_states_all"], batch)

    def terms() -> dict[str, Tensor]:
        return distillation_terms(
            student(batch), teacher, case.task, batch,
            LossSettings(golden["kl_alpha"], golden["mse_alpha"], info["temperature"]),
        )  # fmt: skip

    trained = train(
        terms, {**dict(model.named_parameters()), **dict(filters.named_parameters() if filters else ())}, info
    )
    first = trained.trajectory[0]
    for ours, published in TERM_NAMES.items():
        yield _losses_error(published, [first.get(ours, 0.0)], [golden[published]])
    yield _losses_error("per_filter_mse", first.get("pair_losses", []), golden["per_filter_mse"])
    yield _losses_error(
        "trajectory",
        [step.get(ours, 0.0) for step in trained.trajectory for ours in TERM_NAMES],
        [step[published] for step in golden["trajectory"] for published in TERM_NAMES.values()],
    )
    yield from _parameters_errors(
        trained, golden["student_grads"], golden["final_student_params"], golden["final_student_params_abs_sum"],
        case.skipped(f"stage2_{method}"),
    )  # fmt: skip


def _method_filters(
    case: Case, method: str, teacher_config: PretrainedConfig, student_config: PretrainedConfig
) -> tuple[Filters | None, Filters | None]:
    """Filters of teacher and student: the three methods are one stage with other filters."""
    teacher_interval, interval = case.info["teacher_filter_interval"], case.info["student_filter_interval"]
    if method == "ted":
        return (
            case.filters("teacher_filters", teacher_config, teacher_interval),
            case.filters("student_filters", student_config, interval),
        )
    if method == "lwd":
        return (
            Filters.identity(filtered_blocks(teacher_config.num_hidden_layers, teacher_interval)),
            case.filters("student_lwd_filters", student_config, interval),
        )
    if method == "kd":
        return None, None
    raise ValueError(f"stage2: expected ted, lwd or kd, got {method}")


@torch.no_grad()
def _hidden_states(case: Case, model: PreTrainedModel) -> list[Tensor]:
    """All L + 1 hidden states: those of identity filters."""
    blocks = range(model.config.num_hidden_layers + 1)
    return case.with_filters(model, Filters.identity(blocks))(case.batch).states


class Trained(NamedTuple):
    """The results of five steps on one batch: loss terms before each and after the last, gradients of the first."""

    trajectory: list[dict[str, Any]]
    gradients: dict[str, list[float]]
    parameters: dict[str, list[float]]


def train(terms: Callable[[], dict[str, Tensor]], parameters: Parameters, info: Golden) -> Trained:
    """AdamW as the case describes it, on the same batch in every step."""
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=info["lr"], betas=tuple(info["adamw_betas"]), eps=info["adamw_eps"],
        weight_decay=info["weight_decay"],
    )  # fmt: skip
    trajectory, gradients = [], {}
    for step in range(info["steps"]):
        now = terms()
        trajectory.append({name: value.tolist() for name, value in now.items()})
        optimizer.zero_grad()
        now["loss"].backward()
        if step == 0:
            gradients = {
                name: _norms(torch.zeros_like(weight) if weight.grad is None else weight.grad)
                for name, weight in parameters.items()
            }
        optimizer.step()
    with torch.no_grad():
        trajectory.append({name: value.tolist() for name, value in terms().items()})
    return Trained(trajectory, gradients, {name: _norms(weight.detach()) for name, weight in parameters.items()})


def _norms(tensor: Tensor) -> list[float]:
    """L2 norm and sum of absolute values."""
    return [tensor.double().norm().item(), tensor.double().abs().sum().item()]


# --- errors ---------------------------------------------------------------------------------------------------


def _largest(values: Sequence[float], expected: Sequence[float], scales: Sequence[float] | None = None) -> float:
    """Infinity where something is missing or not a number, so that it cannot pass."""
    if len(values) != len(expected):
        return float("inf")
    scales = [abs(value) or 1.0 for value in expected] if scales is None else scales
    errors = [abs(value - wanted) / scale for value, wanted, scale in zip(values, expected, scales, strict=True)]
    return max((error if error == error else float("inf") for error in errors), default=0.0)


def _losses_error(quantity: str, losses: Sequence[float], expected: Sequence[float]) -> Error:
    return Error(quantity, "loss", _largest(losses, expected))


def _entries_error(values: Tensor, expected: Tensor) -> float:
    return _largest(values.double().tolist(), expected.tolist(), expected.abs().clamp(min=1).tolist())


def _logits_error(quantity: str, logits: Tensor, expected: Any) -> Error:
    if isinstance(expected, dict):
        expected = [list(row) for row in zip(expected["start"], expected["end"], strict=True)]
        logits = logits.transpose(1, 2)
    wanted = torch.tensor(expected, dtype=torch.float64)
    return Error(quantity, "state", _entries_error(logits.reshape(-1), wanted.reshape(-1)))


def _states_error(quantity: str, states: Sequence[Tensor], expected: Sequence[Golden], batch: Batch) -> Error:
    """The largest error of sums (relative to the sum of absolute values) and of single entries."""
    if len(states) != len(expected):
        return Error(quantity, "state", float("inf"))
    real = batch["attention_mask"].bool()
    errors = []
    for state, golden in zip(states, expected, strict=True):
        if list(state.shape) != golden["shape"]:
            return Error(quantity, "state", float("inf"))
        for suffix, part in (("", state.double()), ("_nonpad", state.double()[real])):
            sums, scale = [part.sum().item(), part.abs().sum().item()], golden[f"abs_sum{suffix}"]
            errors.append(_largest(sums, [golden[f"sum{suffix}"], scale], [scale, scale]))
        for name, entries in (("first", state[0, 0]), ("row1_pos3", state[1, 3]), ("last_row_last_pos", state[-1, -1])):
            errors.append(_entries_error(entries[:5], torch.tensor(golden[name], dtype=torch.float64)))
    return Error(quantity, "state", max(errors))


def _parameters_errors(
    trained: Trained, gradients: Golden, parameters: Golden, abs_sum: float, skipped: set[str]
) -> Iterator[Error]:
    """Norms of gradients and of trained parameters, tensor by tensor."""
    yield Error("gradients", "gradient", _norms_error(trained.gradients, gradients, skipped))
    yield Error("final_parameters", "parameter", _norms_error(trained.parameters, parameters, skipped))
    ours = sum(norms[1] for name, norms in trained.parameters.items() if name not in skipped)
    expected = abs_sum - sum(norms[1] for name, norms in parameters.items() if name in skipped)
    yield Error("final_abs_sum", "parameter", _largest([ours], [expected]))


def _norms_error(ours: dict[str, list[float]], golden: Golden, skipped: set[str]) -> float:
    if set(ours) != set(golden):
        return float("inf")
    return max((_largest(ours[name], golden[name]) for name in golden if name not in skipped), default=0.0)


# --- the report -----------------------------------------------------------------------------------------------


def measure(folder: Path, batch_name: str, dtype: torch.dtype) -> dict[str, Error]:
    """The largest error of every quantity, by stage and name."""
    case = Case.load(folder, batch_name, dtype)
    errors: dict[str, Error] = {}
    for owner in case.golden["stage1"]:
        errors |= {f"stage1 {owner:<8}{error.quantity}": error for error in stage1_errors(case, owner)}
    for method in case.golden["stage2"]:
        errors |= {f"stage2 {method:<8}{error.quantity}": error for error in stage2_errors(case, method)}
    return errors


def report(errors: dict[torch.dtype, dict[str, Error]]) -> tuple[str, bool]:
    """One line per quantity with both errors and their limits, and whether all are within them."""
    lines = [f"{'largest relative error of':<34}{'float64':>9}{'limit':>8}{'float32':>12}{'limit':>8}"]
    passed = True
    for name in errors[torch.float64]:
        cells, beyond = [], False
        for dtype in LIMITS:
            _, kind, value = errors[dtype][name]
            limit = LIMITS[dtype][kind]
            beyond |= not value <= limit
            cells.append(f"{value:9.1e}{limit:8.0e}")
        lines.append(f"{name:<34}{'   '.join(cells)}{'   beyond the limit' if beyond else ''}")
        passed &= not beyond
    return "\n".join(lines), passed


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one case and print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare with golden numbers of the published implementation.")
    parser.add_argument("case", metavar="CASE_DIR", type=Path, help="a directory with one golden case")
    parser.add_argument("--batch", choices=("full", "padded"), default="full", help="which of its batches [full]")
    arguments = parser.parse_args(argv)
    disable_progress_bar()
    try:
        errors = {dtype: measure(arguments.case, arguments.batch, dtype) for dtype in LIMITS}
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(
            f"{arguments.case}: not a golden case, or not with a batch {arguments.batch} "
            f"({type(error).__name__}: {error})\n"
        )
        return 2
    table, passed = report(errors)
    sys.stdout.write(f"{arguments.case.resolve().name}, batch {arguments.batch}\n{table}\n")
    sys.stdout.write("all within their limits\n" if passed else "NOT all within their limits\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
