"""One directory of golden numbers, read into the package's own pieces: task, models, filters, heads and a batch."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from ted_distill.method.filters import Batch, FilterConfig, FilteredModel, Filters
from ted_distill.published.losses import as_published
from ted_distill.tasks import QuestionAnswering, Regression, SequenceClassification, Task, TaskArguments
from ted_distill.tasks.glue import GlueTask

GOLDEN_FILES = {torch.float64: "golden_fp64.json", torch.float32: "golden_fp32.json"}

Parameters = dict[str, nn.Parameter]
Golden = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A directory of golden numbers, one of its batches, and the dtype to compute in."""

    folder: Path
    info: Golden
    golden: Golden
    task: Task
    batch: Batch
    models: dict[str, PreTrainedModel]
    dtype: torch.dtype

    @classmethod
    def load(cls, folder: Path, batch_name: str, dtype: torch.dtype) -> Case:
        """Read a case. Raises `OSError`, `ValueError` or `KeyError` if the directory holds something else."""
        info = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        golden = json.loads((folder / GOLDEN_FILES[dtype]).read_text(encoding="utf-8"))[batch_name]
        tensors = load_file(folder / "batches.safetensors")
        batch = {
            name.partition(".")[2]: value.to(dtype) if value.is_floating_point() else value
            for name, value in tensors.items()
            if name.startswith(f"{batch_name}.")
        }
        task = _task(batch, info["num_labels"])
        models = {owner: task.auto_model.from_pretrained(folder / owner).to(dtype) for owner in ("teacher", "student")}
        return cls(folder, info, golden, task, batch, models, dtype)

    def model(self, owner: str) -> PreTrainedModel:
        """A fresh copy of `teacher` or `student`."""
        model = copy.deepcopy(self.models[owner])
        mask = self.batch["attention_mask"]
        if not bool(mask.all()):
            _silence_padding(model, mask)
        return model

    def filters(self, name: str, config: PretrainedConfig, filter_interval: int) -> Filters:
        """Filters from a file of the case; their width and form are those of its tensors."""
        state = load_file(self.folder / f"{name}.safetensors")
        nonlinear = "filters.0.2.weight" in state
        width = state["filters.0.2.weight" if nonlinear else "filters.0.weight"].shape[0]
        filters = Filters.random(FilterConfig.for_model(config, filter_interval, width, nonlinear))
        filters.load_state_dict(state)
        return filters.to(self.dtype)

    def heads(self, owner: str, filters: Filters, model: PreTrainedModel) -> tuple[nn.ModuleList, Parameters]:
        """Stage I heads, and their parameters under the published code's names."""
        state = load_file(self.folder / f"{owner}_filter_heads.safetensors")
        assert filters.config is not None  # not identity filters: they came from a file
        heads = nn.ModuleList()
        parameters: Parameters = {}
        for index in range(len(filters.blocks)):
            head = self.task.filter_head(filters.config.filter_output_dim, model)
            names = {name: _published_head_name(name, index) for name, _ in head.named_parameters()}
            head.load_state_dict({name: state[published] for name, published in names.items()})
            heads.append(head.to(self.dtype))
            parameters |= {names[name]: weight for name, weight in head.named_parameters()}
        return heads, parameters

    def with_filters(self, model: PreTrainedModel, filters: Filters | None) -> FilteredModel:
        """The model as the stages use it."""
        return FilteredModel(model, filters, select_logits=self.task.logits)

    def skipped(self, stage: str) -> set[str]:
        """Parameters whose exact gradient is 0: theirs is rounding noise, which Adam turns into steps."""
        return set(self.info.get("zero_gradient_parameters", {}).get(stage, ()))


def _task(batch: Batch, num_labels: int) -> Task:
    """The task that the labels of the batch are for, with the losses of the published code."""
    arguments = TaskArguments(task="case")
    if "start_positions" in batch:
        return as_published(QuestionAnswering(arguments))
    if num_labels == 1:
        return as_published(Regression(arguments))
    labels = tuple(f"LABEL_{number}" for number in range(num_labels))
    return as_published(SequenceClassification(arguments, GlueTask("case", "a golden case", "text", None, labels)))


def _published_head_name(name: str, index: int) -> str:
    if name.startswith("dense."):
        return f"filter_pooler.{index}.{name}"
    return f"filter_head.{index}.{name.removeprefix('out_proj.')}"


def _silence_padding(model: PreTrainedModel, mask: Tensor) -> None:
    """Set the attention output of padding to 0, as transformers did up to 4.28; in newer versions it attends to all."""

    def at_real_tokens(_module: nn.Module, _inputs: Any, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (outputs[0] * mask.unsqueeze(-1), *outputs[1:])

    for layer in model.base_model.encoder.layer:
        layer.attention.self.register_forward_hook(at_real_tokens)
