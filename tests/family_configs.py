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
    "attention_size": 32, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8,
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
_LATENT = {"num_key_value_heads": 4, "head_dim": 8}
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "minicpm3"), _LATENT
    ),
    **dict.fromkeys(("bamba", "granitemoehybrid", "falcon_h1", "nemotron_h"), {"mamba_n_heads": 8, "mamba_d_head": 8}),
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "kimi_linear": {"num_experts_per_token": 2},
    "neomme": {"head_dim": 16},
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral"), {"head_dim": 8}),
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "topk_group": 1, "n_group": 1},
    "mistral4": {**_LATENT, "head_dim": 16},
    "zamba": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "attention_hidden_size": 64, "attention_head_dim": 16,
              "num_key_value_heads": 4, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "attention_hidden_size": 64,
               "attention_head_dim": 16, "num_key_value_heads": 4, "mamba_d_state": 8, "mamba_headdim": 8,
               "kv_channels": 8, "hybrid_layer_ids": [1], "num_query_groups": 4},
    "cohere_compass_text": {"layer_types": ["full_attention", "full_attention"],
                            "rope_parameters": {"full_attention": {"rope_theta": 1e4, "rope_type": "default"}}},
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    **dict.fromkeys(("qwen3_5_text", "qwen3_next"), {"full_attention_interval": 2}),
    "esm": {"vocab_size": VOCABULARY, "mask_token_id": 4, "pad_token_id": 0, "position_embedding_type": "rotary"},
    "esmc": {"num_key_value_heads": 4},
    "gpt_neo": {"attention_layers": ["global", "local"], "attention_types": [[["global", "local"], 1]], "window_size": 4},
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "lilt": {"hidden_size": 48, "max_2d_position_embeddings": 1024},
    "led": {"attention_window": [8, 8], "decoder_start_token_id": 2},
    "longformer": {"attention_window": [8, 8], "max_position_embeddings": 80},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 8},
    "mluke": {"entity_vocab_size": 8, "entity_emb_size": 8},
    "nemotron": {"num_key_value_heads": 2},
    "perceiver": {"num_latents": 4, "d_latents": 16, "num_blocks": 1, "num_self_attends_per_block": 1,
                  "num_self_attention_heads": 2, "num_cross_attention_heads": 2, "qk_channels": 16, "v_channels": 16},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8], "attn_layers": ["local", "local"],
                 "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "attention_head_size": 8,
                 "feed_forward_size": 32},
    "roc_bert": {"pronunciation_vocab_size": VOCABULARY, "shape_vocab_size": VOCABULARY, "pronunciation_embed_dim": 8,
                 "shape_embed_dim": 8},
    "t5": {"decoder_start_token_id": 0},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
}  # fmt: skip


_BY_BLOCK = {
    "layer_types", "layers_block_type", "mlp_layer_types", "attention_layers", "per_layer_config",
    "num_attention_heads_per_layer",
}  # fmt: skip
"""Fields with a value for each block of the default config."""


def shrunk(values: dict[str, Any]) -> dict[str, Any]:
    """A config's values with all sizes small, also inside other configs."""
    small: dict[str, Any] = {}
    values = {name: value for name, value in values.items() if name not in _BY_BLOCK}
    for name, value in values.items():
        if isinstance(value, dict) and ("model_type" in value or name.endswith("_config")):
            small[name] = shrunk(value) | _OWN.get(value.get("model_type", ""), {})
        elif name in _SIZES and isinstance(value, int) and not isinstance(value, bool):
            small[name] = min(_SIZES[name], value) if value > 0 else value
        elif name.endswith("_token_id") and isinstance(value, int):
            small[name] = value if 0 <= value < 5 else 3
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
