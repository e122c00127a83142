"""`ted trim`: fewer tokens, the same tokens and outputs on the texts they were chosen by, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ted_distill import InputError
from ted_distill.cli.main import main
from ted_distill.errors import GateError
from ted_distill.models.trimming import trimmed_checkpoint
from ted_distill.models.trimming.cut_words import cut_words
from ted_distill.models.trimming.trim import TrimArguments, trim_vocabulary
from ted_distill.models.trimming.trim_check import differing_texts
from ted_distill.models.trimming.trimmed_checkpoint import choose
from ted_distill.models.trimming.trimmed_model import trim_model
from tiny import tiny_config, usual_first

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
ALL_TEXTS = [
    f"{who} {verb} {what} {how}{end}"
    for who in ("the traveller", "a gardener", "Émile", "nobody")
    for verb in ("remembered", "cultivated", "photographed")
    for what in ("mountains", "tulips", "old bridges")
    for how in ("yesterday", "carefully", "in 1987")
    for end in (".", "!", " …")
]
TEXTS = [text for text in ALL_TEXTS if "gardener" in text and "tulips" in text]
STRANGE = ["the photographed Ω mountains", "日本 cultivated 🙂 bridges", "gardeners' travelling\ttulip\n"]


def made(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer trained on all texts; some special tokens are in its model and others added to it."""
    options: dict[str, Any] = {"vocab_size": 400, "special_tokens": SPECIAL, "show_progress": False}
    if kind == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(**options)
    elif kind == "byte-level BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    elif kind == "BPE with ends of words":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.BPEDecoder()
        trainer = trainers.BpeTrainer(end_of_word_suffix="</w>", **options)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    tokenizer.train_from_iterator(ALL_TEXTS, trainer)
    if kind == "Unigram with bytes":
        content = json.loads(tokenizer.to_str())
        lowest = min(score for _, score in content["model"]["vocab"])
        content["model"]["vocab"] += [[f"<0x{byte:02X}>", lowest - 1] for byte in range(256)]
        content["model"]["byte_fallback"] = True
        tokenizer = Tokenizer.from_str(json.dumps(content))
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_tokens([AddedToken("<<NAME>>", normalized=False)])
    tokenizer.add_special_tokens([AddedToken("<sep>", special=True)])
    number = tokenizer.token_to_id
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B <sep>",
        special_tokens=[(token, number(token)) for token in ("<s>", "</s>", "<sep>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>", cls_token="<s>", sep_token="<sep>", model_max_length=64,
    )  # fmt: skip


KINDS = ["WordPiece", "byte-level BPE", "BPE with ends of words", "Unigram", "Unigram with bytes"]


def content_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return content


def as_tokenizer(content: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(content))


def save(folder: Path, auto_class: Any, family: str = "bert", kind: str = "WordPiece", **changes: Any) -> Path:
    """A random model with a few more rows than its tokenizer has tokens, as large models have."""
    torch.manual_seed(0)
    tokenizer = made(kind)
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = tiny_config(family, vocab_size=len(tokenizer) + 5, **ids, **changes)
    auto_class.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write(folder: Path, texts: list[str], name: str = "texts") -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"number": 1, "text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(file)


def outputs(folder: Path, auto_class: Any, texts: list[str]) -> tuple[PreTrainedModel, torch.Tensor]:
    model = auto_class.from_pretrained(folder).eval()
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        return model, model(**batch)[0]


# --- tokenizers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_cut_as_before_and_come_back_as_the_same_texts(kind: str) -> None:
    content = content_of(made(kind))
    trimmed = choose(content, [*TEXTS, ("the", "tulips")], set())
    whole, small = as_tokenizer(content), as_tokenizer(trimmed.content)
    assert small.get_vocab_size() == len(trimmed.kept) < whole.get_vocab_size()
    assert differing_texts(whole, small, trimmed.kept, [*TEXTS, ("the", "tulips")]) == []
    numbers = whole.get_vocab()
    assert [numbers[token] for token in sorted(small.get_vocab(), key=small.token_to_id)] == trimmed.kept


@pytest.mark.parametrize("kind", KINDS)
def test_special_and_added_tokens_and_single_characters_stay(kind: str) -> None:
    content = content_of(made(kind))
    trimmed = choose(content, TEXTS[:1], set())
    whole, small = as_tokenizer(content).get_vocab(), as_tokenizer(trimmed.content).get_vocab()
    bare = {token: token.removeprefix("##").removesuffix("</w>") for token in whole}
    assert {*SPECIAL, "<<NAME>>", "<sep>"} <= small.keys()
    assert {token for token in whole if len(bare[token]) == 1 or token.startswith("<0x")} <= small.keys()
    encoding = as_tokenizer(trimmed.content).encode("a <<NAME>>", "tulips")
    assert encoding.tokens[0] == "<s>"
    assert encoding.tokens[-1] == "<sep>"
    assert "<<NAME>>" in encoding.tokens
    assert encoding.ids == [small[token] for token in encoding.tokens]


@pytest.mark.parametrize("kind", ["byte-level BPE", "Unigram with bytes"])
def test_bytes_write_what_no_token_is_left_for(kind: str) -> None:
    content = content_of(made(kind))
    small = as_tokenizer(choose(content, TEXTS, set()).content)
    for text in STRANGE[:2]:
        encoding = small.encode(text, add_special_tokens=False)
        assert "<unk>" not in encoding.tokens
        assert small.decode(encoding.ids) == text


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram"])
def test_what_was_unknown_is_unknown_and_what_was_known_is_known(kind: str) -> None:
    content = content_of(made(kind))
    trimmed = choose(content, [*TEXTS, *STRANGE], set())
    whole, small = as_tokenizer(content), as_tokenizer(trimmed.content)
    unknown = whole.token_to_id("<unk>")
    assert any(unknown in whole.encode(text).ids for text in STRANGE)
    assert differing_texts(whole, small, trimmed.kept, [*TEXTS, *STRANGE]) == []


def test_a_word_that_only_a_smaller_vocabulary_would_know_stays_unknown() -> None:
    """The longest pieces of `abcd` end in a dead end; without `abc`, `ab` and `##cd` would do."""
    pieces = ["<unk>", "abc", "ab", "##cd", "x", "abx", "a"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    content = json.loads(tokenizer.to_str())
    assert tokenizer.encode("abcd").tokens == ["<unk>"]
    trimmed = choose(content, ["abcd", "ab", "xcd"], set())
    assert {*trimmed.content["model"]["vocab"]} == {"<unk>", "abc", "ab", "##cd", "x", "a"}
    assert as_tokenizer(trimmed.content).encode("abcd").tokens == ["<unk>"]


def test_tokens_on_the_way_to_a_token_stay_and_merges_keep_their_order() -> None:
    merges = [("b", "c"), ("a", "bc"), ("a", "b"), ("c", "d"), ("abc", "d"), ("ab", "cd")]
    tokens = ["a", "b", "c", "d", "bc", "abc", "ab", "cd", "abcd"]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    trimmed = choose(json.loads(tokenizer.to_str()), ["abc"], set())
    assert list(trimmed.content["model"]["vocab"]) == ["a", "b", "c", "d", "bc", "abc"]
    assert trimmed.content["model"]["merges"] == [["b", "c"], ["a", "bc"]]


def test_unigram_rates_what_is_unknown_as_before() -> None:
    content = content_of(made("Unigram"))
    content["model"]["vocab"].append(["neverwritten", -99.0])
    trimmed = choose(content, TEXTS[:1], set())
    assert ["neverwritten", -99.0] in trimmed.content["model"]["vocab"]


def test_words_that_are_cut_otherwise_are_counted_as_often_as_they_occur() -> None:
    content = content_of(made("WordPiece"))
    whole, small = as_tokenizer(content), as_tokenizer(choose(content, ["the tulips"], set()).content)
    counts = cut_words(whole, small, "<unk>", ["the tulips mountains mountains Ω", ("the", "mountains")])
    assert (counts.words, counts.changed, counts.unknown) == (7, 3, 0)


def test_a_word_that_becomes_unknown_is_counted() -> None:
    pieces = ["<unk>", "film", "good", "bad"]
    words = Tokenizer(models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    content = json.loads(words.to_str())
    small = as_tokenizer(choose(content, ["good film"], set()).content)
    counts = cut_words(words, small, "<unk>", ["bad film zzz", "bad"])
    assert (counts.words, counts.changed, counts.unknown) == (4, 2, 2)


# --- models -------------------------------------------------------------------------------------------------------


FAMILIES = ["bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert", "gpt2", "llama"]


@pytest.mark.parametrize("family", usual_first(FAMILIES))
def test_a_model_with_a_head_over_its_tokens_has_the_logits_of_those_that_are_left(tmp_path: Path, family: str) -> None:
    head = AutoModelForCausalLM if family in ("gpt2", "llama") else AutoModelForMaskedLM
    kind = (
        "byte-level BPE"
        if family in ("gpt2", "modernbert", "llama")
        else "Unigram"
        if family == "albert"
        else "WordPiece"
    )
    source = save(tmp_path / "in", head, family, kind)
    done = trim_vocabulary(source, tmp_path / "out", TrimArguments(texts=[write(tmp_path, TEXTS)]))
    _, before = outputs(source, head, TEXTS[:5])
    small, after = outputs(done.folder, head, TEXTS[:5])
    tokens = AutoTokenizer.from_pretrained(done.folder).get_vocab()
    former = AutoTokenizer.from_pretrained(source).get_vocab()
    places = [former[token] for token in sorted(tokens, key=tokens.__getitem__)]
    assert torch.allclose(before[..., places], after, atol=1e-6, rtol=0)
    assert small.config.vocab_size == len(tokens) == done.about["after"]["tokens"] < len(former)
    for name in ("pad", "bos", "eos"):
        assert getattr(small.config, f"{name}_token_id") == tokens[{"pad": "<pad>", "bos": "<s>", "eos": "</s>"}[name]]
    assert done.about["after"]["parameters"] == small.num_parameters() < done.about["before"]["parameters"]


@pytest.mark.parametrize("head", [AutoModelForSequenceClassification, AutoModelForQuestionAnswering])
def test_the_heads_of_tasks_stay(tmp_path: Path, head: Any) -> None:
    source = save(tmp_path / "in", head)
    trim_vocabulary(source, tmp_path / "out", TrimArguments(texts=[write(tmp_path, TEXTS)]))
    _, before = outputs(source, head, TEXTS)
    small, after = outputs(tmp_path / "out", head, TEXTS)
    assert type(small).__name__ in json.loads((tmp_path / "out" / "config.json").read_text())["architectures"]
    assert torch.allclose(before, after, atol=1e-6, rtol=0)


def test_an_encoder_decoder_has_its_shared_table_and_its_bias_cut(tmp_path: Path) -> None:
    tokenizer = made("byte-level BPE")
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=70,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    done = trim_vocabulary((model, tokenizer), tmp_path / "out", TrimArguments(texts=[write(tmp_path, TEXTS)]))
    small = BartForConditionalGeneration.from_pretrained(done.folder)
    assert small.final_logits_bias.shape[1] == small.config.vocab_size < len(tokenizer)
    assert small.model.encoder.embed_tokens.weight is small.lm_head.weight


def test_numbers_of_tokens_in_configs_are_the_new_ones_and_their_rows_stay() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config("gpt2", bos_token_id=30, eos_token_id=31, pad_token_id=33))
    model.generation_config.eos_token_id = [31, 32]
    model.generation_config.suppress_tokens = [32]
    small = trim_model(model, [3, 5, 30, 31, 32, 33])
    assert (small.config.bos_token_id, small.config.eos_token_id, small.config.pad_token_id) == (2, 3, 5)
    assert small.generation_config.eos_token_id == [3, 4]
    assert small.generation_config.suppress_tokens == [4]
    assert model.config.bos_token_id == 30
    assert torch.equal(small.transformer.wte.weight, model.transformer.wte.weight[[3, 5, 30, 31, 32, 33]])
    assert small.lm_head.weight is small.transformer.wte.weight


def test_settings_of_generation_that_transformers_warns_of_stay_as_they_are(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config("gpt2", bos_token_id=30, eos_token_id=31, pad_token_id=33))
    model.generation_config.temperature = 0.7  # without do_sample, as many models have it
    small = trim_model(model, [3, 5, 30, 31, 32, 33])
    small.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert (saved["temperature"], saved["eos_token_id"]) == (0.7, 3)


def test_half_precision_stays(tmp_path: Path) -> None:
    source = save(tmp_path / "in", AutoModelForMaskedLM)
    AutoModelForMaskedLM.from_pretrained(source).to(torch.bfloat16).save_pretrained(source)
    done = trim_vocabulary(source, tmp_path / "out", TrimArguments(texts=[write(tmp_path, TEXTS)]))
    assert AutoModelForMaskedLM.from_pretrained(done.folder, dtype="auto").dtype == torch.bfloat16
    assert done.about["after"]["bytes"] == 2 * done.about["after"]["parameters"]


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_says_what_became_of_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = save(tmp_path / "in", AutoModelForSequenceClassification), str(tmp_path / "out")
    texts, other = write(tmp_path, TEXTS), write(tmp_path, ["the mountains", "tulips Ω"], "other")
    assert main(["trim", str(source), out, "--texts", texts, "--other", other]) == 0
    said = capsys.readouterr().out.splitlines()
    assert " kB (" in said[1]
    assert said[2].startswith(f"checked: the same tokens for all texts, the same outputs for {len(TEXTS)} (")
    assert said[3] == "other text (those given): of 4 words 50.00 % are cut into other pieces, 0.00 % become unknown"
    # Again, with other texts: what is there was ours.
    assert main(["trim", str(source), out, "--texts", other]) == 0
    assert "other text" not in capsys.readouterr().out
    assert main(["trim", out, str(tmp_path / "twice"), "--texts", other]) == 2
    assert "got texts that need all of them" in capsys.readouterr().err


def test_a_tenth_of_the_texts_stands_for_other_text(tmp_path: Path) -> None:
    source = save(tmp_path / "in", AutoModelForSequenceClassification)
    file = write(tmp_path, [*ALL_TEXTS[::2], *ALL_TEXTS[::2]])
    about = trim_vocabulary(source, tmp_path / "out", TrimArguments(texts=[file])).about
    assert (about["texts"], about["other"]["texts"]) == (162, 17)
    assert about["other"]["on"] == "every tenth text, with tokens chosen from the rest"


def test_all_problems_are_named_at_once_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("a,b\n1,2\n", encoding="utf-8")
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    source = str(save(tmp_path / "in", AutoModelForSequenceClassification))
    assert (
        main(
            [
                "trim",
                source,
                str(out),
                "--texts",
                str(tmp_path / "no.csv"),
                "--other",
                write(tmp_path, ["a"]),
                "--text_column",
                "txt",
            ]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "which holds mine.txt; give another one" in said
    assert "no.csv: expected a file, found no such file" in said
    assert "expected a column 'txt', got columns number, text" in said
    assert [entry.name for entry in out.iterdir()] == ["mine.txt"]
    assert main(["trim", source, "--texts", "x"]) == 2
    assert "expected a checkpoint and a new folder before the flags" in capsys.readouterr().err
    assert main(["trim", source, source, "--texts", write(tmp_path, ["a"])]) == 2
    assert "expected another folder than that of the model" in capsys.readouterr().err
    assert main(["trim", source, str(tmp_path / "new")]) == 2
    assert "texts: expected one or more files, got none" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_that_does_something_else_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path / "in", AutoModelForSequenceClassification)
    arguments = TrimArguments(texts=[write(tmp_path, TEXTS)])

    def wrong(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
        return trim_model(model, [*kept[1:], kept[0]])

    monkeypatch.setattr(trimmed_checkpoint, "trim_model", wrong)
    with pytest.raises(GateError, match="nothing was published: expected the outputs of the whole model"):
        trim_vocabulary(source, tmp_path / "out", arguments)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_a_file_of_its_tokens_is_refused(tmp_path: Path) -> None:
    from transformers import ByT5Tokenizer

    source = save(tmp_path / "in", AutoModelForSequenceClassification)
    for file in source.glob("*tokenizer*"):
        file.unlink()
    ByT5Tokenizer(extra_ids=0).save_pretrained(source)
    with pytest.raises(InputError, match=r"tokenizer: expected a fast one.*got ByT5Tokenizer"):
        trim_vocabulary(source, tmp_path / "out", TrimArguments(texts=[write(tmp_path, TEXTS)]))
