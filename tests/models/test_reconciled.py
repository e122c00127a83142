"""What a model's files say against what the data and the tokenizer say: reconciled when it is loaded, or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BartConfig,
    BertConfig,
    CTRLConfig,
    GPT2Config,
    IBertConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
)

from ted_distill import InputError, ModelArguments, Task, TaskArguments, load_model, load_task
from ted_distill.models.head_choice import Head, decide_head
from ted_distill.models.labels import needs_new_head
from ted_distill.models.load import LoadedModel, save_tokenizer
from ted_distill.models.places import resolve_place
from ted_distill.models.trying.positions import position_limit
from ted_distill.output.publishing import refuse_own_folder
from tiny import CLASSES, save_tiny, tiny_tokenizer, write_questions, write_reviews, write_text

_CAUSAL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
           "intermediate_size": 24, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
_ENCODER = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 24}  # fmt: skip
_GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2}
_BART = {"vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}  # fmt: skip


@pytest.fixture
def reviews(tmp_path: Path) -> Task:
    return classes(str(write_reviews(tmp_path, 12)))


def classes(file: str, **arguments: Any) -> Task:
    return load_task(TaskArguments(task="sequence_classification", train_file=file, validation_file=file, **arguments))


def save(
    folder: Path, config: PretrainedConfig, auto_class: Any = AutoModelForSequenceClassification, **fields: Any
) -> Path:
    """A model of random weights whose config.json has these fields, written as they are."""
    torch.manual_seed(0)
    model = auto_class.from_config(config)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    tokenizer(folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def tokenizer(folder: Path, **changes: Any) -> PreTrainedTokenizerFast:
    made = tiny_tokenizer(token_type_ids=False)
    for name, value in changes.items():
        setattr(made, name, value)
    made.save_pretrained(folder)
    return made


def texts(path: Path, *labels: str) -> str:
    file = path / "rows.jsonl"
    words = ["good", "bad", "fine", "dull"]
    rows = [{"text": f"the film was {words[row % 4]}", "label": label} for row, label in enumerate(labels)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def named(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: place for place, name in enumerate(names)}}


def alone_and_together(loaded: LoadedModel, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    features = task.encode(task.rows["validation"], loaded.tokenizer)
    rows = [features[row] for row in range(len(features))]
    module = loaded.as_module(task).eval()
    with torch.no_grad():
        together = module(task.collate(rows, loaded.tokenizer)).logits
        alone = [
            loaded.model(torch.tensor([row["input_ids"]]), attention_mask=torch.ones(1, len(row["input_ids"]))).logits
            for row in rows
        ]
    return torch.cat(alone), together


# --- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "order"),
    [(("US", "us"), None), (("us", "US"), [1, 0]), (("them", "us"), "refused"), (("us",), "refused")],
)
def test_labels_that_differ_by_case_alone_have_a_logit_each(
    own: tuple[str, ...], order: list[int] | str | None, tmp_path: Path
) -> None:
    task = classes(texts(tmp_path, "US", "us", "US"))
    assert task.label_names == ["US", "us"]
    folder = save(tmp_path / "model", BertConfig(**_ENCODER, **named(*own)))
    if order == "refused":
        with pytest.raises(InputError, match="without US; rename"):
            load_model(folder, task)
    else:
        assert load_model(folder, task).label_order == order


def test_a_head_is_renewed_unless_its_labels_match_one_to_one(tmp_path: Path) -> None:
    task = classes(texts(tmp_path, "US", "us"))
    assert not needs_new_head(BertConfig(**named("us", "US")), task)
    assert needs_new_head(BertConfig(**named("us", "Us")), task)
    assert needs_new_head(BertConfig(**named("US", "us", "them")), task)
    assert not needs_new_head(BertConfig(**named("Good", "Bad")), classes(texts(tmp_path, "good", "bad")))


@pytest.mark.parametrize(
    ("own", "head"),
    [
        (("US", "us"), Head(trained=True)),
        (("us", "US"), Head(trained=True, label_order=(1, 0))),
        (("them", "us"), Head(trained=True, is_new=True, replaced=("them", "us"))),
        (("LABEL_0", "LABEL_1"), Head(trained=True, is_new=True)),
    ],
)
def test_deciding_about_a_head_changes_no_config(own: tuple[str, ...], head: Head, tmp_path: Path) -> None:
    config, task = BertConfig(**named(*own)), classes(texts(tmp_path, "US", "us"))
    before = config.to_dict()
    assert decide_head(config, task, "the model", trained=True) == head
    assert config.to_dict() == before


def test_a_model_of_three_labels_is_for_data_that_hold_two_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = classes(texts(tmp_path, "good", "bad"))
    folder = save(tmp_path / "model", BertConfig(**_ENCODER, **named("neutral", "good", "bad")))
    with caplog.at_level(logging.WARNING, "ted_distill"):
        loaded = load_model(folder, task)
    assert task.label_names == ["bad", "good", "neutral"]
    assert loaded.label_order == [2, 1, 0]
    assert (
        "expected all 3 labels of the model in the data, got 2; taking the model's: bad, good, neutral" in caplog.text
    )


def test_a_label_that_the_model_does_not_know_is_named(tmp_path: Path) -> None:
    task = classes(texts(tmp_path, "good", "awful"))
    folder = save(tmp_path / "model", BertConfig(**_ENCODER, **named("neutral", "good", "bad")))
    with pytest.raises(InputError, match=r"got neutral, good, bad without awful; rename the data's labels"):
        load_model(folder, task)


@pytest.mark.parametrize("found", ["multi_label_classification", "regression"])
def test_a_model_for_another_kind_of_problem_is_refused_unless_it_is_trained(
    found: str, reviews: Task, tmp_path: Path
) -> None:
    folder = save(tmp_path / "model", BertConfig(**_ENCODER, **CLASSES, problem_type=found))
    with pytest.raises(InputError, match=f"expected single_label_classification in the config of .*, got {found}"):
        load_model(folder, reviews)
    assert load_model(folder, reviews, new_head=True).model.config.problem_type == "single_label_classification"
    overrides = ModelArguments(config_overrides="problem_type=single_label_classification")
    assert load_model(folder, reviews, overrides).model.config.problem_type == "single_label_classification"


def test_a_head_for_rows_is_not_taken_for_one_of_tokens(tmp_path: Path, reviews: Task) -> None:
    """Their weights have the same names and, with as many labels, the same sizes."""
    folder = save(tmp_path / "model", BertConfig(**_ENCODER, **named("bad", "good")), AutoModelForTokenClassification)
    with pytest.raises(InputError, match=r"expected a trained head for task .* got a BertForTokenClassification; name"):
        load_model(folder, reviews)
    torch.manual_seed(0)
    fresh = load_model(folder, reviews, new_head=True)
    assert "classifier.weight" in fresh.fresh


# --- padding tokens -------------------------------------------------------------------------------------------

LAST_TOKEN = {
    "llama": LlamaConfig(**_CAUSAL, **CLASSES, max_position_embeddings=64, pad_token_id=0),
    "qwen2": Qwen2Config(**_CAUSAL, **CLASSES, max_position_embeddings=64, pad_token_id=0),
    "gpt2": GPT2Config(**_GPT2, **CLASSES, n_positions=64, pad_token_id=0),
}


@pytest.mark.parametrize("pad", [0, 11, None, -1, 4000])
@pytest.mark.parametrize("family", LAST_TOKEN)
def test_predictions_do_not_depend_on_the_padding_token_of_the_config(
    family: str, pad: int | None, reviews: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "ted_distill"):
        folder = save(tmp_path / "model", LAST_TOKEN[family], pad_token_id=pad)
        loaded = load_model(folder, reviews)
    right = load_model(save(tmp_path / "right", LAST_TOKEN[family]), reviews)
    expected, together = alone_and_together(right, reviews)
    torch.testing.assert_close(together, expected)
    assert expected.std(dim=0).min() > 1e-3
    torch.testing.assert_close(alone_and_together(loaded, reviews)[1], expected)
    assert loaded.model.config.pad_token_id == 0
    notes = [record.getMessage() for record in caplog.records if record.getMessage().startswith("pad_token_id")]
    note = (
        f"pad_token_id: expected that of the tokenizer, 0, in the config of {folder}, got {pad}; taking the tokenizer's"
    )
    assert notes == ([] if pad == 0 else [note])


def test_a_tokenizer_without_a_padding_token_takes_that_of_the_config(reviews: Task, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", LAST_TOKEN["gpt2"], pad_token_id=2)
    tokenizer(folder, pad_token=None)
    loaded = load_model(folder, reviews)
    assert loaded.tokenizer.pad_token == "[SEP]"
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    logits = load_model(save(tmp_path / "right", LAST_TOKEN["gpt2"]), reviews)
    # The rows end with that token, so that the last that is not padding is the one before it, alone or padded.
    alone, together = alone_and_together(loaded, reviews)
    torch.testing.assert_close(together, alone)
    assert logits.tokenizer.pad_token == "[PAD]"


@pytest.mark.parametrize("family", LAST_TOKEN)
def test_without_any_padding_token_that_of_the_end_of_text_is_taken(
    family: str, reviews: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in GPT-2 and Llama on the Hub."""
    folder = save(tmp_path / "model", LAST_TOKEN[family], pad_token_id=None)
    tokenizer(folder, pad_token=None, eos_token="[CLS]")
    loaded = load_model(folder, reviews)
    assert loaded.tokenizer.pad_token == "[CLS]"
    assert loaded.model.config.pad_token_id == loaded.tokenizer.pad_token_id
    alone, together = alone_and_together(loaded, reviews)
    torch.testing.assert_close(together, alone)
    assert caplog.text.count("taking the end-of-text token, [CLS]") == 1


def test_roberta_goes_on_counting_positions_from_the_padding_token_it_was_made_with(
    reviews: Task, tmp_path: Path
) -> None:
    config = RobertaConfig(**_ENCODER, **CLASSES, max_position_embeddings=66, pad_token_id=3, type_vocab_size=1)
    folder = save(tmp_path / "model", config)
    loaded = load_model(folder, reviews)
    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = reviews.encode(reviews.rows["validation"], loaded.tokenizer)[1]["input_ids"]
    with torch.no_grad():
        expected = plain(torch.tensor([ids])).logits[0]
    alone, together = alone_and_together(loaded, reviews)
    torch.testing.assert_close(alone[1], expected)
    torch.testing.assert_close(together, alone)
    assert loaded.model.config.pad_token_id == 3


def test_a_model_gets_the_padding_it_knows_from_a_batch_of_another_tokenizer(reviews: Task, tmp_path: Path) -> None:
    """As a teacher does whose student's tokenizer pads with another token."""
    loaded = load_model(save(tmp_path / "model", LAST_TOKEN["llama"]), reviews)
    other = tokenizer(tmp_path / "other", pad_token="[MASK]")
    features = reviews.encode(reviews.rows["validation"], loaded.tokenizer)
    rows = [features[row] for row in range(len(features))]
    module = loaded.as_module(reviews)
    with torch.no_grad():
        own, others = (module(reviews.collate(rows, made)).logits for made in (loaded.tokenizer, other))
    torch.testing.assert_close(others, own)


def test_a_tokenizer_that_pads_on_the_left_changes_nothing(reviews: Task, tmp_path: Path) -> None:
    loaded = load_model(save(tmp_path / "model", LAST_TOKEN["llama"]), reviews)
    file = tmp_path / "model" / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    left = load_model(tmp_path / "model", reviews)
    assert left.tokenizer.padding_side == "left"
    torch.testing.assert_close(alone_and_together(left, reviews)[1], alone_and_together(loaded, reviews)[0])


def test_a_tokenizer_is_saved_with_the_padding_that_rows_were_scored_with(reviews: Task, tmp_path: Path) -> None:
    """A model with absolute positions computes other logits with padding on the left; texts are generated after it."""
    tokenizer(tmp_path / "own")
    left = AutoTokenizer.from_pretrained(tmp_path / "own", padding_side="left")
    for task, side in ((reviews, "right"), (load_task("causal_lm"), "left"), (None, "left")):
        save_tokenizer(left, tmp_path / "saved", task)
        assert AutoTokenizer.from_pretrained(tmp_path / "saved").padding_side == side
    by_class = tiny_tokenizer(False)
    by_class.padding_side = "left"
    save_tokenizer(by_class, tmp_path / "saved", reviews)
    assert json.loads((tmp_path / "saved/tokenizer_config.json").read_text())["padding_side"] == "right"
    assert (by_class.padding_side, "padding_side" in by_class.init_kwargs) == ("left", False)


# --- tokens without embeddings --------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"pad_token": "[NEW]"}, {"eos_token": "[NEW]"}, {"mask_token": "[NEW]"}])
def test_tokens_beyond_the_embeddings_are_refused_with_what_to_call(
    changes: dict[str, str], reviews: Task, tmp_path: Path
) -> None:
    folder = save(tmp_path / "model", GPT2Config(**{**_GPT2, "vocab_size": 32}, **CLASSES, pad_token_id=0))
    load_model(folder, reviews)
    made = tokenizer(folder)
    made.add_special_tokens(changes)
    made.save_pretrained(folder)
    for new_head in (False, True):
        with pytest.raises(
            InputError,
            match=r"got 32 embeddings and tokens with numbers up to 32 \(without one: '\[NEW\]'\); call "
            r"model.resize_token_embeddings\(len\(tokenizer\)\)",
        ):
            load_model(folder, reviews, new_head=new_head)


def test_an_added_word_without_an_embedding_is_refused_whether_or_not_a_row_holds_it(
    reviews: Task, tmp_path: Path
) -> None:
    folder = save(tmp_path / "model", BertConfig(**{**_ENCODER, "vocab_size": 32}, **CLASSES))
    made = tokenizer(folder)
    made.add_tokens(["opera"])
    made.save_pretrained(folder)
    with pytest.raises(InputError, match=r"without one: 'opera'"):
        load_model(folder, reviews)


def test_a_special_token_without_an_embedding_is_refused_only_if_a_text_holds_it(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", BertConfig(**{**_ENCODER, "vocab_size": 32}, **CLASSES))
    made = tokenizer(folder)
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    made.save_pretrained(folder)
    file = texts(tmp_path, "bad", "good")
    load_model(folder, classes(file))
    Path(file).write_text(Path(file).read_text().replace("film was bad", "<image> was bad"))
    with pytest.raises(InputError, match=r"without one: '<image>'"):
        load_model(folder, classes(file))


# --- positions ------------------------------------------------------------------------------------------------

SHORT = {
    "bert": BertConfig(**_ENCODER, max_position_embeddings=20),
    "roberta": RobertaConfig(**_ENCODER, max_position_embeddings=21, pad_token_id=0, type_vocab_size=1),
    "gpt2": GPT2Config(**_GPT2, n_positions=20, pad_token_id=0),
    "opt": OPTConfig(vocab_size=40, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2,
                     max_position_embeddings=20, word_embed_proj_dim=16, pad_token_id=0),
    "bart": BartConfig(**_BART, **CLASSES, max_position_embeddings=20),
    "ctrl": CTRLConfig(vocab_size=40, n_embd=16, dff=24, n_layer=2, n_head=2, n_positions=20, pad_token_id=0),
}  # fmt: skip


@pytest.mark.parametrize("family", SHORT)
def test_rows_longer_than_a_models_positions_are_refused_or_cut(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = str(write_reviews(tmp_path, 12))
    folder = save(tmp_path / "model", SHORT[family], **CLASSES)
    for length, fits in ((20, True), (21, False), (64, False)):
        task = classes(file, max_seq_length=length)
        if fits:
            load_model(folder, task)
            continue
        with pytest.raises(InputError, match=rf"expected at most 20 tokens, as many as .* got {length}; set --max_seq"):
            load_model(folder, task)
    with caplog.at_level(logging.WARNING, "ted_distill"):
        loaded = load_model(folder, classes(file))
    assert loaded.tokenizer.model_max_length == 20
    assert "got 20, as many as" in caplog.text
    # What is found by a look at the modules, as a plan does, is what is found by running them; CTRL's is no module.
    assert position_limit(loaded.model) == (None if family == "ctrl" else 20)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_text_is_cut_to_a_models_positions(family: str, tmp_path: Path) -> None:
    file = str(write_text(tmp_path, 40))
    folder = save(tmp_path / "model", SHORT[family], AutoModelForCausalLM)
    task = load_task(TaskArguments(task="causal_lm", validation_file=file))
    loaded = load_model(folder, task)
    features = task.encode(task.rows["validation"], loaded.tokenizer)
    assert max(features["length"]) == 20


@pytest.mark.parametrize("family", ["bert", "bart"])
def test_the_usual_length_of_questions_is_cut_to_a_models_positions(family: str, tmp_path: Path) -> None:
    file = str(write_questions(tmp_path, 6))
    folder = save(tmp_path / "model", SHORT[family], AutoModelForQuestionAnswering)
    task = load_task(TaskArguments(task="squad_v2", validation_file=file, doc_stride=2))
    loaded = load_model(folder, task)
    features = task.encode(task.rows["validation"], loaded.tokenizer)
    assert max(features["length"]) == 20
    batch = task.collate([features[row] for row in range(4)], loaded.tokenizer)
    with torch.no_grad():
        assert torch.isfinite(loaded.as_module(task)(batch).logits).all()
    with pytest.raises(InputError, match="expected at most 20 tokens"):
        load_model(folder, load_task(TaskArguments(task="squad_v2", validation_file=file, max_seq_length=24)))


def test_rotary_positions_are_no_limit(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", LlamaConfig(**_CAUSAL, **CLASSES, max_position_embeddings=8, pad_token_id=0))
    load_model(folder, classes(str(write_reviews(tmp_path, 12)), max_seq_length=32))


# --- what tokens see ------------------------------------------------------------------------------------------


def test_an_encoder_that_sees_what_it_should_predict_is_refused_for_causal_text(tmp_path: Path) -> None:
    task = load_task(TaskArguments(task="causal_lm", validation_file=str(write_text(tmp_path, 20)), max_seq_length=16))
    folder = save(tmp_path / "model", BertConfig(**_ENCODER), AutoModelForCausalLM)
    with pytest.raises(InputError, match=r"sees the tokens it should predict; set --config_overrides is_decoder=true"):
        load_model(folder, task)
    assert load_model(folder, task, ModelArguments(config_overrides="is_decoder=true")).findings.causal


def test_a_decoder_is_refused_for_hidden_tokens(tmp_path: Path) -> None:
    task = load_task(TaskArguments(task="masked_lm", validation_file=str(write_text(tmp_path, 20)), max_seq_length=16))
    folder = save(tmp_path / "model", BertConfig(**_ENCODER), AutoModelForMaskedLM)
    load_model(folder, task)
    with pytest.raises(InputError, match=r"to see those after it, got a causal model; set --config_overrides"):
        load_model(folder, task, ModelArguments(config_overrides="is_decoder=true"))


def test_a_decoder_that_classifies_by_its_first_token_is_refused(reviews: Task, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", BertConfig(**_ENCODER, **CLASSES))
    with pytest.raises(
        InputError, match=r"depend on the whole text, got those of its first token, which sees no other"
    ):
        load_model(folder, reviews, ModelArguments(config_overrides="is_decoder=true"))


def test_filters_of_a_causal_model_read_its_last_token_whatever_its_head_is_called(
    reviews: Task, tmp_path: Path
) -> None:
    """CTRL calls it `classifier`, as encoders do."""
    folder = save(tmp_path / "model", SHORT["ctrl"], **CLASSES)
    loaded = load_model(folder, reviews)
    assert loaded.findings.causal
    assert loaded.with_filters(None, reviews, filter_token="first").reads_last_token
    encoder = load_model(save(tmp_path / "bert", SHORT["bert"], **CLASSES), reviews)
    assert not encoder.with_filters(None, reviews, filter_token="first").reads_last_token


def test_a_model_whose_tokens_see_no_others_is_told_of(
    reviews: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of MRA without its kernel, whose attention is then zero; untrained models may be like that too."""
    folder = save(tmp_path / "model", SHORT["bert"], **CLASSES)
    load_model(folder, reviews)
    assert "reads each by itself" not in caplog.text
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    for layer in model.bert.encoder.layer:
        torch.nn.init.zeros_(layer.attention.output.dense.weight)
    model.save_pretrained(folder)
    loaded = load_model(folder, reviews)
    assert "reads each by itself; are its weights untrained" in caplog.text
    assert not loaded.findings.causal


def test_roberta_like_models_keep_the_padding_token_that_positions_are_counted_from_after_saving(
    reviews: Task, tmp_path: Path
) -> None:
    """I-BERT's table of positions is no `nn.Embedding`."""
    config = IBertConfig(**_ENCODER, **CLASSES, max_position_embeddings=66, pad_token_id=3)
    loaded = load_model(save(tmp_path / "model", config), reviews)
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    again = load_model(tmp_path / "saved", reviews)
    torch.testing.assert_close(alone_and_together(again, reviews)[1], alone_and_together(loaded, reviews)[1])


def test_trying_a_model_out_leaves_no_trace(reviews: Task, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", SHORT["bert"], **CLASSES)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    loaded = load_model(folder, reviews)
    assert torch.equal(torch.get_rng_state(), before)
    assert not loaded.model.training
    assert all(weight.requires_grad and weight.grad is None for weight in loaded.model.parameters())


# --- places ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "there" / "model", AutoModelForSequenceClassification, **CLASSES)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("there/model/config.json", r"got the file .*config.json; give the folder that holds it"),
        ("there", r"expected a folder with a config.json, got .*there, which holds model; give that folder"),
        ("there/other/model", r"got the folder .*, which does not exist \(only .*there does\)"),
        ("there/model/other@v2", r"got the folder .*, which does not exist \(only .*model does\)"),
        ("empty", r"got .*empty, which holds nothing; check it"),
        ("adapter", r"which holds an adapter; merge it"),
    ],
)
@pytest.mark.parametrize("as_path", [True, False], ids=["absolute", "relative"])
def test_a_wrong_path_is_not_blamed_on_the_network(
    place: str, problem: str, as_path: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=problem):
        resolve_place(tmp_path / place if as_path else place)


@pytest.mark.parametrize("missing", ["./teacher", "runs/x/teacher", "/nowhere/teacher"])
def test_below_a_folder_that_is_missing_nothing_of_the_hub_is_hidden(missing: str) -> None:
    refuse_own_folder(Path(missing) / "run", [missing])
    with pytest.raises(InputError, match="whose folder teacher, which is not there yet"):
        refuse_own_folder(Path("teacher/run"), ["teacher"])


def test_a_name_that_could_be_the_hubs_says_that_there_is_no_such_folder_either(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reviews: Task
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder there/modell here \(only there does\)"):
        load_model("there/modell", reviews)
    assert load_model("there/model", reviews).name == "there/model"


def test_the_home_folder_is_known(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reviews: Task) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model("~/there/model", reviews).name == str(model)
    with pytest.raises(InputError, match="expected a folder or a Hub id"):
        resolve_place("~nobody_of_this_name/model")
    with pytest.raises(InputError, match="got an empty name"):
        resolve_place("")


@pytest.mark.parametrize("trusted", [False, True])
def test_code_that_comes_with_a_model_is_refused_or_fails_in_one_line(
    trusted: bool, model: Path, reviews: Task
) -> None:
    config = json.loads((model / "config.json").read_text())
    classes_of = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnModel"}
    (model / "config.json").write_text(json.dumps(config | {"auto_map": classes_of, "model_type": "own"}))
    (model / "own.py").write_text("raise AttributeError('this code is broken')")
    with pytest.raises(InputError) as refused:
        load_model(model, reviews, ModelArguments(trust_remote_code=trusted))
    assert ("this code is broken" if trusted else "trust_remote_code") in str(refused.value)
    assert len(refused.value.problems) == 1


def test_an_unknown_model_type_is_refused(model: Path, reviews: Task) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "of tomorrow"}))
    with pytest.raises(InputError, match="to load as AutoConfig"):
        load_model(model, reviews)


def test_a_model_of_images_is_refused(reviews: Task, tmp_path: Path, model: Callable[..., Path]) -> None:
    AutoConfig.for_model("vit", hidden_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(tmp_path)
    tokenizer(tmp_path)
    with pytest.raises(InputError, match="to load as AutoModelForSequenceClassification"):
        load_model(tmp_path, reviews, new_head=True)
