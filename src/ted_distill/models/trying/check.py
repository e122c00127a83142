"""A model tried out when it is opened: two short rows, alone and beside a longer one, before anything is trained.

Families differ in what they do with padding, in the hidden states they return, and in which tokens see which. Whatever
would make results depend on the batch that a row happens to be in, or training fail halfway, is found by running the
model and not by its name, so that families nobody has thought of are checked too. It takes two forward passes of a few
tokens, and one of a long row through the first block.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import InputError, reason_of
from ...fast.embeddings import token_table
from ...method.filters import Batch, FilteredModel, hidden_states_of
from ...method.projections import projections_problem
from ...method.shapes import block_lists, num_blocks, width
from ...tasks import QuestionAnswering, SequenceClassification, Task
from ...tasks.text.causal_lm import CausalLM
from ...tasks.text.language_modelling import LanguageModelling
from ...tasks.text.masked_lm import MaskedLM
from ...tasks.token_classification import TokenClassification
from .positions import length_limit
from .probe_rows import ProbeRows

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
"""Greatest difference, relative to the largest number, between results that count as the same in float32."""
_NOTHING = 1e-6
"""The same for results of tokens that do not see the one that was changed."""
_STATES = {"output_hidden_states": True}


@dataclass(frozen=True)
class Findings:
    """What a model was found to do."""

    causal: bool = False
    """No token sees later ones."""
    states_problem: str | None = None
    """Why its hidden states cannot be matched or filtered; None if they can."""
    relations_problem: str | None = None
    """Why its attention relations cannot be matched, although it has queries, keys and values; None if they can."""


def check_model(
    module: FilteredModel, tokenizer: PreTrainedTokenizerBase, task: Task, name: str
) -> tuple[Findings, int | None]:
    """Try a model out as the stages use it: on the CPU, in float32, without dropout.

    Returns:
        What it was found to do, and how many tokens it reads if those are fewer than the task wants.

    Raises:
        InputError: it cannot run, or its results depend on padding, or on the tokens that they should predict.
    """
    named = f"{name} ({type(module.model).__name__})"
    rows = ProbeRows(tokenizer, token_table(module.model), pairs=isinstance(task, QuestionAnswering))

    def limit(wanted: int) -> int | None:
        return length_limit(module.model, wanted, lambda length: _reads(module, rows.row(length)))

    with _undisturbed(module.model):
        rows.cut(limit(rows.longest) or rows.longest)
        alone, padded = rows.alike(), rows.beside_longer()
        try:
            outputs = [module.outputs(batch, **_STATES) for batch in (alone, padded)]
            logits = [module.select_logits(of_batch).float() for of_batch in outputs]
            _run_in_training(module, padded)
        # Models fail in many ways, and with remote code in any.
        except Exception as error:
            raise InputError(
                f"model: expected {named} to read a batch of text for task {task.name}, got an error "
                f"({_reason(error)}); use a model of another family"
            ) from error
        _check_logits(logits[0], alone, task, named)
        states = [hidden_states_of(of_batch) for of_batch in outputs]
        problem = _states_problem(states[0], alone, module.model)
        _check_padding(logits, named)
        if problem is None:
            for of_block in zip(*states, strict=True):
                _check_padding(of_block, named)
        if problem is None and not _sees_later(states[0][-1], rows) and not _sees_earlier(states[0][-1], rows):
            logger.warning(
                "model: expected tokens of %s to depend on each other, got a model that reads each by itself; are its "
                "weights untrained, or does it need a kernel that is not installed?", named,
            )  # fmt: skip
        size = tuple(padded["input_ids"].shape)
        relations = projections_problem(module.model, lambda: module.outputs(padded), (size[0], size[1]))
        findings = Findings(problem is None and _is_causal(states[0][-1], rows), problem, relations)
        _check_sight(logits[0], findings.causal, rows, task, named)
        most = limit(task.longest(tokenizer))
    return findings, most


def autocast_problem(
    module: FilteredModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    device: torch.device,
    dtype: torch.dtype,
) -> str | None:
    """Why a model does not run under autocast to `dtype` on a device, in training or in scoring; None if it does."""
    rows = ProbeRows(tokenizer, token_table(module.model), pairs=isinstance(task, QuestionAnswering))
    home = module.model.device

    def there(batch: Batch) -> Batch:
        return {name: tensor.to(device) for name, tensor in batch.items()}

    with _undisturbed(module.model, device):
        try:
            module.to(device)
            limit = length_limit(module.model, rows.longest, lambda length: _reads(module, there(rows.row(length))))
            rows.cut(limit or rows.longest)
            batch = there(rows.beside_longer())
            with torch.autocast(device.type, dtype=dtype):
                if module.select_logits(module.outputs(batch, **_STATES)).isnan().any():
                    return "its predictions are not numbers"
                _run_in_training(module, batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a family makes of a type that it does not expect
            return _reason(error)
        finally:
            module.to(home)
    return None


def _run_in_training(module: FilteredModel, batch: Batch) -> None:
    """Run a model as in training, where some families accept less; what that changes in its buffers is undone."""
    buffers = {name: buffer.clone() for name, buffer in module.model.named_buffers()}
    module.model.train()
    try:
        module.outputs(batch)
    finally:
        module.model.eval()
        for name, buffer in module.model.named_buffers():
            if name in buffers and buffer.shape == buffers[name].shape:
                buffer.copy_(buffers[name])


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device | None = None) -> Iterator[None]:
    """Run a model in eval mode without a trace: mode and random generators are as before afterwards.

    Args:
        device: where it runs [on the CPU].
    """
    training, drawn = model.training, np.random.get_state()
    devices = [device] if device is not None and device.type == "cuda" else []
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=devices), torch.no_grad():
            warnings.simplefilter("ignore")
            model.eval()
            yield
    finally:
        np.random.set_state(drawn)
        model.train(training)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {reason_of(error)}" if str(error).strip() else type(error).__name__


# --- what is wrong with the results --------------------------------------------------------------------------------


def _check_logits(logits: Tensor, batch: Batch, task: Task, named: str) -> None:
    """Refuse logits of the wrong shape, or without numbers. Raises `InputError`."""
    rows, tokens = batch["input_ids"].shape
    wanted: tuple[int, ...] | None = None
    if isinstance(task, SequenceClassification):
        wanted = (rows, task.num_labels)
    elif isinstance(task, TokenClassification | QuestionAnswering):
        wanted = (rows, tokens, task.num_labels)
    elif isinstance(task, LanguageModelling):
        wanted = (rows, tokens, logits.shape[-1])
    if wanted and tuple(logits.shape) != wanted:
        raise InputError(
            f"model: expected logits of shape {wanted} from {named} for {rows} rows of {tokens} tokens, got "
            f"{tuple(logits.shape)}; use a model of another family"
        )
    if torch.isnan(logits).any():
        raise InputError(
            f"model: expected finite logits from {named}, got NaN for a short text; its weights are damaged, or need "
            "another version of transformers"
        )


def _check_padding(results: Sequence[Tensor], named: str) -> None:
    """Refuse a model whose results for a row change with the padding after it. Raises `InputError`."""
    alone, padded = results
    difference = _difference(alone[0], padded[0])
    if difference > _TOLERANCE:
        raise InputError(
            f"model: expected the same results from {named} for a row alone and beside a longer one, got others (by "
            f"{100 * difference:.2g} %): it does not mask padding on the right, so that results would depend on the "
            "batch; use a model of another family"
        )


def _check_sight(logits: Tensor, causal: bool, rows: ProbeRows, task: Task, named: str) -> None:
    """Refuse a model whose tokens see too much or too little for the task. Raises `InputError`."""
    if isinstance(task, CausalLM) and _sees_later(logits, rows):
        raise InputError(
            f"model: expected each token of {named} to see only those before it, got a model that sees the tokens it "
            "should predict; set --config_overrides is_decoder=true if its family has that, or use a causal model"
        )
    if isinstance(task, MaskedLM) and _is_causal(logits, rows):
        raise InputError(
            f"model: expected each token of {named} to see those after it, got a causal model; set --config_overrides "
            "is_decoder=false if its family has that, or use task causal_lm"
        )
    by_first = isinstance(task, SequenceClassification) and causal and bool(logits.any())
    if by_first and _difference(logits[0], logits[1]) <= _NOTHING:
        raise InputError(
            f"model: expected logits of {named} that depend on the whole text, got those of its first token, which "
            "sees no other; set --config_overrides is_decoder=false if its family has that, or use another model"
        )


def _is_causal(results: Tensor, rows: ProbeRows) -> bool:
    """Whether results (3, T, ...) of tokens depend on earlier tokens, but not on later ones.

    In a model of random weights that mixes nothing yet they depend on neither, and nothing is known.
    """
    return not _sees_later(results, rows) and _sees_earlier(results, rows)


def _sees_earlier(results: Tensor, rows: ProbeRows) -> bool:
    """Whether results (3, T, ...) of tokens after the first word depend on it."""
    after = rows.first_word + 1
    return _difference(results[0, after:], results[2, after:]) > _NOTHING


def _sees_later(results: Tensor, rows: ProbeRows) -> bool:
    """Whether results (3, T, ...) of tokens before the last word depend on it."""
    place = rows.last_word
    return place > 0 and _difference(results[0, :place], results[1, :place]) > _NOTHING


def _difference(first: Tensor, second: Tensor) -> float:
    """Greatest difference, relative to the largest finite number, of what both have in common; 0 if that is nothing."""
    common = min(len(first), len(second))
    first, second = first[:common].float(), second[:common].float()
    finite = first.isfinite() & second.isfinite()
    if not torch.equal(first.isfinite(), second.isfinite()):
        return float("inf")
    if not finite.any():
        return 0.0
    first, second = first[finite], second[finite]
    return float((first - second).abs().max() / first.abs().max().clamp(min=1e-30))


def _states_problem(states: tuple[Tensor, ...], batch: Batch, model: PreTrainedModel) -> str | None:
    """Why hidden states cannot be matched or filtered; None if they can."""
    try:
        blocks, size = num_blocks(model.config), width(model.config)
    except InputError as error:
        return str(error.problems[0])
    if not states:
        return f"expected hidden states of {blocks} blocks, got none"
    if len(states) != blocks + 1:
        return f"expected hidden states of {blocks} blocks, got those of {len(states) - 1}"
    wanted = (*batch["input_ids"].shape, size)
    for block, of_block in enumerate(states[1:], start=1):
        if tuple(of_block.shape) != wanted:
            return (
                f"expected hidden states of shape {wanted} of every block, got {tuple(of_block.shape)} of block {block}"
            )
    return None


# --- long rows -------------------------------------------------------------------------------------------------------


class _EnoughError(Exception):
    """The first block has read the row."""


def _reads(module: FilteredModel, batch: Batch) -> bool:
    """Whether a model reads a row: its embeddings and its first block, as all blocks are alike."""
    blocks = _blocks(module.model)

    def stop(*_: Any) -> None:
        raise _EnoughError

    hook = blocks[0].register_forward_hook(stop) if blocks is not None else None
    try:
        module.outputs(batch)
    except _EnoughError:
        return True
    # Too long a row fails in many ways: an index, a shape, an assertion.
    except Exception:
        return False
    finally:
        if hook is not None:
            hook.remove()
    return True


def _blocks(model: PreTrainedModel) -> nn.ModuleList | None:
    """The list of blocks; None if there is no one list that a row goes through, as in encoder-decoders."""
    if getattr(model.config, "is_encoder_decoder", False):
        return None
    return next(iter(block_lists(model)), None)
