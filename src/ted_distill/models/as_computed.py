"""Models that compute something else than their config says, and configs that say what is computed."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ..errors import InputError
from ..tasks.reading.notices import notice


def use_full_attention(config: PretrainedConfig, name: str) -> None:
    """Let a BigBird attend to all tokens, and its config say so.

    transformers switches the whole model to full attention at the first short batch, for good, but not its config: what
    was trained and scored would not be what the saved checkpoint computes.
    """
    if getattr(config, "attention_type", None) == "block_sparse":
        notice(
            f"model: expected one kind of attention for rows of all lengths, got {name} with block_sparse, which "
            "transformers gives up at the first short batch; it attends to all tokens, and is saved so"
        )
        config.attention_type = "original_full"


def keep_weights(config: PretrainedConfig, name: str) -> None:
    """Let an RWKV compute with the weights that it has, and its config say so.

    transformers divides some of them in place at the first evaluation: saved after it, they would be divided twice.
    """
    if getattr(config, "rescale_every", 0):
        notice(
            f"model: expected weights that evaluation does not change, got {name} with rescale_every "
            f"{config.rescale_every}; it computes the same without, and is saved so"
        )
        config.rescale_every = 0


def warn_of_routers(config: PretrainedConfig, name: str) -> None:
    """Say that a loss is left out which transformers would add."""
    if getattr(config, "output_router_logits", False):
        notice(
            f"model: expected a model that is trained on its task alone, got {name} with output_router_logits; the "
            "loss that balances its experts is no part of any loss here"
        )


def untie_config(model: PreTrainedModel, name: str) -> None:
    """Let the config of a model whose head is not its embeddings say so, as it is after some merges of adapters.

    A model that is made of this config would otherwise have only one of the two. The same entry of the config ties the
    other weights of some families, as BERT's two biases: they are kept apart too, as a reload will have them.
    """
    head, embeddings = _head_and_embeddings(model)
    if head is None or embeddings is None or not getattr(model.config, "tie_word_embeddings", False):
        return
    before = model.get_expanded_tied_weights_keys(all_submodels=True)
    tied = {key for pair in before.items() for key in pair}
    named = {key for key, weight in model.named_parameters(remove_duplicate=False) if weight is head}
    if named & tied and head is not embeddings and head.data_ptr() != embeddings.data_ptr():
        notice(
            f"model: expected the head of {name} to be its embeddings, as its config says (tie_word_embeddings), got "
            "other weights; they are kept apart, and the config of what is made of it says so"
        )
        model.config.tie_word_embeddings = False
        for key in before.keys() - model.get_expanded_tied_weights_keys(all_submodels=True).keys():
            _give_own(model, key)
        model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)


def fill_untied_head(model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Give a head that was untied by a change of the config the embeddings that it was tied to, in place of noise.

    Args:
        info: what `from_pretrained` tells about its loading; the head's weight is no longer missing.
    """
    head, embeddings = _head_and_embeddings(model)
    missing = {key for key, weight in model.named_parameters() if weight is head} & set(info["missing_keys"])
    if head is not None and embeddings is not None and missing and head.shape == embeddings.shape:
        with torch.no_grad():
            head.copy_(embeddings)
        info["missing_keys"] = type(info["missing_keys"])(key for key in info["missing_keys"] if key not in missing)


def in_float32(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """A model whose weights are all in float32; where quantised ones were read, some are in another type.

    Raises:
        InputError: its weights are still quantised.
    """
    if getattr(model, "hf_quantizer", None) is not None or getattr(model, "is_quantized", False):
        raise InputError(
            f"model: expected weights that can be trained, got {name}, which is quantised; save it dequantised first "
            "(`model.dequantize()`, then `save_pretrained`)"
        )
    return model.float()


def _give_own(model: PreTrainedModel, key: str) -> None:
    """Give a module a weight of its own, with the same values."""
    place, _, weight = key.rpartition(".")
    module = model.get_submodule(place)
    setattr(module, weight, torch.nn.Parameter(getattr(module, weight).detach().clone()))


def _head_and_embeddings(model: PreTrainedModel) -> tuple[Any, Any]:
    """The weights of the language modelling head and of the embeddings of words; None for what there is none of."""
    try:
        found = model.get_output_embeddings(), model.get_input_embeddings()
    except NotImplementedError:
        return None, None
    weights = [getattr(module, "weight", None) for module in found]
    return weights[0], weights[1]
