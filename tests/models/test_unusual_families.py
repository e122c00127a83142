"""Families that keep something between batches, or whose blocks cannot be found or cut as in others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    EsmConfig,
    Gemma3Config,
    LlamaConfig,
    MixtralConfig,
    MPNetConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    RwkvConfig,
    XLMConfig,
)

from ted_distill import InputError, StageArguments, TaskArguments, distill, evaluate, finetune, load_task
from ted_distill.models.blocks import student_from_teacher
from ted_distill.models.dropout import turn_off_dropout
from ted_distill.models.load import load_model
from ted_distill.models.trying.positions import steady_length
from ted_distill.stages import DistillArguments
from tiny import CLASSES, tiny_tokenizer, write_reviews, write_text

SIZES: dict[str, Any] = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def saved(folder: Path, auto_class: Any, config: PretrainedConfig) -> Path:
    torch.manual_seed(0)
    auto_class.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def reviews(folder: Path, **changes: Any) -> Any:
    file = str(write_reviews(folder, 16, "rows"))
    arguments = {"train_file": file, "validation_file": file, **changes}
    return load_task(TaskArguments(task="sequence_classification", **arguments))


def arguments(folder: Path, **changes: Any) -> StageArguments:
    quick = {"max_steps": 2, "use_cpu": True, "disable_tqdm": True, "bf16": False}
    return StageArguments(str(folder), per_device_train_batch_size=8, **{**quick, **changes})


# --- what is kept between batches -------------------------------------------------------------------------------------


def test_weights_that_an_evaluation_would_divide_are_saved_as_they_were(tmp_path: Path) -> None:
    """RWKV, from `rescale_every` blocks on."""
    config = RwkvConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=4, attention_hidden_size=16, intermediate_size=32,
        context_length=32, rescale_every=2,
    )  # fmt: skip
    teacher = saved(tmp_path / "model", AutoModelForCausalLM, config)
    file = str(write_text(tmp_path, 30, "train"))
    task = load_task(TaskArguments(task="causal_lm", train_file=file, validation_file=file, max_seq_length=16))
    results = finetune(teacher, task, arguments(tmp_path / "out", max_steps=4, learning_rate=1e-2))
    again = evaluate(tmp_path / "out", task, mixed_precision="no")
    assert again["perplexity"] == pytest.approx(results["perplexity"], rel=1e-5)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
        first, second = (plain(torch.tensor([[5, 6, 7, 8]])).logits for _ in range(2))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}, **SIZES,
                     num_hidden_layers=2, max_position_embeddings=20, pad_token_id=0), 20),
        (Phi3Config(rope_parameters={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
                                     "rope_theta": 1e4, "original_max_position_embeddings": 12},
                    original_max_position_embeddings=12, **SIZES, num_hidden_layers=2, max_position_embeddings=96,
                    pad_token_id=0, bos_token_id=1, eos_token_id=2), 12),
    ],
    ids=["dynamic", "longrope"],
)  # fmt: skip
def test_rows_are_no_longer_than_what_is_read_alike_in_every_batch(
    tmp_path: Path, config: PretrainedConfig, limit: int
) -> None:
    for key, value in CLASSES.items():
        setattr(config, key, value)
    folder = saved(tmp_path / "model", AutoModelForSequenceClassification, config)
    assert load_model(folder, reviews(tmp_path)).tokenizer.model_max_length == limit
    with pytest.raises(InputError, match=f"at most {limit} tokens, .* the same in every batch .rope_type dynamic"):
        load_model(folder, reviews(tmp_path, max_seq_length=64))
    loaded = load_model(folder, reviews(tmp_path, max_seq_length=limit))
    # As a plan asks, which has no weights.
    with torch.device("meta"):
        assert steady_length(AutoModelForSequenceClassification.from_config(loaded.model.config)) == limit


def test_blocks_are_not_left_out_of_a_student_whose_states_are_matched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = OPTConfig(
        vocab_size=40, hidden_size=16, ffn_dim=32, num_hidden_layers=4, num_attention_heads=2, layerdrop=0.9,
        word_embed_proj_dim=16, max_position_embeddings=64, pad_token_id=0, **CLASSES,
    )  # fmt: skip
    folder = saved(tmp_path / "model", AutoModelForSequenceClassification, config)
    chosen = DistillArguments(method="lwd", student_dropout=True, pairs=["4:4", "2:2"])
    results = distill(folder, folder, reviews(tmp_path), arguments(tmp_path / "out", max_steps=6), chosen)
    assert results["steps"] == 6
    assert "it leaves out none" in caplog.text


def test_the_noise_that_experts_are_chosen_with_is_turned_off_like_dropout() -> None:
    config = MixtralConfig(
        **SIZES, num_hidden_layers=2, num_key_value_heads=2, num_local_experts=4, router_jitter_noise=0.5
    )
    model = AutoModelForCausalLM.from_config(config)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert turn_off_dropout(model.train()) == 2
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, model.eval()(ids).logits)
    assert model.config.router_jitter_noise == 0.5


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_text_with_an_end_of_its_own_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """Transformers refuses it in the batch that holds it, which may be the last one of the test rows."""
    tokenizer = tiny_tokenizer()
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, eos_token_id=tokenizer.sep_token_id, **CLASSES,
    )  # fmt: skip
    folder = saved(tmp_path / "model", AutoModelForSequenceClassification, config)
    tokenizer.eos_token = tokenizer.sep_token
    tokenizer.save_pretrained(folder)
    load_model(folder, reviews(tmp_path))
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": "good [SEP] good", "label": "good"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"expected rows without \[SEP\], by which .* finds the end of a row"):
        load_model(folder, reviews(tmp_path, test_file=str(test)))


def test_a_family_that_cannot_compute_activations_again_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    folder = saved(
        tmp_path / "model", AutoModelForSequenceClassification, MPNetConfig(**SIZES, num_hidden_layers=2, **CLASSES)
    )
    name = "activation_checkpointing" if hasattr(StageArguments, "activation_checkpointing") else None
    recomputes = arguments(tmp_path / "out", **{name or "gradient_checkpointing": True})
    with pytest.raises(InputError, match="expected a family that can compute activations again, got a MPNet"):
        finetune(folder, reviews(tmp_path), recomputes)
    with pytest.raises(InputError, match="expected a family that can compute activations again, got a MPNet"):
        distill(folder, folder, reviews(tmp_path), recomputes, DistillArguments(method="kd"))
    assert not (tmp_path / "out").exists()


def test_a_model_with_settings_of_single_blocks_is_not_cut() -> None:
    model = AutoModelForMaskedLM.from_config(BertConfig(**SIZES, num_hidden_layers=4))
    model.config.per_layer_config = {1: {"intermediate_size": 16}}
    with pytest.raises(InputError, match="expected a model that can be cut, got a BertForMaskedLM"):
        student_from_teacher(model, [1, 2])


# --- which blocks are cut ---------------------------------------------------------------------------------------------


def same(model: PreTrainedModel, student: PreTrainedModel) -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 5, 5]])
    with torch.no_grad():
        torch.testing.assert_close(student.eval()(ids).logits, model.eval()(ids).logits)


def test_the_contact_head_of_esm_keeps_the_columns_of_its_blocks() -> None:
    config = EsmConfig(**SIZES, num_hidden_layers=4, max_position_embeddings=64, pad_token_id=1, mask_token_id=4)
    model = AutoModelForMaskedLM.from_config(config)
    same(model, student_from_teacher(model, [1, 2, 3, 4]))
    cut = student_from_teacher(model, [2, 4])
    before, after = (one.esm.contact_head.regression.weight for one in (model, cut))
    torch.testing.assert_close(after, before[:, [2, 3, 6, 7]])


def test_all_lists_of_a_model_that_has_several_are_cut() -> None:
    model = AutoModelForSequenceClassification.from_config(XLMConfig(vocab_size=40, emb_dim=16, n_layers=4, n_heads=2))
    same(model, student_from_teacher(model, [1, 2, 3, 4]))
    cut = student_from_teacher(model, [2, 4])
    assert {len(part) for part in cut.modules() if isinstance(part, torch.nn.ModuleList)} == {2}
    torch.testing.assert_close(cut.transformer.ffns[1].lin1.weight, model.transformer.ffns[3].lin1.weight)


def test_the_blocks_for_images_stay_where_there_are_as_many_of_them() -> None:
    text = {**SIZES, "num_hidden_layers": 4, "num_key_value_heads": 2, "head_dim": 8}
    vision = {
        "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    cut = student_from_teacher(AutoModelForSequenceClassification.from_config(config), [2, 4])
    lists = {name: len(part) for name, part in cut.named_modules() if isinstance(part, torch.nn.ModuleList)}
    assert {name.split(".")[1]: length for name, length in lists.items()} == {"vision_tower": 4, "language_model": 2}
