"""The stages: fine-tuning, Stage I (filters), Stage II (distillation), and scoring."""

from .distill import distill
from .distill_arguments import DistillArguments
from .distill_trainer import DistillTrainer
from .evaluate import evaluate
from .filters.filter_arguments import LearnFiltersArguments
from .filters.filter_learner import LearnFiltersTrainer
from .finetune import FinetuneTrainer, finetune
from .learn_filters import learn_filters
