"""A checkpoint that is loaded stays in its file until it is changed: float32 weights that are to be rounded take no
memory beside the rounded ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ted_distill.fast.precision import cast_weights
from ted_distill.models.load import load_model
from ted_distill.tasks import TaskArguments, load_task
from tiny import save_tiny

_ROWS = 400_000
"""Of the table of embeddings: tens of megabytes, beside which nothing else counts."""


def own_bytes() -> int:
    """Memory of this process that is not that of files."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is told apart as Linux does")
def test_weights_that_are_rounded_were_never_copied_in_float32(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", AutoModelForSequenceClassification)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    model.resize_token_embeddings(_ROWS, mean_resizing=False)
    model.save_pretrained(folder)
    del model
    task = load_task(TaskArguments(task="sst2"))
    before = own_bytes()
    loaded = load_model(folder, task)
    assert loaded.identity["backbone"]  # every weight was read
    size = sum(weight.numel() * weight.element_size() for weight in loaded.model.parameters())
    assert size > 20e6
    assert own_bytes() - before < size / 2
    cast_weights(loaded.model, torch.bfloat16)
    assert own_bytes() - before < size
