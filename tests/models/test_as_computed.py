"""Models that compute something else than their config says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BigBirdConfig,
    Qwen2Config,
    Qwen3Config,
)

from family_configs import tiny_family_config
from ted_distill import InputError, TaskArguments, load_task
from ted_distill.export.which_task import arguments_of
from ted_distill.models.as_computed import in_float32
from ted_distill.models.as_saved import load_as_saved
from ted_distill.models.load import ModelArguments, load_model
from ted_distill.models.students import StudentArguments, student
from ted_distill.models.trimming.trim import TrimArguments, trim_vocabulary
from ted_distill.output import SETTINGS_NAME, write_sealed
from tiny import tiny_tokenizer, write_reviews, write_text

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def saved(folder: Path, model: Any, **changes: Any) -> Path:
    """A model with its tokenizer, and a config that was edited."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return folder


def language_model(tied: bool) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=40, num_hidden_layers=2, num_key_value_heads=2, tie_word_embeddings=tied, **SIZES)
    return AutoModelForCausalLM.from_config(config)


def tables(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


def texts(folder: Path) -> Any:
    file = str(write_text(folder, 30, "train"))
    return load_task(TaskArguments(task="causal_lm", train_file=file, validation_file=file, max_seq_length=16))


def test_a_head_that_the_config_ties_and_the_checkpoint_does_not_stays_in_a_student(tmp_path: Path) -> None:
    """As it is where an adapter that trained both was merged."""
    whole = language_model(tied=False)
    teacher = saved(tmp_path / "teacher", whole, tie_word_embeddings=True)
    student(teacher, tmp_path / "student", StudentArguments(layers="1,2"))
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    assert not found.config.tie_word_embeddings
    for made, wanted in zip(tables(found), tables(whole), strict=True):
        torch.testing.assert_close(made, wanted)
    file = write_text(tmp_path, 30, "texts")
    trimmed = trim_vocabulary(teacher, tmp_path / "trimmed", TrimArguments(texts=[str(file)]))
    assert trimmed.about["largest_difference"] < 1e-5


@pytest.mark.parametrize("family", ["albert", "bart", "bert", "deberta-v2", "luke", "roberta"])
def test_a_head_of_its_own_is_saved_with_all_that_its_family_ties(family: str, tmp_path: Path) -> None:
    """BERT ties two biases beside the head, BART three tables, LUKE others and not the head."""
    torch.manual_seed(0)
    whole = AutoModelForMaskedLM.from_config(tiny_family_config(family))
    head = whole.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
    folder = saved(tmp_path / "model", whole, tie_word_embeddings=True)
    file = str(write_text(tmp_path, 12, "train"))
    task = load_task(TaskArguments(task="masked_lm", train_file=file, validation_file=file, max_seq_length=16))
    loaded = load_model(folder, task)
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    student(folder, tmp_path / "student", StudentArguments(layers="1,2"))
    rows = torch.randint(5, 40, (2, 9))
    with torch.no_grad():
        wanted = whole.eval()(rows).logits
        for found in (loaded, load_model(tmp_path / "saved", task), load_model(tmp_path / "student", task)):
            torch.testing.assert_close(found.model.eval()(rows).logits, wanted)


@pytest.mark.parametrize("family", ["bart", "t5", "umt5"])
def test_three_tables_stay_one_beside_a_head_of_its_own(family: str, tmp_path: Path) -> None:
    """UMT5 scales what goes to the head by the entry of the config that ties it."""
    torch.manual_seed(0)
    whole = AutoModelForSeq2SeqLM.from_config(tiny_family_config(family))
    whole.lm_head.weight = torch.nn.Parameter(torch.randn_like(whole.lm_head.weight))
    folder = saved(tmp_path / "model", whole, tie_word_embeddings=True)
    student(folder, tmp_path / "student", StudentArguments(layers="1,2"))
    trim_vocabulary(folder, tmp_path / "trimmed", TrimArguments(texts=[str(write_text(tmp_path, 30, "texts"))]))
    rows = torch.randint(5, 40, (2, 9))
    plain = [AutoModelForSeq2SeqLM.from_pretrained(place).eval() for place in (folder, tmp_path / "student")]
    with torch.no_grad():
        wanted, found = (model(input_ids=rows, decoder_input_ids=rows).logits for model in plain)
    torch.testing.assert_close(found, wanted)
    sizes = [(place / "model.safetensors").stat().st_size for place in (folder, tmp_path / "student")]
    assert sizes[1] <= sizes[0] + 1000


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "roberta"])
def test_what_is_untied_with_the_head_starts_as_what_it_was_tied_to(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = AutoModelForMaskedLM.from_config(tiny_family_config(family))
    torch.nn.init.normal_(whole.get_output_embeddings().bias)
    folder = saved(tmp_path / "model", whole)
    file = str(write_text(tmp_path, 12, "train"))
    task = load_task(TaskArguments(task="masked_lm", train_file=file, validation_file=file, max_seq_length=16))
    loaded = load_model(folder, task, ModelArguments(config_overrides="tie_word_embeddings=false"))
    rows = torch.randint(5, 40, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.eval()(rows).logits, whole.eval()(rows).logits)


def test_a_head_that_is_untied_starts_as_the_embeddings(tmp_path: Path) -> None:
    whole = language_model(tied=True)
    folder = saved(tmp_path / "model", whole)
    overrides = ModelArguments(config_overrides="tie_word_embeddings=false")
    for new_head in (False, True):
        loaded = load_model(folder, texts(tmp_path), overrides, new_head=new_head)
        assert loaded.fresh == ()
        embeddings, head = tables(loaded.model)
        assert head is not embeddings
        torch.testing.assert_close(head, whole.get_input_embeddings().weight)


def test_what_is_scored_of_a_sparse_model_is_what_its_checkpoint_computes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BigBirdConfig(
        vocab_size=40, num_hidden_layers=2, block_size=4, num_random_blocks=1, num_labels=2,
        attention_type="block_sparse", max_position_embeddings=256, hidden_dropout_prob=0,
        id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1}, **SIZES,
    )  # fmt: skip
    folder = saved(tmp_path / "model", AutoModelForSequenceClassification.from_config(config))
    file = str(write_reviews(tmp_path, 8, "rows"))
    task = load_task(TaskArguments(task="sequence_classification", train_file=file, validation_file=file))
    loaded = load_model(folder, task)
    loaded.model.save_pretrained(tmp_path / "saved")
    long = torch.randint(5, len(tiny_tokenizer()), (1, 120))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.eval()(long).logits, plain(long).logits)
    assert plain.config.attention_type == "original_full"


def test_a_trimmed_checkpoint_reads_rows_as_the_whole_one_does(tmp_path: Path) -> None:
    """As long, and where a task has them with windows of the same kind."""
    folder = saved(tmp_path / "model", language_model(tied=True))
    write_sealed(folder / SETTINGS_NAME, {"identity": {"task": {"task": "causal_lm", "max_seq_length": 8}}})
    texts = TrimArguments(texts=[str(write_text(tmp_path, 30, "texts"))])
    trim_vocabulary(folder, tmp_path / "trimmed", texts)
    whole, trimmed = (arguments_of(str(place), ModelArguments()) for place in (folder, tmp_path / "trimmed"))
    assert trimmed == whole == {"task": "causal_lm", "max_seq_length": 8}
    trim_vocabulary(folder, tmp_path / "trimmed", texts)


@pytest.mark.parametrize("counted", ["encoder_layers", "decoder_layers"])
def test_a_decoder_without_its_encoder_is_cut_by_its_own_blocks(tmp_path: Path, counted: str) -> None:
    sizes = {
        "d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_layers": 4, "decoder_layers": 4, counted: 6,
    }  # fmt: skip
    whole = AutoModelForCausalLM.from_config(BartConfig(vocab_size=40, **sizes))
    teacher = saved(tmp_path / "teacher", whole)
    student(teacher, tmp_path / "student", StudentArguments(layers="2,4"))
    cut = load_as_saved(tmp_path / "student").model.decoder.layers
    assert len(cut) == 2
    torch.testing.assert_close(cut[1].fc1.weight, whole.model.decoder.layers[3].fc1.weight)


def test_weights_of_two_types_are_read_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers reads quantised checkpoints where there is no GPU for them."""
    config = Qwen3Config(vocab_size=40, num_hidden_layers=2, num_key_value_heads=2, head_dim=8, **SIZES)
    folder = saved(tmp_path / "model", AutoModelForCausalLM.from_config(config))
    read = AutoModelForCausalLM.from_pretrained

    def mixed(*args: Any, **options: Any) -> Any:
        model, info = read(*args, **options)
        model.model.layers.bfloat16()
        return model, info

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", mixed)
    loaded = load_model(folder, texts(tmp_path))
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    loaded.model.is_quantized = True
    with pytest.raises(InputError, match=r"expected weights that can be trained, got big, which is quantised"):
        in_float32(loaded.model, "big")
