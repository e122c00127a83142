"""Whether a checkpoint with fewer tokens does what the whole one does."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from ...errors import GateError, InputError, reason_of, shown
from ...tasks.reading.corpus import Text
from ..trying.positions import position_limit
from .cut_words import encoded

_LONGEST = 128
"""Tokens of a text that models are compared on."""
_PADDED_TO = 16
_BOUND = 1e-6
"""The largest difference, times the largest output if that is above 1: sums may be added up in another order."""

Pair = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def differing_texts(whole: Tokenizer, small: Tokenizer, kept: Sequence[int], texts: Sequence[Text]) -> list[Text]:
    """The texts that are not cut into the same tokens, or are not the same text again after that.

    Args:
        kept: for each number of a token of `small`, that of `whole`.
    """
    before, after = encoded(whole, texts), encoded(small, texts)
    texts_before = whole.decode_batch([found.ids for found in before], skip_special_tokens=False)
    texts_after = small.decode_batch([found.ids for found in after], skip_special_tokens=False)
    rows = zip(texts, before, after, texts_before, texts_after, strict=True)
    return [
        text
        for text, old, new, old_text, new_text in rows
        if old.tokens != new.tokens or old.ids != [kept[number] for number in new.ids] or old_text != new_text
    ]


def refuse_differing(texts: Sequence[Text]) -> None:
    """Raises `GateError` that quotes the first text, if there are any."""
    if texts:
        text = texts[0] if isinstance(texts[0], str) else " ".join(texts[0])
        raise GateError(
            "nothing was published: expected a tokenizer that cuts all texts as before, got other tokens for "
            f"{shown(text)}; this tokenizer cannot be trimmed"
        )


def largest_difference(whole: Pair, small: Pair, kept: Sequence[int], texts: Sequence[str]) -> float:
    """The largest difference of an output on texts, one by one, padded where the tokenizer can.

    Raises:
        GateError: it is more than rounding explains.
        InputError: the model does not read texts.
    """
    # Rounding to fewer digits would hide or make differences.
    models = [copy.deepcopy(model).float() if model.dtype != torch.float32 else model for model in (whole[0], small[0])]
    limit = min(_LONGEST, position_limit(models[0]) or _LONGEST)
    rows = torch.tensor(kept)
    largest = 0.0
    for text in texts:
        outputs = [
            _outputs(model, _inputs(text, model, tokenizer, limit))
            for model, tokenizer in zip(models, (whole[1], small[1]), strict=True)
        ]
        for old, new in zip(*outputs, strict=True):
            wanted = old if old.shape == new.shape else old[..., rows]
            difference = float((wanted - new).abs().max())
            if not difference <= _BOUND * max(1.0, float(wanted.abs().max())):
                raise GateError(
                    f"nothing was published: expected the outputs of the whole model, got some that differ by "
                    f"{difference:.2g} on {shown(text)}; this model depends on the numbers of its tokens"
                )
            largest = max(largest, difference)
    return largest


def _inputs(text: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limit: int) -> BatchEncoding:
    padding = {"padding": True, "pad_to_multiple_of": min(_PADDED_TO, limit)} if tokenizer.pad_token else {}
    limit -= limit % _PADDED_TO if limit > _PADDED_TO else 0
    found = tokenizer(text, return_tensors="pt", truncation=True, max_length=limit, **padding)
    accepted = inspect.signature(model.forward).parameters
    if model.config.is_encoder_decoder and "decoder_input_ids" in accepted:
        found["decoder_input_ids"] = found["input_ids"]
    return BatchEncoding({name: value for name, value in found.items() if name in accepted})


def _outputs(model: PreTrainedModel, inputs: BatchEncoding) -> list[Tensor]:
    """All outputs and hidden states, in order."""
    # Models that need more than a text, such as an image, raise anything.
    try:
        with torch.no_grad():
            found = model(**inputs, output_hidden_states=True)
    except Exception as error:
        raise InputError(
            f"model: expected {type(model).__name__} to read texts, got an error ({reason_of(error)}); it cannot be "
            "trimmed, as its outputs cannot be compared"
        ) from error
    return [output for value in found.values() for output in _tensors(value)]


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
