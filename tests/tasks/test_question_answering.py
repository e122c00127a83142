"""Question answering: rows in every form, windows of every family of tokenizers, batches, answers and their scores."""

from __future__ import annotations

import gzip
import json
import re
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, PreTrainedTokenizerFast

from ted_distill.errors import InputError
from ted_distill.tasks.base import Split
from ted_distill.tasks.reading.squad_format import flatten_squad, is_squad_document
from ted_distill.tasks.squad.question_answering import QuestionAnswering, SpanPredictions
from ted_distill.tasks.squad.rows import ROW_FEATURES
from ted_distill.tasks.squad.span_search import best_spans
from ted_distill.tasks.task_arguments import TaskArguments

LONG = (
    "  The Seine — a river — flows through Paris, then Rouen; it ends near Le Havre. " * 3
    + "Its café is \u200b“Flore”. "
)
ROWS = [
    ("river", LONG, "Which river?", ["Seine", "The Seine"]),
    ("cafe", LONG, "   Which café?", ["“Flore”"]),
    ("none", LONG, "Who won?", []),
    ("short", "Zürich lies in Switzerland", "Where is it?", ["Switzerland"]),
    ("first", "Zürich lies in Switzerland", "What lies there?", ["Zürich"]),
]


def row(id_: str, context: str, question: str, texts: list[str]) -> dict[str, Any]:
    answers = {"text": texts, "answer_start": [context.rindex(text) for text in texts]}
    return {"id": id_, "title": "t", "context": context, "question": question, "answers": answers}


def task(**arguments: Any) -> QuestionAnswering:
    settings = {"task": "squad_v2", "max_seq_length": 32, "doc_stride": 10} | arguments
    return QuestionAnswering(TaskArguments(**settings))


def rows_of(qa: QuestionAnswering, rows: list[dict[str, Any]], split: str = "validation") -> Dataset:
    return qa.normalise(Dataset.from_list(rows), split)


# --- tokenizers: one of each kind of offsets, of special tokens, and of the place of CLS ------------------------


def wrap(tokenizer: Tokenizer, names: list[str], **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, pad_token="[PAD]", **special)


def template(pair: str) -> Any:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=pair, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )


def trained(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    tokenizer.train_from_iterator(sorted({text for _, *texts, _ in ROWS for text in texts}), trainer)
    return tokenizer


def bert_like() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    # Drops characters (the zero-width space before “Flore”) and accents, as BERT does.
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    trained(tokenizer, trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    tokenizer.post_processor = template("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return wrap(tokenizer, names, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")


def byte_level(post: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["[PAD]", "[CLS]", "[SEP]"]
    # Only what comes twice is merged: words with the space before them, but no answer with its full stop.
    trainer = trainers.BpeTrainer(
        vocab_size=500, min_frequency=2, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained(tokenizer, trainer).post_processor = post
    return tokenizer


def roberta_like() -> PreTrainedTokenizerFast:
    post = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1), trim_offsets=False, add_prefix_space=False)
    return wrap(byte_level(post), ["input_ids", "attention_mask"], cls_token="[CLS]", sep_token="[SEP]")


def gpt_like() -> PreTrainedTokenizerFast:
    return wrap(byte_level(processors.ByteLevel(trim_offsets=False)), ["input_ids", "attention_mask"])


def deberta_like(pair: str = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1") -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="[UNK]", show_progress=False)
    trained(tokenizer, trainer).post_processor = template(pair)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return wrap(tokenizer, names, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]")


def cls_last() -> PreTrainedTokenizerFast:
    return deberta_like("$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2")


FAMILIES = [bert_like, roberta_like, gpt_like, deberta_like, cls_last]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return request.param()


@pytest.fixture(scope="module")
def bert() -> PreTrainedTokenizerFast:
    return bert_like()


def gold_logits(features: Dataset, generator: np.random.Generator) -> list[np.ndarray]:
    """Logits of a model that is right about every window, with padding that says something else loudly."""
    logits = []
    for feature in features:
        window = generator.normal(size=(feature["length"] + 5, 2)).astype(np.float32)
        window[feature["length"] :] = 100.0
        window[feature["start_positions"], 0] = window[feature["end_positions"], 1] = 20.0
        logits.append(window)
    return logits


# --- rows -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_cache")
def test_all_forms_of_a_file_give_the_same_rows(tmp_path: Path) -> None:
    expected = [row(*entry) for entry in ROWS[2:]]
    lines = [{**entry, "answers": json.dumps(entry["answers"])} for entry in expected]
    pairs = [
        {
            "id": entry["id"],
            "context": entry["context"],
            "question": entry["question"],
            "answer_text": (entry["answers"]["text"] or [""])[0],
            "answer_start": (entry["answers"]["answer_start"] or [None])[0],
        }
        for entry in expected
    ]
    questions = [
        {
            "id": entry["id"],
            "question": entry["question"],
            "is_impossible": not entry["answers"]["text"],
            "answers": [{"text": t, "answer_start": s} for t, s in zip(*entry["answers"].values(), strict=True)],
        }
        for entry in expected
    ]
    paragraphs = [{"context": entry["context"], "qas": [qa]} for entry, qa in zip(expected, questions, strict=True)]
    document = {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}
    Dataset.from_list(expected).to_parquet(tmp_path / "hub.parquet")
    Dataset.from_list(pairs).to_csv(tmp_path / "pairs.csv", index=False)
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "official.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))

    for file in ("hub.parquet", "pairs.csv", "lines.jsonl", "official.json.gz"):
        rows = task(task="question_answering", validation_file=str(tmp_path / file)).rows["validation"]
        assert rows.to_list() == [{key: entry[key] for key in rows.column_names} for entry in expected], file


def test_questions_without_id_get_their_row_number_and_columns_can_be_named() -> None:
    answers = '{"text": "b", "answer_start": 2}'
    qa = task(text_column="q", text_pair_column="passage", label_column="gold")
    rows = rows_of(qa, [{"q": "what?", "passage": "a b", "gold": answers}] * 2)
    assert rows["id"][:] == ["0", "1"]
    assert rows["answers"][1] == {"text": ["b"], "answer_start": [2]}
    assert list(qa.problems(rows, "validation")) == []


def test_a_missing_column_is_named_together_with_those_that_exist() -> None:
    with pytest.raises(InputError) as error:
        rows_of(task(), [{"id": "1", "text": "a", "question": "b"}])
    assert [problem.split(";")[0] for problem in error.value.problems] == [
        "validation: expected a column 'context', got columns id, text, question",
        "validation: expected a column 'answers', got columns id, text, question",
    ]


def test_every_problem_of_the_rows_is_reported_at_once() -> None:
    good = row("ok", "a b", "q", ["b"])
    bad = [
        {**good, "answers": {"text": ["b"], "answer_start": [0]}},
        {**good, "id": "no context", "context": None},
        {**good, "id": "no question", "question": None},
        {**good, "id": "no answers", "answers": None},
        {**good, "id": None},
    ]
    qa = task()
    problems = list(qa.problems(rows_of(qa, [good, *bad]), "validation"))
    assert len(problems) == 6
    assert "expected an id in every row, got none in 1 row (6" in problems[0]
    assert "1 id (first: 'ok') more than once" in problems[1]
    assert "expected a question in every row, got none in 1 row (first: 'no question')" in problems[2]
    assert "expected a context in every row, got none in 1 row (first: 'no context')" in problems[3]
    assert "got none that can be read for 1 question (first: 'no answers')" in problems[4]
    assert "expected each answer in its context at answer_start" in problems[5]
    assert "got 1 that is not there (first: 'ok': 'b' at 0, where the context has 'a')" in problems[5]
    # Only predictions are kept by id.
    assert not any("more than once" in problem for problem in qa.problems(rows_of(qa, [good, good], "train"), "train"))
    unlabelled = qa.without_labels(Dataset.from_list([good, good]))
    assert list(qa.unlabelled_problems(unlabelled)) == []


def test_no_rows_is_a_problem() -> None:
    qa = task()
    assert "no rows" in next(qa.problems(rows_of(qa, [row(*ROWS[0])]).select([]), "train"))


def test_unanswerable_questions_are_refused_where_every_question_has_an_answer() -> None:
    qa = task(task="squad")
    (problem,) = qa.problems(rows_of(qa, [row(*entry) for entry in ROWS], "train"), "train")
    assert problem.startswith(
        "train: expected an answer to every question in task 'squad', got none for 1 question (first: 'none'); use"
    )


def test_whether_answers_may_be_missing_is_said_or_named_or_seen() -> None:
    assert task().version_2_with_negative
    assert not task(version_2_with_negative=False).version_2_with_negative
    own = task(task="question_answering")
    rows_of(own, [row(*ROWS[0])], "train")
    assert not own.version_2_with_negative
    rows_of(own, [row(*ROWS[2])])
    assert own.version_2_with_negative


def test_test_rows_do_not_change_how_models_are_chosen() -> None:
    answered, impossible = row(*ROWS[0]), row(*ROWS[2])
    own = task(task="question_answering")
    rows_of(own, [answered], "train")
    rows_of(own, [answered])
    test = rows_of(own, [impossible], "test")
    assert not own.version_2_with_negative
    assert own.score_names == ("f1", "exact_match")
    (problem,) = own.problems(test, "test")
    assert "test: expected an answer to every question in task 'question_answering', got none for 1" in problem
    # Where there are no others, they are all that can be asked.
    alone = task(task="question_answering")
    rows_of(alone, [impossible], "test")
    assert alone.version_2_with_negative


def test_official_questions_that_are_impossible_have_no_answers_and_unlabelled_ones_none_known() -> None:
    answer = [{"text": "b", "answer_start": 2}]
    questions = [
        {"id": 1, "question": "q", "answers": answer, "is_impossible": False},
        {"id": 2, "question": "q", "answers": answer, "plausible_answers": answer, "is_impossible": True},
        {"id": 3, "question": "q", "answers": []},
        {"id": 4, "question": "q"},
    ]
    document = {"data": [{"paragraphs": [{"context": "a b", "qas": questions}]}]}
    assert is_squad_document(document)
    assert not is_squad_document({"data": [{"question": "q"}]})
    rows = flatten_squad(document)
    assert [entry["id"] for entry in rows] == ["1", "2", "3", "4"]
    assert [entry["answers"] and entry["answers"]["text"] for entry in rows] == [["b"], [], [], None]
    with pytest.raises(InputError, match="question 1: expected 'id', got only 'question'"):
        flatten_squad({"data": [{"paragraphs": [{"context": "a b", "qas": [{"question": "q"}]}]}]})


def test_questions_in_flat_rows_that_are_impossible_have_no_answers() -> None:
    qa, good = task(), row("ok", "a b", "q", ["b"])
    for values in (
        [True, False, None], ["True", "false", ""], [1, 0, None], [1.0, 0.0, None], ["1", "0", ""],
    ):  # fmt: skip
        rows = rows_of(qa, [{**good, "id": str(value), "is_impossible": value} for value in values])
        assert [answers["text"] for answers in rows["answers"]] == [[], ["b"], ["b"]]
    pairs = [{"context": "a b", "question": "q", "answer_text": "b", "answer_start": 2, "is_impossible": True}]
    assert rows_of(qa, pairs)["answers"] == [{"text": [], "answer_start": []}]


@pytest.mark.parametrize("value", ["yes", 2, 0.5, "1.0"])
def test_what_is_neither_true_nor_false_does_not_say_whether_a_question_is_impossible(value: Any) -> None:
    good = row("ok", "a b", "q", ["b"])
    said = f"expected true or false (or 1 or 0) in column 'is_impossible', got {value!r} in 1 row (1;"
    with pytest.raises(InputError, match=re.escape(said)):
        rows_of(task(), [{**good, "is_impossible": value}])
    document = {"data": [{"paragraphs": [{"context": "a b", "qas": [{"question": "q", "id": 1, "answers": []}]}]}]}
    document["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = "false"
    with pytest.raises(InputError, match="question 1: expected true or false as 'is_impossible', got 'false'; fix it"):
        flatten_squad(document)


@pytest.mark.parametrize(
    "answers",
    [
        {"text": [""], "answer_start": [0]},
        {"text": "", "answer_start": -1},
        {"text": ["", ""], "answer_start": [-1, None]},
        [{"text": "", "answer_start": 0}],
        json.dumps({"text": [""], "answer_start": [0]}),
        {"text": [], "answer_start": []},
    ],
)
def test_an_empty_text_is_no_answer_in_any_form(answers: Any) -> None:
    qa, good = task(), row("none", "a b", "q", [])
    rows = rows_of(qa, [{**good, "answers": answers}])
    assert rows["answers"] == [{"text": [], "answer_start": []}]
    assert not [*qa.problems(rows, "validation")]


def test_empty_texts_are_no_answers_in_rows_that_have_the_usual_form_already() -> None:
    qa = task()
    answers = [{"text": ["", "b"], "answer_start": [0, 2]}, {"text": [""], "answer_start": [0]}]
    rows = [{**row(str(number), "a b", "q", []), "answers": answer} for number, answer in enumerate(answers)]
    found = qa.normalise(Dataset.from_list(rows).select_columns(list(ROW_FEATURES)).cast(ROW_FEATURES), "validation")
    assert found["answers"] == [{"text": ["b"], "answer_start": [2]}, {"text": [], "answer_start": []}]


def test_a_blank_is_an_answer_that_no_token_holds() -> None:
    qa = task()
    rows = rows_of(qa, [{**row("blank", "a b", "q", []), "answers": {"text": [" "], "answer_start": [1]}}])
    (problem,) = qa.problems(rows, "validation")
    assert "expected each answer in its context at answer_start" in problem


# --- windows and batches --------------------------------------------------------------------------------------


def test_gold_logits_give_the_gold_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    qa = task(max_seq_length=64, doc_stride=16)
    rows = rows_of(qa, [row(*entry) for entry in ROWS])
    features = qa.encode(rows, tokenizer)
    assert len(features) > len(rows)
    predictions = qa.decode(gold_logits(features, np.random.default_rng(0)), Split(rows, features))
    scores = qa.score(predictions, rows)
    assert scores["exact_match"] == scores["f1"] == scores["HasAns_f1"] == scores["NoAns_f1"] == 100.0
    assert predictions.answers["none"] == ""
    assert predictions.null_odds["none"] > 0 > predictions.null_odds["first"]


def test_windows_cover_the_context_overlap_and_keep_to_the_length(tokenizer: PreTrainedTokenizerFast) -> None:
    qa = task(max_seq_length=64, doc_stride=16)
    rows = rows_of(qa, [row(*ROWS[0]), row(*ROWS[3])])
    features = qa.encode(rows, tokenizer)
    assert max(features["length"]) <= 64
    assert ("token_type_ids" in features.column_names) == ("token_type_ids" in tokenizer.model_input_names)
    for number, entry in enumerate(rows):
        windows = [feature for feature in features if feature["example_index"] == number]
        seen: set[tuple[int, int]] = set()
        for feature in windows:
            spans = list(zip(feature["offset_start"], feature["offset_end"], strict=True))
            context = [span for span in spans if span[0] >= 0]
            assert len(spans) == feature["length"] == len(feature["input_ids"]) == len(feature["attention_mask"])
            # Question and special tokens have no place in the context.
            assert len(context) < len(spans)
            assert not seen or len(seen.intersection(context)) >= 16 - 4  # equal offsets: bytes of one character
            seen |= set(context)
        characters = {place for start, end in seen for place in range(start, end)}
        missed = "".join(letter for place, letter in enumerate(entry["context"]) if place not in characters)
        assert missed.strip(" \u200b") == ""


def test_an_answer_that_a_window_cuts_is_no_answer_there(bert: PreTrainedTokenizerFast) -> None:
    qa = task(max_seq_length=24, doc_stride=4)
    context = " ".join(["Paris"] * 10 + ["Le Havre"] * 2 + ["Paris"] * 20)
    answer = " ".join(["Le Havre"] * 2)
    rows = rows_of(qa, [row("x", context, "Where?", [answer])])
    features = qa.encode(rows, bert)
    held = []
    for feature in features:
        start, end = feature["start_positions"], feature["end_positions"]
        text = context[feature["offset_start"][start] : feature["offset_end"][end]] if start else ""
        places = [place for place in feature["offset_start"] if place >= 0]
        whole = min(places) <= context.index(answer) and max(feature["offset_end"]) >= context.index(answer) + len(
            answer
        )
        assert (text == answer) == whole
        assert whole or (start, end) == (feature["cls_index"], feature["cls_index"])
        held.append(whole)
    assert any(held)
    assert not all(held)


def test_tokens_that_take_the_space_before_their_word_along_are_found_and_cut() -> None:
    qa = task(max_seq_length=64)
    rows = rows_of(qa, [row("x", LONG + "Finally, a river again.", "What?", ["river"])])
    for make in (roberta_like, deberta_like):
        features = qa.encode(rows, make())
        held = [feature for feature in features if feature["start_positions"] != feature["cls_index"]]
        start = held[0]["offset_start"][held[0]["start_positions"]]
        assert rows["context"][0][start : start + 6] == " river"
        predictions = qa.decode(gold_logits(features, np.random.default_rng(0)), Split(rows, features))
        assert predictions.answers["x"] == "river"


def test_spaces_and_dropped_characters_at_the_edge_of_an_answer_do_not_move_it() -> None:
    qa = task(max_seq_length=64)
    for make, context, answer in (
        (roberta_like, "The  river ends", "  river "),
        (bert_like, "\u200bParis, then Rouen", "\u200bParis"),
    ):
        (feature,) = qa.encode(rows_of(qa, [row("x", context, "What?", [answer])]), make())
        start, end = feature["start_positions"], feature["end_positions"]
        text = context[feature["offset_start"][start] : feature["offset_end"][end]]
        assert text.removeprefix(" ") == answer.strip("\u200b ")


def test_spaces_before_a_question_do_not_count() -> None:
    qa, tokenizer = task(max_seq_length=64), roberta_like()
    (plain,), (spaced,) = (
        qa.encode(rows_of(qa, [row("x", "The river ends", question, ["river"])]), tokenizer).to_list()
        for question in ("What ends?", " \n  What ends?")
    )
    assert plain == spaced


def test_no_answer_is_at_the_cls_token_wherever_it_stands() -> None:
    qa = task(max_seq_length=64)
    rows = rows_of(qa, [row("x", "Zürich lies in Switzerland", "Who won?", [])])
    for make, place in ((cls_last, -1), (deberta_like, 0), (gpt_like, 0)):
        (feature,) = qa.encode(rows, make())
        expected = place % feature["length"]
        assert (feature["start_positions"], feature["end_positions"], feature["cls_index"]) == (expected,) * 3


def test_a_question_that_leaves_no_room_is_refused(bert: PreTrainedTokenizerFast) -> None:
    qa = task(max_seq_length=24, doc_stride=10)
    # 24 - 3 special tokens - 10 shared ones: 10 tokens of a question leave one new token a window, 11 leave none.
    fits = row("fits", LONG, " ".join(["river"] * 10), [])
    assert len(qa.encode(rows_of(qa, [fits]), bert)) > 2
    too_long = row("long", LONG, " ".join(["river"] * 11), [])
    with pytest.raises(
        InputError, match=r"got none for 1 question \(first: 'long'\): of 24 tokens, doc_stride takes 10"
    ):
        qa.encode(rows_of(qa, [fits, too_long]), bert)


def test_a_slow_tokenizer_is_refused() -> None:
    qa = task()
    with pytest.raises(InputError, match="tokenizer slow: expected a fast tokenizer"):
        qa.encode(rows_of(qa, [row(*ROWS[0])]), SimpleNamespace(is_fast=False, name_or_path="slow"))


def test_encoding_twice_is_found_in_the_cache(bert: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    qa = task()
    rows_of(qa, [row(*entry) for entry in ROWS]).save_to_disk(tmp_path / "rows")
    rows = datasets.load_from_disk(tmp_path / "rows")
    files = [qa.encode(rows, bert).cache_files for _ in range(3)]
    assert files[0]
    assert files[0] == files[1] == files[2]


def test_a_batch_is_padded_on_the_right_and_holds_what_the_model_takes(bert: PreTrainedTokenizerFast) -> None:
    qa = task()
    features = qa.encode(rows_of(qa, [row(*entry) for entry in ROWS[2:4]]), bert)
    short, long = features[len(features) - 1], features[0]
    batch = qa.collate([short, long], bert)
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions"}
    assert batch["input_ids"].shape == (2, 32)
    assert all(tensor.dtype == torch.long for tensor in batch.values())
    assert batch["attention_mask"].sum(dim=1).tolist() == [short["length"], long["length"]]
    assert batch["input_ids"][0].tolist() == short["input_ids"] + [bert.pad_token_id] * (32 - short["length"])
    assert batch["start_positions"].tolist() == [short["start_positions"], long["start_positions"]]
    assert qa.collate([short], bert)["input_ids"].shape[1] % 8 == 0
    # Never wider than the windows: a model may have positions for no more.
    narrow = {**short, **dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), [1] * 30)}
    assert task(max_seq_length=30).collate([narrow], bert)["input_ids"].shape == (1, 30)


# --- mathematics ----------------------------------------------------------------------------------------------


def test_logits_loss_and_kl_look_at_start_and_end_and_not_at_padding() -> None:
    qa = task()
    generator = torch.Generator().manual_seed(0)
    outputs = SimpleNamespace(
        start_logits=torch.randn(3, 6, generator=generator), end_logits=torch.randn(3, 6, generator=generator)
    )
    logits = qa.logits(outputs)
    assert logits.shape == (3, 6, 2)
    assert torch.equal(logits[..., 1], outputs.end_logits)
    batch = {
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]] * 3),
        "start_positions": torch.tensor([0, 1, 2]),
        "end_positions": torch.tensor([0, 3, 2]),
    }
    other = logits.clone()
    other[:, 4:] = 50.0
    assert torch.equal(qa.loss(logits, batch), qa.loss(other, batch))
    assert qa.match(other, logits, batch, 2.0, None).item() == pytest.approx(0.0, abs=1e-7)
    expected = torch.nn.functional.cross_entropy(logits[:, :4, 0], batch["start_positions"])
    expected = (expected + torch.nn.functional.cross_entropy(logits[:, :4, 1], batch["end_positions"])) / 2
    assert torch.allclose(qa.loss(logits, batch), expected)
    assert torch.allclose(qa.loss(logits, batch, torch.tensor(6.0)), expected / 2)


def test_the_filter_head_gives_two_logits_a_token() -> None:
    head = task().filter_head(512, SimpleNamespace(config=BertConfig(initializer_range=0.5)))
    assert head(torch.zeros(2, 5, 512)).tolist() == torch.zeros(2, 5, 2).tolist()
    assert head.weight.std().item() == pytest.approx(0.5, rel=0.1)
    assert task().filter_head(512, SimpleNamespace(config=SimpleNamespace())).weight.std().item() == pytest.approx(
        0.02, rel=0.1
    )
    assert task().num_labels == 2


# --- answers --------------------------------------------------------------------------------------------------


def brute_force(start: np.ndarray, end: np.ndarray, candidates: np.ndarray, n_best: int, longest: int) -> list[tuple]:
    places = [int(place) for place in np.flatnonzero(candidates)]
    starts = sorted(places, key=lambda place: -start[place])[:n_best]
    ends = sorted(places, key=lambda place: -end[place])[:n_best]
    pairs = [(first, last) for first, last in product(starts, ends) if first <= last < first + longest]
    return sorted(pairs, key=lambda pair: -(start[pair[0]] + end[pair[1]]))[:n_best]


@pytest.mark.parametrize(("n_best", "longest"), [(1, 3), (3, 4), (5, 1), (20, 30)])
def test_the_search_over_all_windows_finds_what_a_loop_over_pairs_finds(n_best: int, longest: int) -> None:
    generator = np.random.default_rng(n_best)
    start, end = generator.normal(size=(2, 40, 17))
    candidates = generator.random((40, 17)) < 0.7
    candidates[7] = False
    spans = best_spans(start, end, candidates, n_best, longest)
    assert np.allclose(spans.start_logit, start[spans.window, spans.start])
    assert np.allclose(spans.end_logit, end[spans.window, spans.end])
    for window in range(40):
        mine = spans.window == window
        found = list(zip(spans.start[mine].tolist(), spans.end[mine].tolist(), strict=True))
        assert found == brute_force(start[window], end[window], candidates[window], n_best, longest)


def test_the_first_of_equal_spans_wins_whatever_the_padding() -> None:
    for width in (4, 40):
        candidates = np.arange(width)[None] < 4
        spans = best_spans(np.zeros((1, width)), np.zeros((1, width)), candidates, 4, 2)
        assert list(zip(spans.start.tolist(), spans.end.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 1), (1, 2)]


def decoded(qa: QuestionAnswering, bert: PreTrainedTokenizerFast, seed: int = 0) -> tuple[SpanPredictions, Split, list]:
    rows = rows_of(qa, [row(*entry) for entry in ROWS])
    features = qa.encode(rows, bert)
    generator = np.random.default_rng(seed)
    logits = [generator.normal(size=(length + 3, 2)).astype(np.float32) for length in features["length"]]
    return qa.decode(logits, Split(rows, features)), Split(rows, features), logits


def test_answers_null_odds_and_n_best_of_all_windows_of_a_question(bert: PreTrainedTokenizerFast) -> None:
    qa = task(n_best_size=6, max_answer_length=4)
    predictions, split, logits = decoded(qa, bert)
    for number, entry in enumerate(split.rows):
        best: dict[str, float] = {}
        null = np.inf
        for feature, window in zip(split.features, logits, strict=True):
            if feature["example_index"] != number:
                continue
            start, end = window.astype(np.float64).T
            null = min(null, start[feature["cls_index"]] + end[feature["cls_index"]])
            context = np.array(feature["offset_start"]) >= 0
            for first, last in brute_force(start[: len(context)], end[: len(context)], context, 6, 4):
                text = entry["context"][feature["offset_start"][first] : feature["offset_end"][last]]
                best[text] = max(best.get(text, -np.inf), start[first] + end[last])
        ranked = sorted(best, key=lambda text: -best[text])[:6]
        odds = null - best[ranked[0]]
        assert predictions.null_odds[entry["id"]] == pytest.approx(odds)
        assert predictions.answers[entry["id"]] == ("" if odds > 0 else ranked[0])
        n_best = predictions.n_best[entry["id"]]
        assert [answer["text"] for answer in n_best if answer["text"]] == ranked
        assert sum(answer["text"] == "" for answer in n_best) == 1
        probabilities = np.array([answer["probability"] for answer in n_best])
        assert probabilities.sum() == pytest.approx(1.0)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        scores = np.array([answer["start_logit"] + answer["end_logit"] for answer in n_best])
        assert np.allclose(np.log(probabilities[0] / probabilities), scores[0] - scores)


def test_a_text_that_comes_several_times_is_one_answer_with_its_best_score(bert: PreTrainedTokenizerFast) -> None:
    qa = task(max_answer_length=1)
    rows = rows_of(qa, [row("x", "Paris, Paris, Paris", "Where?", [])])
    features = qa.encode(rows, bert)
    start = np.arange(features["length"][0], dtype=np.float32)
    n_best = qa.decode([np.stack([start, start], axis=1)], Split(rows, features)).n_best["x"]
    last = max(place for place, text in enumerate(features["offset_start"][0]) if text >= 0)
    assert [(answer["text"], answer["start_logit"]) for answer in n_best] == [("Paris", last), (",", last - 1), ("", 0)]


def test_the_threshold_decides_between_an_answer_and_none(bert: PreTrainedTokenizerFast) -> None:
    silent = decoded(task(null_score_diff_threshold=-1000.0), bert)[0]
    assert set(silent.answers.values()) == {""}
    bold = decoded(task(null_score_diff_threshold=1000.0), bert)[0]
    assert "" not in bold.answers.values()
    squad = decoded(task(task="squad", version_2_with_negative=False), bert)[0]
    assert squad.answers == bold.answers
    assert squad.null_odds == {}
    assert not any(answer["text"] == "" for n_best in squad.n_best.values() for answer in n_best)


def test_memory_is_bounded_by_chunks_and_they_change_nothing(
    bert: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = decoded(task(), bert)[0]
    monkeypatch.setattr("ted_distill.tasks.squad.span_search._CHUNK_ELEMENTS", 1)
    assert decoded(task(), bert)[0] == together


def test_logits_that_do_not_fit_the_windows_are_refused(bert: PreTrainedTokenizerFast) -> None:
    qa = task()
    _, split, logits = decoded(qa, bert)
    with pytest.raises(
        ValueError, match=f"expected one array of logits per window, got {len(logits) - 1} for {len(logits)} windows"
    ):
        qa.decode(logits[:-1], split)
    with pytest.raises(ValueError, match=r"expected logits \(32 or more, 2\) for window 0, got \(8, 2\)"):
        qa.decode([logits[0][:8], *logits[1:]], split)


# --- scores and files -----------------------------------------------------------------------------------------


def test_written_predictions_are_read_back_with_their_scores(bert: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    qa = task()
    predictions, split, _ = decoded(qa, bert)
    qa.write_predictions(predictions, split, tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8")) == predictions.answers
    assert json.loads((tmp_path / "nbest_predictions.json").read_text(encoding="utf-8")) == predictions.n_best
    read = qa.read_predictions(tmp_path / "predictions.json")
    assert qa.score(read, split.rows) == qa.score(predictions, split.rows)
    assert "best_f1_thresh" in qa.score(read, split.rows)
    (tmp_path / "other.json.gz").write_bytes(gzip.compress(json.dumps(predictions.answers).encode()))
    assert qa.read_predictions(tmp_path / "other.json.gz") == SpanPredictions(predictions.answers)


def test_squad_1_has_no_scores_of_unanswerable_questions(bert: PreTrainedTokenizerFast) -> None:
    qa = task(task="squad")
    rows = rows_of(qa, [row(*ROWS[0]), row(*ROWS[3])])
    scores = qa.score(SpanPredictions({"river": "Seine", "short": "", "extra": "x"}), rows)
    assert scores == {"exact_match": 50.0, "f1": 50.0, "total": 2.0}


def test_questions_without_prediction_are_refused() -> None:
    qa = task()
    rows = rows_of(qa, [row(*entry) for entry in ROWS])
    with pytest.raises(
        InputError, match=r"one for each of 5 questions, got none for 4 questions \(first: 'cafe', 'none', 'short'\)"
    ):
        qa.score(SpanPredictions({"river": "Seine"}), rows)


def test_files_that_hold_no_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a JSON file, got an unreadable one"):
        task().read_predictions(tmp_path / "absent.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="expected answers by question id"):
        task().read_predictions(tmp_path / "list.json")


def test_agreement_compares_two_models_and_not_the_labels() -> None:
    mine = SpanPredictions({"a": "The cat", "b": "black cat", "c": ""})
    teacher = SpanPredictions({"a": "cat!", "b": "cat", "c": "dog", "d": "x"})
    agreement = task().agreement(mine, teacher)
    assert agreement == {
        "agreement_exact": pytest.approx(100 / 3),
        "agreement_f1": pytest.approx(100 * (1 + 2 / 3) / 3),
    }
    with pytest.raises(
        InputError, match="the teacher's predictions: expected one for each of 4 questions, got none for 1 question"
    ):
        task().agreement(teacher, mine)
