"""The models, data and trainers that `step_worker.py` runs: all code that uses the classes of the package."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import DebertaV2Config, PreTrainedTokenizerFast

from step_flops import CLASSES, KL_ALPHA, LEARNING_RATE, MSE_ALPHA, SHAPES, TEMPERATURE, Shape, Shapes
from ted_distill.fast.states_cache import ROW
from ted_distill.method.filters import FilterConfig, Filters
from ted_distill.models.load import LoadedModel
from ted_distill.models.tokenizers import choose_tokenizers
from ted_distill.stages.distill import Chosen, distill_trainer
from ted_distill.stages.distill_arguments import DistillArguments
from ted_distill.stages.filters.method_filters import MethodFilters
from ted_distill.stages.learn_filters import filter_trainer
from ted_distill.stages.lifecycle import StageData
from ted_distill.tasks import Task, TaskArguments, load_task
from ted_distill.training.stage_arguments import StageArguments
from ted_distill.training.trainer import StageTrainer

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
TASKS = {"classification": "sst2", "qa": "squad_v2"}
DISTINCT_TOKENS = 20_000
"""Distinct tokens in the data where it has room for them: what freezing unseen embeddings saves depends on it."""


@dataclasses.dataclass
class Job:
    """What a worker does."""

    variant: str
    arguments: dict[str, Any]
    """Fields of `StageArguments`; those that this version does not have are left out."""
    device: str = "cpu"
    shapes: str = "base-xsmall"
    stage: int = 2
    task: str = "classification"
    length: int = 32
    batch_size: int = 8
    steps: int = 1
    epochs: int = 1
    """With more than one, `steps` is the number per epoch, and the data are used this many times."""


# --- trainers ---------------------------------------------------------------------------------------------------


def make_trainer(
    stage: int,
    task: Task,
    teacher: LoadedModel,
    student: LoadedModel | None,
    features: Dataset,
    arguments: StageArguments,
) -> StageTrainer:
    """The trainer that `learn_filters` (stage 1, on the teacher) or `distill` with method ted would make."""
    data = StageData(features.add_column(ROW, np.arange(len(features))), {})
    if stage == 1:
        return filter_trainer(teacher, filter_config(teacher, teacher), task, arguments, data)
    assert student is not None
    filters = MethodFilters(*(Filters.random(filter_config(owner, teacher)) for owner in (teacher, student)))
    weights = DistillArguments(
        "ted", kl_alpha=KL_ALPHA, mse_alpha=MSE_ALPHA, temperature=TEMPERATURE, layer_loss="mse", student_dropout=True
    )
    tokenizers = choose_tokenizers(teacher, student, task, ["ted"])
    chosen = Chosen(student, teacher, tokenizers, filters, None, None, weights)
    return distill_trainer(chosen, task, arguments, data)


def filter_config(owner: LoadedModel, teacher: LoadedModel) -> FilterConfig:
    """Filters after every block, as wide as the teacher."""
    return FilterConfig.for_model(owner.model.config, 1, teacher.model.config.hidden_size)


def make_arguments(job: Job, folder: str) -> StageArguments:
    """Only training: no scores, no checkpoints, no curves."""
    return StageArguments(
        output_dir=folder, per_device_train_batch_size=job.batch_size, learning_rate=LEARNING_RATE,
        eval_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=job.device == "cpu",
        num_train_epochs=job.epochs, **arguments_in_force(job),
    )  # fmt: skip


def arguments_in_force(job: Job) -> dict[str, Any]:
    """The arguments that the job sets, without those that this version does not have."""
    known = {field.name for field in dataclasses.fields(StageArguments)}
    return {name: value for name, value in job.arguments.items() if name in known}


# --- models and data ------------------------------------------------------------------------------------------


def make_task(job: Job) -> Task:
    """A task whose labels are known without data, and whose rows are not padded."""
    return load_task(TaskArguments(task=TASKS[job.task], max_seq_length=job.length))


def make_model(name: str, shape: Shape, shapes: Shapes, task: Task) -> LoadedModel:
    """A random model with the task's head, the same in every process."""
    config = DebertaV2Config(
        vocab_size=shapes.vocabulary, num_hidden_layers=shape.blocks, hidden_size=shape.width,
        num_attention_heads=shape.heads, intermediate_size=shape.intermediate, num_labels=CLASSES,
        max_position_embeddings=shapes.max_positions, position_buckets=shapes.position_buckets,
        relative_attention=True, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"],
        layer_norm_eps=1e-7, position_biased_input=False, type_vocab_size=0, max_relative_positions=-1,
    )  # fmt: skip
    torch.manual_seed(0)
    vocabulary = {token: number for number, token in enumerate(SPECIAL)}
    # Needed for its padding and for what a batch holds; nothing is tokenised.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]")),
        pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]", mask_token="[MASK]",
        model_max_length=shapes.max_positions, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    return LoadedModel(name, task.auto_model.from_config(config, dtype=torch.float32), tokenizer)


def make_features(job: Job) -> Dataset:
    """Rows of `length` random tokens with labels, the same in every process."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = SHAPES[job.shapes].vocabulary - len(SPECIAL)
    used = len(SPECIAL) + torch.randperm(vocabulary, generator=generator)[: min(DISTINCT_TOKENS, vocabulary // 4)]
    rows = job.steps * job.batch_size
    if job.epochs == 1:
        rows = max(rows, math.ceil(len(used) / job.length))  # more than are read
    tokens = used[torch.randint(len(used), (rows * job.length,), generator=generator)]
    each_once = used[: len(tokens)]
    tokens[: len(each_once)] = each_once
    ids = tokens.view(rows, job.length)
    labels = torch.randint(CLASSES, (rows,), generator=generator).tolist()
    names = ["labels"] if job.task == "classification" else ["start_positions", "end_positions"]
    return Dataset.from_dict(
        {
            "input_ids": ids.tolist(),
            "token_type_ids": torch.zeros_like(ids).tolist(),
            "attention_mask": torch.ones_like(ids).tolist(),
            "length": [job.length] * rows,
            **dict.fromkeys(names, labels),
        }
    )
