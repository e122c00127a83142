"""Configs of models made from scratch: any family, with a vocabulary of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from ted_distill import TaskArguments, load_task
from ted_distill.errors import InputError
from ted_distill.models.heads import without_weights
from ted_distill.models.scratch import make_from_scratch, scratch_config
from tiny import write_text

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 300,
}  # fmt: skip
FAMILIES = {
    "modernbert": "masked_lm",
    "eurobert": "masked_lm",
    "phi3": "causal_lm",
    "smollm3": "causal_lm",
    "modernbert-decoder": "causal_lm",
    "bert": "masked_lm",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_whose_tokens_are_beyond_a_small_vocabulary_can_be_made(family: str, tmp_path: Path) -> None:
    """Their configs name tokens of their own vocabularies, up to 128,000, and refuse or break with a smaller one."""
    text = str(write_text(tmp_path, 24))
    arguments = TaskArguments(task=FAMILIES[family], train_file=text, validation_file=text, max_seq_length=16)
    task = load_task(arguments)
    values: dict[str, Any] = {"model_type": family, **SMALL}
    values |= {"num_key_value_heads": 4} if family in ("eurobert", "phi3", "smollm3") else {}
    model = without_weights(scratch_config(values), task, False, "expected a model", family, "change it")
    assert model.config.vocab_size == 300
    make_from_scratch(task, values, tmp_path / "made", seed=1)
    config = AutoConfig.from_pretrained(tmp_path / "made")
    named = {name: getattr(config, name) for name in vars(config) if name.endswith("_token_id")}
    assert all(token is None or token < config.vocab_size for token in named.values() if not isinstance(token, list))


@pytest.mark.parametrize("given", ["<sep>", None, [1], [""], {"a": 1}])
def test_special_tokens_are_a_list_of_texts(given: Any) -> None:
    """A text would be taken for its letters, at each of which all words are cut."""
    with pytest.raises(InputError, match="expected special_tokens to be a list of texts"):
        scratch_config({"model_type": "gpt2", "special_tokens": given})
