"""Models that are in memory already, in place of names: they are written to a folder of this process, and read back.

Everything after that, such as what decides whether a stage is still the same, treats them like any other checkpoint.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, shown
from ..identity import backbone_fingerprint, config_content, fingerprint, head_fingerprint, tokenizer_fingerprint

Model: TypeAlias = str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]
"""A folder, a Hub id, or a loaded model with its tokenizer. A `transformers.Pipeline` holds both and will do too."""


_PREFIX = "ted-models-"
"""Of the temporary folder for models in memory."""


def as_name(model: Any) -> str:
    """The folder or Hub id of a model; one in memory is written to a folder that lasts as long as the process.

    Raises:
        InputError: a model without a tokenizer, or something else.
    """
    if isinstance(model, (str, Path)):
        return str(model)
    if isinstance(model, PreTrainedModel):  # of many families it has a `model` of its own
        raise InputError(
            "model: expected a folder, a Hub id or (model, tokenizer), got a model without its tokenizer; give both"
        )
    if isinstance(getattr(model, "model", None), PreTrainedModel):
        model = (model.model, getattr(model, "tokenizer", None))
    if not (
        isinstance(model, tuple)
        and len(model) == 2
        and isinstance(model[0], PreTrainedModel)
        and isinstance(model[1], PreTrainedTokenizerBase)
    ):
        raise InputError(f"model: expected a folder, a Hub id or (model, tokenizer), got {shown(model)}")
    return _written(*model)


def was_in_memory(name: str | Path | None) -> bool:
    """Whether a folder is one that `as_name` has written: it is gone when its process has ended."""
    return name is not None and Path(name).parent.name.startswith(_PREFIX)


def _written(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """A folder named after all that is written into it, so that the name says the same in every process."""
    rest = fingerprint([config_content(model.config), tokenizer_fingerprint(tokenizer)])
    content = head_fingerprint(model)[:6] + backbone_fingerprint(model)[:6] + rest[:6]
    folder = _folder() / f"{type(model).__name__}-{content}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        partial.rename(folder)
    return str(folder)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
