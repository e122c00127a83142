"""Numbers of a config that families of models name, or nest, differently."""

from __future__ import annotations

from torch import nn
from transformers import PretrainedConfig

from ..errors import InputError


def num_blocks(config: PretrainedConfig) -> int:
    """The number of blocks; of an encoder-decoder, those of its encoder. Raises `InputError` if there is none."""
    return _number(config, "decoder_layers" if is_lone_decoder(config) else "num_hidden_layers")


def is_lone_decoder(config: PretrainedConfig) -> bool:
    """Whether a model is the decoder alone of a family with an encoder, such as `BartForCausalLM`."""
    return (
        not getattr(config, "is_encoder_decoder", False)
        and bool(getattr(config, "is_decoder", False))
        and isinstance(getattr(config, "decoder_layers", None), int)
    )


def block_lists(model: nn.Module) -> list[nn.ModuleList]:
    """The lists of blocks inside a model of transformers; none in families that have no such list."""
    try:
        total = num_blocks(model.config)
    except (InputError, AttributeError):
        return []
    return [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == total]


def width(config: PretrainedConfig) -> int:
    """The width of the hidden states. Raises `InputError` if the config has none."""
    return _number(config, "hidden_size")


def _number(config: PretrainedConfig, name: str) -> int:
    for part in (config, text_config(config)):
        # Some configs have the field only to say that they do not have one.
        try:
            value = getattr(part, name, None)
        except NotImplementedError:
            continue
        if isinstance(value, int):
            return value
    raise InputError(
        f"model: expected a config with {name}, which filters and pairs of blocks need, got one of {config.model_type} "
        "without; use a model of another family"
    )


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a config that describes the model of text: the config itself, unless it has other inputs too."""
    try:
        return config.get_text_config()
    except ValueError:  # several parts that read or write text
        return config
