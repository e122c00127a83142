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

    Others than transformers go by the config alone. Where the same entry ties more than the head, as BERT's two biases
    and T5's three tables, it stays: transformers keeps what a checkpoint has in two places and unlike.
    """
    head, embeddings = _head_and_embeddings(model)
    if not getattr(model.config, "tie_word_embeddings", False) or not _is_apart(head, embeddings):
        return
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    if not {key for pair in tied.items() for key in pair} & _names(model, head):
        return
    alone = len(tied) == 1
    notice(
        f"model: expected the head of {name} to be its embeddings, as its config says (tie_word_embeddings), got other "
        f"weights; they are kept apart{', and the config of what is made of it says so' if alone else ''}"
    )
    if alone:
        model.config.tie_word_embeddings = False
        model.all_tied_weights_keys = {}


def built_like(model: PreTrainedModel, config: PretrainedConfig) -> PreTrainedModel:
    """A model of the same class for another config, with a head of its own if `model` has one in spite of its config.

    Its number type and mode are those of `model`; its weights are drawn.
    """
    built = type(model)(config).to(model.dtype).train(model.training)
    head, embeddings = _head_and_embeddings(built)
    if head is not None and head is embeddings and _is_apart(*_head_and_embeddings(model)):
        built.get_output_embeddings().weight = torch.nn.Parameter(head.detach().clone())
        for key in _names(built, built.get_output_embeddings().weight):
            built.all_tied_weights_keys.pop(key, None)
    return built


def fill_untied(model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Give what was untied by a change of the config the weights that it was tied to, in place of noise.

    Args:
        info: what `from_pretrained` tells about its loading; what is filled is no longer missing.
    """
    config, weights = model.config, dict(model.named_parameters(remove_duplicate=False))
    config.tie_word_embeddings = True
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    config.tie_word_embeddings = False
    missing = set(info["missing_keys"])
    for pair in tied.items():
        for empty, full in (pair, pair[::-1]):
            fits = {empty, full} <= weights.keys() and weights[empty].shape == weights[full].shape
            if empty in missing and full not in missing and fits:
                weights[empty].data.copy_(weights[full].data)
                missing.discard(empty)
    info["missing_keys"] = type(info["missing_keys"])(missing)


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


def _names(model: PreTrainedModel, wanted: torch.nn.Parameter) -> set[str]:
    return {name for name, weight in model.named_parameters(remove_duplicate=False) if weight is wanted}


def _is_apart(head: Any, embeddings: Any) -> bool:
    """Whether both are there, and not the same weights."""
    return head is not None and embeddings is not None and head.data_ptr() != embeddings.data_ptr()


def _head_and_embeddings(model: PreTrainedModel) -> tuple[Any, Any]:
    """The weights of the language modelling head and of the embeddings of words; None for what there is none of."""
    try:
        found = model.get_output_embeddings(), model.get_input_embeddings()
    except NotImplementedError:
        return None, None
    weights = [getattr(module, "weight", None) for module in found]
    return weights[0], weights[1]
