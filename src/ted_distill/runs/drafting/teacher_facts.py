"""What a recipe's author would look up about a teacher: its kind, its head, its labels, and whether it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ...models.heads import in_backbone, without_weights
from ...models.load import ModelArguments, load_config
from ...models.places import resolve_place
from ...models.pretrained import load_tokenizer
from ...models.trying.positions import readable_length
from ...output import read_json
from ...tasks import Task

SEQUENCE, TOKENS, ANSWERS, CAUSAL, MASKED = "sequence", "tokens", "answers", "causal", "masked"
"""Kinds of heads."""
_HEADS = {
    "ForSequenceClassification": SEQUENCE, "ForTokenClassification": TOKENS, "ForQuestionAnswering": ANSWERS,
    "ForCausalLM": CAUSAL, "LMHeadModel": CAUSAL, "ForMaskedLM": MASKED, "ForPreTraining": MASKED,
}  # fmt: skip
_OTHER_HEADS = ("ElectraForPreTraining", "FunnelForPreTraining", "SplinterForPreTraining")
"""Pre-trained to tell replaced words, or spans, and not to predict hidden words."""
_NO_LIMIT = 1_000_000
"""Tokenizers without a limit of their own have a larger one."""


@dataclass(frozen=True)
class TeacherFacts:
    """A teacher before its weights are loaded."""

    name: str
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase

    @property
    def architecture(self) -> str:
        """The class that it was saved from, or the family if it does not say."""
        return (self.config.architectures or [self.config.model_type])[0]

    @property
    def head(self) -> str | None:
        """The kind of its head; None for a backbone alone, or a head of another kind."""
        if self.architecture in _OTHER_HEADS:
            return None
        return next((kind for end, kind in _HEADS.items() if self.architecture.endswith(end)), None)

    @property
    def text_task(self) -> str | None:
        """The task that text without labels is good for by its head; None if it is no language model."""
        return {CAUSAL: "causal_lm", MASKED: "masked_lm"}.get(self.head or "")

    @property
    def text_task_of_family(self) -> str | None:
        """The same by its family, for a backbone without a head."""
        masked, causal = (
            type(self.config) in known for known in (MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING)
        )
        if self.head is None and masked and self.tokenizer.mask_token is not None:
            return "masked_lm"
        return "causal_lm" if self.head is None and causal and not masked else None

    @cached_property
    def vectors(self) -> dict[str, Tensor] | None:
        """Name -> the weights with one axis, such as biases; None if they are not at hand (on the Hub)."""
        return _vectors(Path(self.name)) if Path(self.name).is_dir() else None

    def is_trained(self, model: PreTrainedModel) -> bool | None:
        """Whether the head was ever trained; None if its weights do not tell.

        Biases and norms start as zeros and ones, and any training changes them. The head of some families has neither.

        Args:
            model: with its head, perhaps without weights.
        """
        if not self.vectors:
            return None
        head = [vector for name, vector in self.vectors.items() if not in_backbone(name, model)]
        # Some heads have layers of the pre-trained model (ModernBERT): the last layer tells, with a number for a label.
        head = [vector for vector in head if len(vector) == model.config.num_labels] or head
        if any(map(_moved, head)):
            return True
        return None if not head and any(map(_moved, self.vectors.values())) else False

    def longest(self, model: PreTrainedModel) -> int | None:
        """Tokens that model and tokenizer allow; None if there is no limit."""
        limits = [readable_length(model), self.tokenizer.model_max_length]
        return min((limit for limit in limits if limit and limit < _NO_LIMIT), default=None)


def look_at_teacher(name: str, arguments: ModelArguments) -> TeacherFacts:
    """Config and tokenizer of a model. Raises `InputError` for a name that is none, or a model without a tokenizer."""
    name = resolve_place(name)
    config = load_config(name, arguments)
    return TeacherFacts(name, config, load_tokenizer(name, arguments.hub))


def meta_model(config: PretrainedConfig, task: Task, name: str, arguments: ModelArguments) -> PreTrainedModel:
    """A model with the task's head, without weights. Raises `InputError` for a family that has no such head."""
    expected = f"teacher: expected a model that can have a head for task {task.name}"
    advice = "use another teacher or another task"
    return without_weights(config, task, arguments.trust_remote_code, expected, name, advice)


def _moved(vector: Tensor) -> bool:
    """Whether this is no vector of zeros or ones, as untrained ones are; a longer one may repeat any number."""
    if len(vector) == 1:
        return float(vector) not in (0.0, 1.0)
    return not bool((vector == vector[0]).all())


def _vectors(folder: Path) -> dict[str, Tensor] | None:
    """The weights with one axis in a folder's safetensors files; None if it has none, or a damaged one."""
    index: Any = read_json(folder / "model.safetensors.index.json")
    names = sorted({*index["weight_map"].values()}) if isinstance(index, dict) else ["model.safetensors"]
    found: dict[str, Tensor] = {}
    try:
        for name in names:
            with safe_open(folder / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (no mapping)
                    if len(file.get_slice(key).get_shape()) == 1:
                        found[key] = file.get_tensor(key)
    # Loading the model says what is wrong with it.
    except Exception:
        return None
    return found
