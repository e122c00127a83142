"""Tiny configs of any family of transformers, made from its default config by rules and not by hand."""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

POSITIONS = 64
VOCABULARY = 64

_SIZES = {
    "vocab_size": VOCABULARY,
    # widths
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "emb_dim": 32, "embed_dim": 32, "model_dim": 32,
    "embedding_size": 32, "d_embed": 32, "input_embedding_size": 32, "emb_size": 32, "word_embed_proj_dim": 32,
    "pooler_hidden_size": 32, "projection_dim": 32, "hidden_dim": 64, "intermediate_size": 64, "ffn_dim": 64,
    "d_ff": 64, "d_inner": 64, "dff": 64, "n_inner": 64, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ffn_hidden_size": 64,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "d_kv": 8, "d_head": 8, "head_dim": 8,
    "attention_size": 32, "lora_rank": 8,
    # blocks
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "num_decoder_layers": 2, "num_encoder_layers": 2, "num_layer": 2, "depth": 2,
    # heads
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "num_query_groups": 2,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1,
    # positions
    "max_position_embeddings": POSITIONS, "n_positions": POSITIONS, "n_ctx": POSITIONS, "max_seq_len": POSITIONS,
    "max_encoder_position_embeddings": POSITIONS, "max_decoder_position_embeddings": POSITIONS,
    "max_2d_position_embeddings": POSITIONS,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {}


def shrunk(values: dict[str, Any]) -> dict[str, Any]:
    """A config's values with all sizes small, also inside other configs."""
    small: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and ("model_type" in value or name.endswith("_config")):
            small[name] = shrunk(value)
        elif name in _SIZES and isinstance(value, int) and not isinstance(value, bool):
            small[name] = min(_SIZES[name], value) if value > 0 else value
        elif name.endswith("_token_id") and isinstance(value, int):
            small[name] = value if 0 <= value < 5 else 3
        elif name in ("layer_types", "layers_block_type", "mlp_layer_types"):
            continue
        else:
            small[name] = value
    return small


def tiny_family_config(model_type: str, **changes: Any) -> PretrainedConfig:
    """A config of the family with two blocks, 64 tokens and 64 positions."""
    kind = CONFIG_MAPPING[model_type]
    values = shrunk(kind().to_dict())
    for name in ("model_type", "transformers_version", "architectures", "dtype"):
        values.pop(name, None)
    return kind(**(values | _OWN.get(model_type, {}) | changes))
