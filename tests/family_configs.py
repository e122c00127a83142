"""Tiny configs of any family of transformers, made from its default config by rules and, where these fail, by hand."""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

POSITIONS = 64
VOCABULARY = 64

_WIDTHS = dict.fromkeys(
    ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "model_dim", "embedding_size", "d_embed",
     "embedding_dim", "input_embedding_size", "emb_size", "word_embed_proj_dim", "pooler_hidden_size",
     "projection_dim", "attention_size"), 32,
)  # fmt: skip
_INNER = dict.fromkeys(
    ("hidden_dim", "intermediate_size", "ffn_dim", "d_ff", "d_inner", "dff", "n_inner", "encoder_ffn_dim",
     "decoder_ffn_dim", "ffn_hidden_size"), 64,
)  # fmt: skip
_BLOCKS = dict.fromkeys(
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
     "num_decoder_layers", "num_encoder_layers", "num_layer", "depth"), 2,
)  # fmt: skip
_HEADS = dict.fromkeys(
    ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"), 4
)
_POSITIONS = dict.fromkeys(
    ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_encoder_position_embeddings",
     "max_decoder_position_embeddings", "max_2d_position_embeddings"), POSITIONS,
)  # fmt: skip
_SIZES = {
    **dict.fromkeys(("vocab_size", "unpadded_vocab_size"), VOCABULARY),
    **_WIDTHS,
    **_INNER,
    **_BLOCKS,
    **_HEADS,
    **_POSITIONS,
    **dict.fromkeys(("num_key_value_heads", "num_query_groups", "num_experts_per_tok"), 2),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank"), 16),
    **dict.fromkeys(
        ("d_kv", "d_head", "head_dim", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
         "chunk_size", "mamba_chunk_size"), 8,
    ),
}  # fmt: skip
_BY_BLOCK = {
    "layer_types", "layers_block_type", "mlp_layer_types", "attention_layers", "per_layer_config",
    "num_attention_heads_per_layer",
}  # fmt: skip
"""Fields with a value for each block of the default config."""

_LATENT = {"num_key_value_heads": 4, "head_dim": 8}
_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8}
_FULL = ["full_attention", "full_attention"]
_OWN: dict[str, dict[str, Any]] = {
    "axk1": _LATENT,
    "axk2": _LATENT,
    "bamba": _MAMBA,
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {
        "layer_types": _FULL,
        "rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "default"}},
    },
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "topk_group": 1, "n_group": 1},
    "deepseek_v3": _LATENT,
    "deepseek_v32": _LATENT,
    "dory": {"num_hidden_layers": 3, "n_input_layers": 1, "n_recurrent_layers": 1, "n_output_layers": 1},
    "esm": {"vocab_size": VOCABULARY, "mask_token_id": 4, "pad_token_id": 0, "position_embedding_type": "rotary"},
    "esmc": {"num_key_value_heads": 4},
    "gemma3n_text": {
        "intermediate_size": [64, 64],
        "activation_sparsity_pattern": [0.0, 0.0],
        "num_kv_shared_layers": 0,
    },
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "gpt_neo": {
        "attention_layers": ["global", "local"],
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
    },
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "kimi_linear": {"num_experts_per_token": 2},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "led": {"attention_window": [8, 8], "decoder_start_token_id": 2},
    "lilt": {"hidden_size": 48, "max_2d_position_embeddings": 1024},
    "llama4_text": {"layer_types": _FULL, "no_rope_layers": [1, 1], "moe_layers": [1]},
    "longformer": {"attention_window": [8, 8], "max_position_embeddings": 80},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 8},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "minicpm3": _LATENT,
    "ministral": {"head_dim": 8},
    "mistral4": {**_LATENT, "head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": _MAMBA,
    "neomme": {"head_dim": 16},
    "perceiver": {
        **{"num_latents": 4, "d_latents": 16, "qk_channels": 16, "v_channels": 16},
        **{"num_blocks": 1, "num_self_attends_per_block": 1},
        **{"num_self_attention_heads": 2, "num_cross_attention_heads": 2},
    },
    "qwen3_5_text": {"full_attention_interval": 2},
    "qwen3_next": {"full_attention_interval": 2},
    "reformer": {
        **{"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8], "attn_layers": ["local", "local"]},
        **{"local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "attention_head_size": 8},
        "feed_forward_size": 32,
    },
    "roc_bert": {
        **{"pronunciation_vocab_size": VOCABULARY, "pronunciation_embed_dim": 8},
        **{"shape_vocab_size": VOCABULARY, "shape_embed_dim": 8},
    },
    "sarvam_mla": _LATENT,
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "youtu": _LATENT,
    "zamba": {
        **{"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"]},
        **{"attention_hidden_size": 64, "attention_head_dim": 16, "num_key_value_heads": 4},
        **{"mamba_d_state": 8, "mamba_dt_rank": 4},
    },
    "zamba2": {
        **{"layers_block_type": ["linear_attention", "hybrid"], "hybrid_layer_ids": [1]},
        **{"attention_hidden_size": 64, "attention_head_dim": 16, "kv_channels": 8},
        **{"num_key_value_heads": 4, "num_query_groups": 4, "mamba_d_state": 8, "mamba_headdim": 8},
    },
}


def tiny_family_config(model_type: str) -> PretrainedConfig:
    """A config of the family with two blocks (few have three), 64 tokens and 64 positions."""
    kind = CONFIG_MAPPING[model_type]
    values = _shrunk(kind().to_dict())
    for name in ("model_type", "transformers_version", "architectures", "dtype"):
        values.pop(name, None)
    return kind(**(values | _OWN.get(model_type, {})))


def _shrunk(values: dict[str, Any]) -> dict[str, Any]:
    """A config's values with all sizes small, also inside other configs."""
    small: dict[str, Any] = {}
    for name, value in values.items():
        if name in _BY_BLOCK:
            continue
        if isinstance(value, dict) and ("model_type" in value or name.endswith("_config")):
            small[name] = _shrunk(value) | _OWN.get(value.get("model_type", ""), {})
        elif name in _SIZES and isinstance(value, int) and not isinstance(value, bool):
            small[name] = min(_SIZES[name], value) if value > 0 else value
        elif name.endswith("_token_id") and isinstance(value, int):
            small[name] = value if 0 <= value < 5 else 3
        else:
            small[name] = value
    return small
