"""The stages: fine-tuning, Stage I (filters), Stage II (distillation), and scoring."""

from .distill import DistillTrainer, distill
from .evaluate import evaluate
from .finetune import FinetuneTrainer, finetune
from .learn_filters import LearnFiltersArguments, LearnFiltersTrainer, learn_filters
from .methods import DistillArguments

__all__ = [
    "DistillArguments",
    "DistillTrainer",
    "FinetuneTrainer",
    "LearnFiltersArguments",
    "LearnFiltersTrainer",
    "distill",
    "evaluate",
    "finetune",
    "learn_filters",
]
