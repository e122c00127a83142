"""Students of families whose blocks, widths or classes are not said in the usual way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BambaConfig,
    BartConfig,
    BartForSequenceClassification,
    CTRLConfig,
    ElectraConfig,
    FalconConfig,
    LongformerConfig,
    MambaConfig,
    OPTConfig,
    Qwen2MoeConfig,
    SqueezeBertConfig,
    T5Config,
    XLNetConfig,
)

from ted_distill import InputError
from ted_distill.models.as_saved import saved_class
from ted_distill.models.blocks import student_from_teacher
from ted_distill.models.narrowing.narrow import loses_projection, narrow_config, narrow_model
from ted_distill.runs.recipe import make_recipe
from ted_distill.runs.run import run
from tiny import tiny_tokenizer, write_reviews

SHAPE: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
}  # fmt: skip
KEYS: dict[str, Any] = {**SHAPE, "num_key_value_heads": 2}
BAMBA = BambaConfig(
    **KEYS, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_chunk_size=8,
    mamba_n_groups=1,
)  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "field", "expected"),
    [
        (LongformerConfig(**SHAPE, attention_window=[8, 8, 16, 16]), "attention_window", [8, 16]),
        (Qwen2MoeConfig(**KEYS, **EXPERTS, mlp_only_layers=[0, 3]), "mlp_only_layers", [1]),
        (Qwen2MoeConfig(**KEYS, **EXPERTS, mlp_only_layers=[0, 1, 2, 3]), "mlp_only_layers", [0, 1]),
        (BAMBA, "attn_layer_indices", [0]),
    ],
)
def test_what_a_config_says_of_blocks_is_said_of_those_that_are_left(
    config: Any, field: str, expected: list[int], tmp_path: Path
) -> None:
    student = student_from_teacher(AutoModel.from_config(config), [2, 4])
    assert getattr(student.config, field) == expected
    student.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in student.state_dict().items())


def test_a_student_without_any_block_with_attention_is_refused() -> None:
    with pytest.raises(InputError, match=r"one of the blocks with attention \(2\) among them, got \[1, 4\]"):
        student_from_teacher(AutoModel.from_config(BAMBA), [1, 4])


def test_an_electra_as_wide_as_its_embeddings_has_no_projection_of_them() -> None:
    config = ElectraConfig(
        vocab_size=40, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    assert [width for width in (8, 16, 24, 32) if loses_projection(config, width)] == [16]
    with pytest.raises(InputError, match=r"expected another width than that of the embeddings.*electra.*got 16"):
        narrow_config(config, 16)
    narrow = narrow_model(AutoModel.from_config(config), 24)
    assert narrow.embeddings_project.weight.shape == (24, 16)


def test_a_model_without_heads_keeps_its_width() -> None:
    config = MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=4, state_size=4)
    assert student_from_teacher(AutoModel.from_config(config), [2, 4]).config.num_hidden_layers == 2
    with pytest.raises(InputError, match="hidden_size: expected a model with one width and a number of heads"):
        narrow_config(config, 8)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            OPTConfig(
                vocab_size=40, hidden_size=32, ffn_dim=128, num_hidden_layers=2, num_attention_heads=4,
                word_embed_proj_dim=32,
            ),
            {"ffn_dim": 64, "word_embed_proj_dim": 16},
        ),
        (
            BartConfig(
                vocab_size=40, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
                decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
            ),
            {"decoder_attention_heads": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        ),
        (T5Config(vocab_size=40, d_model=32, d_ff=64, num_layers=1, num_heads=4, d_kv=8), {"d_ff": 32}),
    ],
)  # fmt: skip
def test_a_narrower_model_has_fewer_neurons_and_heads_by_whatever_name(config: Any, expected: dict[str, int]) -> None:
    student = narrow_model(AutoModel.from_config(config), 16, "random")
    assert {name: getattr(student.config, name) for name in expected} == expected


def test_a_model_is_loaded_in_the_class_it_was_saved_from(tmp_path: Path) -> None:
    def config(**fields: Any) -> Any:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bart", **fields}))
        return AutoConfig.from_pretrained(tmp_path)

    assert saved_class(config(architectures=["BartForSequenceClassification"]), "x") is BartForSequenceClassification
    assert saved_class(config(), "x") is AutoModel
    own = {"AutoModelForSequenceClassification": "own.MyHead", "AutoModel": "own.MyModel"}
    found = saved_class(config(architectures=["MyHead"], auto_map=own), "x")
    assert found.__name__ == "AutoModelForSequenceClassification"
    with pytest.raises(InputError, match="expected x to be of a class that transformers or its own code has, got MyHe"):
        saved_class(config(architectures=["MyHead"]), "x")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (CTRLConfig(vocab_size=40, n_embd=32, dff=64, n_layer=2, n_head=4, n_positions=32), "dff"),
        (FalconConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4), "ffn_hidden_size"),
        (XLNetConfig(vocab_size=40, d_model=32, d_inner=64, n_layer=2, n_head=4), "d_inner"),
    ],
)
def test_a_narrow_student_has_fewer_neurons_whatever_its_family_calls_them(config: Any, field: str) -> None:
    narrow = narrow_config(config, 16)
    assert getattr(narrow, field) == getattr(config, field) // 2
    assert AutoModel.from_config(narrow).num_parameters() < 0.5 * AutoModel.from_config(config).num_parameters()


@pytest.mark.parametrize("kind", ["longformer", "squeezebert"])
def test_attention_relations_are_refused_where_a_family_computes_them_in_another_shape(
    kind: str, tmp_path: Path
) -> None:
    """Before anything is trained: Longformer pads its rows to the window and has tokens first, SqueezeBERT last."""
    shape = {**SHAPE, "vocab_size": 60, "pad_token_id": 0, "id2label": {0: "bad", 1: "good"}}
    configs = {
        "longformer": LongformerConfig(**shape, attention_window=8, max_position_embeddings=70),
        "squeezebert": SqueezeBertConfig(**shape, max_position_embeddings=70, embedding_size=32),
    }
    AutoModelForSequenceClassification.from_config(configs[kind]).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    rows = str(write_reviews(tmp_path))
    recipe = make_recipe(
        {
            "task": "sequence_classification", "train_file": rows, "validation_file": rows,
            "teacher": str(tmp_path / "teacher"), "student_layers": [2, 4], "methods": ["attention"],
            "finetune_teacher": False, "output_dir": str(tmp_path / "run"),
        }
    )  # fmt: skip
    with pytest.raises(InputError, match="queries, keys and values"):
        run(recipe)
    assert not (tmp_path / "run").exists()
