"""Which tokenizers make the batches of teacher and student, and which logits of two vocabularies are compared."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ted_distill import InputError, Task, TaskArguments, load_task
from ted_distill.models.load import LoadedModel
from ted_distill.models.tokenizers import Tokenizers, choose_tokenizers, matched_logits
from tiny import VOCABULARY, tiny_config, tiny_tokenizer

WHOLE_ROWS = ("sequence_classification", "multi_label_classification", "regression", "sst2", "stsb")
TOKENS = ("squad_v2", "token_classification", "causal_lm", "masked_lm")


def task(name: str = "sequence_classification", **arguments: Any) -> Task:
    return load_task(TaskArguments(name, **arguments))


def loaded_with(tokenizer: PreTrainedTokenizerFast, name: str = "model") -> LoadedModel:
    return LoadedModel(name, None, tokenizer)  # type: ignore[arg-type]  (no model is needed)


def chosen(
    teacher: PreTrainedTokenizerFast, student: PreTrainedTokenizerFast, of_task: str = TOKENS[0], *methods: str
) -> Tokenizers:
    return choose_tokenizers(loaded_with(teacher, "big"), loaded_with(student, "small"), task(of_task), methods)


def edited(**changes: Any) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with other settings."""
    tokenizer = tiny_tokenizer()
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


def with_one_more() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["opera"])
    return tokenizer


def in_another_order() -> PreTrainedTokenizerFast:
    vocabulary, tokenizer = tiny_tokenizer().get_vocab(), tiny_tokenizer()
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    document["model"]["vocab"] |= {"good": vocabulary["bad"], "bad": vocabulary["good"]}
    tokenizer.backend_tokenizer.model = Tokenizer.from_str(json.dumps(document)).model
    return tokenizer


def without_case() -> PreTrainedTokenizerFast:
    """To which "The" is "the" and not an unknown word."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def with_other_ends() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[SEP]", 2))
    return tokenizer


def bpe(merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """Equal vocabularies for any merges: only how a word is put together differs."""
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "q", "x", "z", "qx", "xz", "qxz"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")


DIFFERENT = {
    "one added token": (with_one_more, "has 32 entries and the student's 33, and 0 of the teacher's have another id"),
    "another order": (in_another_order, "2 of the teacher's have another id"),
    "case": (without_case, "gives different tokens"),
    "special tokens": (with_other_ends, "gives different tokens"),
}


def test_tokenizers_that_read_alike_are_shared() -> None:
    teacher, student = tiny_tokenizer(), tiny_tokenizer()
    for name in (*WHOLE_ROWS, *TOKENS):
        found = chosen(teacher, student, name, "kd", "lwd")
        assert found.teacher is found.student is student
        assert found.shared


def test_the_one_that_makes_token_type_ids_is_shared() -> None:
    teacher, student = tiny_tokenizer(), tiny_tokenizer(token_type_ids=False)
    assert chosen(teacher, student).student is teacher
    assert chosen(student, teacher).teacher is teacher


@pytest.mark.parametrize("name", DIFFERENT)
def test_tokenizers_that_differ_are_refused_where_tokens_are_compared(name: str) -> None:
    make, reason = DIFFERENT[name]
    for of_task in TOKENS:
        with pytest.raises(InputError) as refusal:
            chosen(tiny_tokenizer(), make(), of_task)
        (problem,) = refusal.value.problems
        assert problem.startswith(
            f"tokenizers: expected one for both big (teacher) and small (student), as task {of_task} compares the "
            "predictions for each token, got two that differ: "
        )
        assert reason in problem
        assert problem.endswith("; choose a student with the teacher's vocabulary")


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_model_keeps_its_own_where_only_whole_rows_are_compared(name: str) -> None:
    teacher, student = tiny_tokenizer(), DIFFERENT[name][0]()
    for of_task in WHOLE_ROWS:
        found = chosen(teacher, student, of_task)
        assert found.teacher is teacher
        assert found.student is student
        assert not found.shared


def test_methods_that_match_layers_are_refused_and_the_one_that_would_do_is_named() -> None:
    with pytest.raises(
        InputError, match=r"the states of each token are compared \(lwd, ted\), .*; use only method kd, which"
    ):
        chosen(tiny_tokenizer(), with_one_more(), "regression", "lwd", "ted")


def test_equal_vocabularies_with_other_merges_are_found_out_by_their_own_words() -> None:
    """The fixed texts have no such words, but the vocabulary has."""
    one, other = bpe([("q", "x"), ("qx", "z")]), bpe([("x", "z"), ("q", "xz")])
    assert one.get_vocab() == other.get_vocab()
    assert chosen(one, bpe([("q", "x"), ("qx", "z")])).shared
    with pytest.raises(InputError, match="gives different tokens"):
        chosen(one, other)


def test_padding_of_another_kind_is_a_difference_to_classifiers_only() -> None:
    """A classifier that reads the last token finds it by the padding; other tasks look at the mask alone."""
    other = edited(pad_token="[UNK]")
    assert chosen(tiny_tokenizer(), other, "causal_lm").shared
    assert not chosen(tiny_tokenizer(), other, "sst2").shared
    with pytest.raises(InputError, match=r"the teacher's pad_token is \[PAD\] and the student's \[UNK\]"):
        chosen(tiny_tokenizer(), other, "sst2", "lwd")


def test_another_mask_token_is_a_difference_to_masked_language_models() -> None:
    with pytest.raises(InputError, match=r"the teacher's mask_token is \[MASK\] and the student's \[UNK\]"):
        chosen(tiny_tokenizer(), edited(mask_token="[UNK]"), "masked_lm")


@pytest.mark.parametrize("shorter", ["teacher", "student"])
def test_a_shared_tokenizer_makes_no_more_tokens_than_either_model_reads(shorter: str) -> None:
    limits = {"teacher": 64, "student": 64, shorter: 16}
    tokenizers = {owner: edited(model_max_length=limit) for owner, limit in limits.items()}
    assert chosen(tokenizers["teacher"], tokenizers["student"]).student.model_max_length == 16
    assert {owner: tokenizer.model_max_length for owner, tokenizer in tokenizers.items()} == limits


# --- logits over the vocabulary -------------------------------------------------------------------------------


def configs(**sizes: int) -> dict[str, Any]:
    return {name: tiny_config("qwen2", vocab_size=size) for name, size in sizes.items()}


def test_the_logits_of_tokens_are_matched_and_those_of_padded_rows_are_not() -> None:
    tokens = len(VOCABULARY)
    for sizes in ((48, 40), (40, 40), (40, tokens), (tokens, 40)):
        found = matched_logits(configs(big=sizes[0], small=sizes[1]), tiny_tokenizer(), task("causal_lm"))
        assert found == slice(tokens)
    assert matched_logits(configs(big=tokens, small=tokens), tiny_tokenizer(), task("masked_lm")) is None


def test_logits_of_classes_are_all_matched() -> None:
    for name in (*WHOLE_ROWS, "squad_v2", "token_classification"):
        assert matched_logits(configs(big=48, small=40), tiny_tokenizer(), task(name)) is None


def test_ids_that_no_token_has_are_left_out_between_others_too() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 4}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    found = matched_logits(configs(big=8, small=5), tokenizer, task("causal_lm"))
    assert torch.equal(found, torch.tensor([0, 1, 4]))


def test_a_model_with_fewer_rows_than_tokens_is_refused_by_name() -> None:
    with pytest.raises(InputError) as refusal:
        matched_logits(configs(big=31, small=40, tiny=30), tiny_tokenizer(), task("causal_lm"))
    assert refusal.value.problems == [
        f"model: expected a vocab_size of more than 31 in the config of {name}, as the tokenizer has a token with "
        f"that id, got {size}; add rows with model.resize_token_embeddings, or remove the added tokens"
        for name, size in (("big", 31), ("tiny", 30))
    ]
