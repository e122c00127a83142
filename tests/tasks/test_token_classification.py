"""Tags of words: which token stands for a word, which tokens count, how entities are scored, and what is refused."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOBES
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerFast

from ted_distill import InputError, StageArguments, finetune, load_task
from ted_distill.cli.main import main
from ted_distill.models.load import load_model
from ted_distill.tasks import Split, TaskArguments, TokenClassification
from ted_distill.tasks.resampling import Draws
from tiny import DECODERS, FAMILIES, save_tiny, tiny_tokenizer, usual_first, write_entities

GOOD = {"tokens": ["a", "b"], "ner_tags": ["B-x", "O"]}
NAMES = ["O", "B-person", "I-person", "B-thing", "I-thing"]


def task_of(rows: list[dict[str, Any]], folder: Path, features: Features | None = None, **arguments: Any) -> Any:
    """A task whose training and validation rows are these."""
    file = folder / f"rows{len(list(folder.iterdir()))}.parquet"
    Dataset.from_list(rows, features=features).to_parquet(file)
    name = arguments.pop("task", "token_classification")
    return load_task(TaskArguments(name, validation_file=str(file), **arguments))


def declared(names: list[str]) -> Features:
    return Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """As GPT-2's: a blank belongs to the token after it, and rare words are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    texts = ["the film was good and the book was very bad"] * 4
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="!", model_max_length=64)


# --- which token stands for a word ----------------------------------------------------------------------------


def test_the_first_token_of_a_word_has_its_tag(tmp_path: Path) -> None:
    rows = [{"tokens": ["Ada", "wrote", "not,good", "."], "ner_tags": [1, 0, 3, 0]}, {"tokens": ["x"], "ner_tags": [2]}]
    task = task_of(rows, tmp_path, declared(NAMES))
    tokenizer = tiny_tokenizer()
    features = task.encode(task.rows["validation"], tokenizer)
    for row, feature in zip(rows, features, strict=True):
        # The tokenizer's own account of words that were split before.
        encoded = tokenizer(row["tokens"], is_split_into_words=True)
        expected, seen = [], set()
        for word in encoded.word_ids():
            expected.append(-100 if word is None or word in seen else row["ner_tags"][word])
            seen.add(word)
        assert feature["input_ids"] == encoded["input_ids"]
        assert feature["labels"] == expected
    assert features[0]["first_tokens"] == [1, 2, 3, 6]


def test_words_are_found_with_tokenizers_that_mark_blanks(tmp_path: Path) -> None:
    words = ["the", "zebra", "was", "very", "zany"]
    task = task_of([{"tokens": words, "ner_tags": [0, 1, 0, 0, 3]}], tmp_path, declared(NAMES))
    tokenizer = byte_level_tokenizer()
    feature = task.encode(task.rows["validation"], tokenizer)[0]
    pieces = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    assert len(pieces) > len(words)
    assert [pieces[place].lstrip("Ġ")[0] for place in feature["first_tokens"]] == [word[0] for word in words]
    # As in running text, and not as words that stand alone.
    assert feature["input_ids"] == tokenizer(" ".join(words))["input_ids"]


def test_a_word_without_a_token_shifts_no_label(tmp_path: Path) -> None:
    words = ["the", "\u200b", " ", "film"]
    task = task_of([{"tokens": words[:1], "ner_tags": [0]}], tmp_path, declared(NAMES))
    tokenizer = tiny_tokenizer()
    # Blank words are refused in files; other tokenizers drop characters that are not blank.
    feature = task.encode(Dataset.from_dict({"tokens": [words], "tags": [[0, 3, 0, 1]]}), tokenizer)[0]
    places = feature["first_tokens"]
    assert places[2] == -1
    assert tokenizer.convert_ids_to_tokens(feature["input_ids"])[places[3]] == "film"
    assert feature["labels"][places[3]] == 1


def test_words_cut_off_are_scored_as_not_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"tokens": ["Ada", "wrote"] * 5, "ner_tags": [1, 0] * 5}]
    task = task_of(rows, tmp_path, declared(NAMES), max_seq_length=6)
    features = task.encode(task.rows["validation"], tiny_tokenizer())
    assert "expected a token for every word within 6 tokens, got none for 6 of 10 words" in caplog.text
    perfect = np.eye(5)[[0, 1, 0, 1, 0, 0]]  # [CLS] Ada wrote Ada wrote [SEP]
    predictions = task.decode([perfect], Split(task.rows["validation"], features))
    assert predictions == [["B-person", "O"] * 2 + ["O"] * 6]
    assert task.score(predictions, task.rows["validation"])["recall"] == pytest.approx(40.0)


# --- mathematics ------------------------------------------------------------------------------------------------


def batch_of(task: Any, width: int | None = None) -> dict[str, torch.Tensor]:
    tokenizer = tiny_tokenizer()
    batch = task.collate(list(task.encode(task.rows["validation"], tokenizer)), tokenizer)
    if width:
        fills = {"labels": -100}
        batch = {name: F.pad(t, (0, width - t.shape[1]), value=fills.get(name, 0)) for name, t in batch.items()}
    return batch


def test_loss_and_kl_are_over_labelled_tokens_alone(tmp_path: Path) -> None:
    task = load_task(TaskArguments("token_classification", validation_file=str(write_entities(tmp_path, 6))))
    batch = batch_of(task)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(*batch["labels"].shape, 4, generator=generator) for _ in range(2))
    labelled = batch["labels"] != -100
    assert labelled.sum() < batch["attention_mask"].sum()
    expected = F.cross_entropy(student.transpose(1, 2), batch["labels"], ignore_index=-100)
    assert torch.allclose(task.loss(student, batch), expected)
    own, theirs = ((z[labelled] / 2).log_softmax(-1) for z in (student, teacher))
    expected = 4 * (theirs.exp() * (theirs - own)).sum(-1).mean()
    assert torch.allclose(task.match(student, teacher, batch, 2.0, None), expected)
    counts = task.counts(batch)
    assert counts.labels == counts.predictions == labelled.sum()
    assert counts.tokens == batch["attention_mask"].sum()


def test_padding_changes_neither_loss_nor_counts(tmp_path: Path) -> None:
    task = load_task(TaskArguments("token_classification", validation_file=str(write_entities(tmp_path, 6))))
    short, long = batch_of(task), batch_of(task, 40)
    z = torch.randn(6, 40, 4, generator=torch.Generator().manual_seed(1))
    cut = z[:, : short["labels"].shape[1]]
    assert torch.allclose(task.loss(cut, short), task.loss(z, long))
    assert torch.allclose(task.match(cut, cut.flip(-1), short, 2.0, None), task.match(z, z.flip(-1), long, 2.0, None))
    assert all(a == b for a, b in zip(task.counts(short), task.counts(long), strict=True))


def test_two_halves_of_a_batch_add_up_to_the_whole(tmp_path: Path) -> None:
    task = load_task(TaskArguments("token_classification", validation_file=str(write_entities(tmp_path, 6))))
    batch = batch_of(task)
    z = torch.randn(*batch["labels"].shape, 4, generator=torch.Generator().manual_seed(2))
    count = task.counts(batch).labels
    halves = [({name: t[rows] for name, t in batch.items()}, z[rows]) for rows in (slice(0, 2), slice(2, 6))]
    assert torch.allclose(sum(task.loss(logits, half, count) for half, logits in halves), task.loss(z, batch))


# --- scores -----------------------------------------------------------------------------------------------------


def test_an_entity_counts_only_as_a_whole(tmp_path: Path) -> None:
    gold = ["B-person", "I-person", "O", "B-thing", "O", "B-person"]
    said = ["B-person", "O", "O", "B-thing", "O", "B-thing"]
    rows = [{"tokens": list("abcdef"), "ner_tags": gold}]
    task = task_of(rows, tmp_path)
    scores = task.score([said], task.rows["validation"])
    # Three entities, three predicted, one of them right; four of six words right.
    assert scores == {name: pytest.approx(100 / 3) for name in ("f1", "precision", "recall")} | {
        "accuracy": pytest.approx(100 * 4 / 6)
    }
    report = classification_report([gold], [said], output_dict=True, zero_division=0)
    assert scores["f1"] == pytest.approx(100 * report["micro avg"]["f1-score"])
    assert task.metric == "f1"


@pytest.mark.parametrize("outside", ["_", "*", "-", "NONE", "0", "o", "-X-"])
def test_whatever_is_no_part_of_an_entity_is_outside(tmp_path: Path, outside: str) -> None:
    tags = ["B-PER", outside, outside, "B-LOC"]
    task = task_of([{"tokens": ["a", "b", "c", "d"], "ner_tags": tags}], tmp_path)
    rows = task.rows["validation"]
    assert task.score([["B-LOC", outside, outside, "B-PER"]], rows)["f1"] == 0
    # No tag at all: a word that was cut off.
    assert task.score([["B-PER", outside, "", ""]], rows)["f1"] == pytest.approx(200 / 3)
    drawn = task.sampled_score([["B-PER", outside, "", ""]], rows, Draws(1, 3, seed=0))
    assert drawn == pytest.approx([200 / 3] * 3)


def test_entities_marked_by_their_last_words_and_single_ones_are_as_many_as_there_are(tmp_path: Path) -> None:
    gold = ["B-PER", "L-PER", "B-LOC", "L-LOC", "O", "U-PER", "U-PER", "O", "U-LOC"]
    task = task_of([{"tokens": list("abcdefghi"), "ner_tags": gold}], tmp_path)
    found = ["B-PER", "L-PER", "O", "O", "O", "U-PER", "O", "O", "O"]
    scores = task.score([found], task.rows["validation"])
    assert scores["precision"] == 100
    assert scores["recall"] == pytest.approx(100 * 2 / 5)


NOTATIONS = {"BIOES": "-BIES", "BMES": "-BMES", "BILOU": "-BILU", "BMES with _": "_BMES", "BMEWO": "-BMEW"}
"""Between part and kind; then the first, middle, last and only word of an entity."""


def random_entity(rng: np.random.Generator, notation: str) -> list[str]:
    """Four words, up to four of which are one entity."""
    between, first, middle, last, only = NOTATIONS[notation]
    kind, length = rng.choice(["PER", "LOC"]), int(rng.integers(0, 5))
    letters = [only] if length == 1 else [first, *middle * (length - 2), last] if length else []
    return [f"{letter}{between}{kind}" for letter in letters] + ["O"] * (4 - length)


@pytest.mark.parametrize("notation", NOTATIONS)
def test_entities_are_the_same_in_every_notation(tmp_path: Path, notation: str) -> None:
    rng = np.random.default_rng(0)
    parts = [[random_entity(rng, notation) for _ in range(6)] for _ in range(20)]
    others = [[part if rng.random() < 0.5 else random_entity(rng, notation) for part in row] for row in parts]
    gold, said = ([[*chain(*row)] for row in rows] for rows in (parts, others))
    task = task_of([{"tokens": ["a"] * len(row), "ner_tags": row} for row in gold], tmp_path)
    scores = task.score(said, task.rows["validation"])
    letters = str.maketrans(NOTATIONS[notation], NOTATIONS["BIOES"])
    plain = [[[tag[:2].translate(letters) + tag[2:] for tag in row] for row in rows] for rows in (gold, said)]
    assert task.metric == "f1"
    assert scores["f1"] == pytest.approx(100 * f1_score(*plain, mode="strict", scheme=IOBES))
    assert 30 < scores["f1"] < 80


@pytest.mark.parametrize("tags", [["PER-B", "PER-I"], ["b-PER", "i-PER"], ["B:PER", "I:PER"], ["PER_B", "LOC_S"]])
def test_tags_of_entities_that_no_scorer_reads_are_refused(tmp_path: Path, tags: list[str]) -> None:
    rows = [{"tokens": ["a", "b", "c"], "ner_tags": ["O", *tags]}]
    with pytest.raises(InputError, match=f"expected tags such as B-PER, got '{sorted(tags)[0]}'.*; rename them"):
        _ = task_of(rows, tmp_path).rows


@pytest.mark.parametrize(
    ("tags", "odd"),
    [
        (["o", "b-per", "i-per"], "'b-per', 'i-per'"),
        (["0", "PER-B", "PER-I"], "'PER-B', 'PER-I'"),
        (["O", "B-PER", "i-per", "PER-I"], "'PER-I', 'i-per'"),
        (["B-PER", "O", "H-PER", "PER-W"], "'H-PER', 'PER-W'"),
        (["E-MAIL", "O"], "'E-MAIL'"),
    ],
)
def test_other_notations_are_refused_whatever_is_outside_and_beside_parts_that_are_read(
    tmp_path: Path, tags: list[str], odd: str
) -> None:
    with pytest.raises(InputError, match=f"expected tags such as B-PER, got {odd}; rename them"):
        _ = task_of([{"tokens": list("abcd")[: len(tags)], "ner_tags": tags}], tmp_path).rows


def test_numbers_without_names_are_said_to_be_no_entities(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"tokens": ["a", "b"], "ner_tags": [1, 0]}]
    assert task_of(rows, tmp_path, declared(["O", "B-x"])).score_names[0] == "f1"
    assert "expected names of tags" not in caplog.text
    assert task_of(rows, tmp_path).score_names == ("accuracy",)
    assert (
        caplog.text.count("expected names of tags, such as B-PER, got the numbers 0, 1; words are scored one by") == 1
    )


@pytest.mark.parametrize("is_declared", [False, True])
def test_kinds_of_entities_without_parts_are_said_to_be_scored_by_words(
    tmp_path: Path, is_declared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The IO scheme, as Few-NERD has it."""
    names = ["O", "LOC", "PER"]
    rows = [{"tokens": list("abcd"), "ner_tags": [2, 0, 0, 0]}, {"tokens": list("abcd"), "ner_tags": [0, 1, 1, 0]}]
    if not is_declared:
        rows = [{**row, "ner_tags": [names[tag] for tag in row["ner_tags"]]} for row in rows]
    task = task_of(rows, tmp_path, declared(names) if is_declared else None)
    assert task.metric == "accuracy"
    assert "O for every word has an accuracy of 62 %" in caplog.text
    assert "write I-LOC for LOC, and so on: whole entities are scored then" in caplog.text


def test_kinds_of_entities_written_as_parts_are_scored_as_entities(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gold = ["I-PER", "I-PER", "O", "O", "I-LOC"]
    task = task_of([{"tokens": list("abcde"), "ner_tags": gold}], tmp_path)
    assert task.metric == "f1"
    said = ["I-PER", "O", "O", "O", "I-LOC"]
    assert task.score([said], task.rows["validation"])["f1"] == pytest.approx(50.0), "one of two, and one of two said"
    assert "scored one by one" not in caplog.text


@pytest.mark.parametrize("tags", [["NOUN", "VERB", "NOUN"], ["O", "NOUN", "VERB"], ["B-x", "O", "O"], ["B", "O", "O"]])
def test_other_tags_are_not_said_to_be_scored_by_words(
    tmp_path: Path, tags: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    _ = task_of([{"tokens": ["a", "b", "c"], "ner_tags": tags}], tmp_path).rows
    assert "scored one by one" not in caplog.text


def test_parts_of_entities_of_one_kind_need_no_kind(tmp_path: Path) -> None:
    """As in data of key phrases: B, I and O."""
    gold, said = ["B", "I", "O", "B", "O"], ["B", "O", "O", "B", "O"]
    task = task_of([{"tokens": list("abcde"), "ner_tags": gold}], tmp_path)
    assert task.metric == "f1"
    assert task.score([said], task.rows["validation"])["f1"] == pytest.approx(50.0), "one of two, and one of two said"


@pytest.mark.parametrize(
    "tags",
    [
        ["S_PRO", "V", "I_X"], ["O", "person", "location"], ["O", "N", "V", "S", "L"],
        ["O", "NAME", "PHONE", "E-MAIL"], ["O", "NAME", "E_MAIL", "U_S_STATE"], ["NOUN", "VERB", "E-MAIL"],
    ],
)  # fmt: skip
def test_tags_that_only_look_a_little_like_entities_are_kinds_of_words(tmp_path: Path, tags: list[str]) -> None:
    assert task_of([{"tokens": list("abcde")[: len(tags)], "ner_tags": tags}], tmp_path).metric == "accuracy"


def test_numbers_for_tags_mean_the_same_in_every_split() -> None:
    def tags(train: list[int], validation: list[int]) -> list[list[int]]:
        rows = {"train": train, "validation": validation}
        given = {
            name: Dataset.from_list([{"tokens": ["a", "b", "c"], "tags": of_row}] * 2) for name, of_row in rows.items()
        }
        return load_task("token_classification", **given).rows["validation"]["tags"][:]

    assert tags([1, 2, 3], [3, 2, 1]) == [[2, 1, 0]] * 2
    with pytest.raises(InputError, match="expected the tags 0, 1, 3, got '2'"):
        tags([0, 1, 3], [0, 2, 3])


NAMED = {"tokens": ["a", "b", "c"], "tags": ["B-PER", "O", "B-LOC"]}


def numbered_after(features: Features | None, offered: list[str] | None = None) -> list[list[str]]:
    """The tags of a validation split in numbers, after a training split with these names."""
    rows = [{"tokens": ["a", "b", "c"], "tags": [1, 0, 2]}] * 2
    given = {"train": Dataset.from_list([NAMED] * 2, features=features), "validation": Dataset.from_list(rows)}
    task = load_task("token_classification", **given)
    if offered:
        task.offer_labels([offered])
    return [[task.label_names[tag] for tag in row] for row in task.rows["validation"]["tags"]]


def test_numbers_are_no_tags_where_the_order_of_the_names_was_not_declared() -> None:
    said = "validation: expected the tags O, B-LOC, B-PER, got '0' in 2 rows .*; name the tags, as numbers"
    with pytest.raises(InputError, match=said):
        numbered_after(None)


@pytest.mark.parametrize("names", [["O", "B-PER", "B-LOC"], ["B-LOC", "O", "B-PER"]])
def test_numbers_are_tags_in_the_order_that_training_rows_declare_or_a_model_has(names: list[str]) -> None:
    features = Features({"tokens": List(Value("string")), "tags": List(ClassLabel(names=names))})
    assert numbered_after(features) == [[names[1], names[0], names[2]]] * 2
    assert numbered_after(None, offered=names) == [[names[1], names[0], names[2]]] * 2
    assert numbered_after(None, offered=[*names, "B-MISC"]) == [[names[1], names[0], names[2]]] * 2


def test_tags_that_are_no_entities_are_scored_word_by_word(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b", "c"], "ner_tags": ["DET", "NOUN", "VERB"]}]
    task = task_of(rows, tmp_path)
    assert (task.metric, task.score_names) == ("accuracy", ("accuracy",))
    assert task.score([["DET", "DET", "VERB"]], task.rows["validation"]) == {"accuracy": pytest.approx(200 / 3)}


def test_agreement_takes_the_teacher_for_the_truth(tmp_path: Path) -> None:
    task = task_of([{"tokens": ["a", "b"], "ner_tags": ["B-x", "O"]}], tmp_path)
    assert task.agreement([["B-x", "O"]], [["B-x", "B-x"]]) == {
        "agreement": pytest.approx(50.0), "agreement_f1": pytest.approx(200 / 3)
    }  # fmt: skip


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    task = task_of([{"tokens": ["a", "b"], "ner_tags": ["B-x", "O"]}], tmp_path)
    task.write_predictions([["O", "B-x"]], Split(task.rows["validation"], task.rows["validation"]), tmp_path)
    assert task.read_predictions(tmp_path / "predictions.json") == [["O", "B-x"]]
    (tmp_path / "predictions.json").write_text('[["B-y"]]')
    with pytest.raises(InputError, match=r"expected the tags O, B-x, got 'B-y'"):
        task.read_predictions(tmp_path / "predictions.json")


# --- rows -------------------------------------------------------------------------------------------------------


def test_tags_in_words_are_ordered_with_o_first(tmp_path: Path) -> None:
    task = task_of([{"tokens": ["a", "b", "c"], "ner_tags": ["I-x", "B-x", "O"]}], tmp_path)
    assert task.label_names == ["O", "B-x", "I-x"]


def test_a_known_data_set_has_its_official_tags_for_numbers(tmp_path: Path) -> None:
    task = task_of([{"tokens": ["a", "b"], "ner_tags": [0, 8]}], tmp_path, task="conll2003")
    assert task.label_names == ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    assert isinstance(task, TokenClassification)
    assert task.hub_dataset() == ("eriktks/conll2003", None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"words": ["a"], "ner_tags": [1]}], "expected a column 'tokens', got columns words, ner_tags; name it"),
        ([{"tokens": ["a"], "x": [1]}], "expected a column 'ner_tags', got columns tokens, x"),
        ([{"tokens": "a b", "ner_tags": "O O"}], "expected a list of words, with one entry per word, in"),
        ([{"tokens": ["a", "b"], "ner_tags": ["O"]}, GOOD], "expected as many tags as words"),
        ([{"tokens": [], "ner_tags": []}, GOOD], "expected words, got none in 1 row (1; counted from 1)"),
        ([{"tokens": ["a", "b"], "ner_tags": ["O", None]}, GOOD], "expected a tag for each word, got none (or -100)"),
        ([{"tokens": ["a", "b"], "ner_tags": [1, -100]}], "expected a tag for each word, got none (or -100)"),
        ([{"tokens": ["a", " "], "ner_tags": ["O", "B-x"]}], "expected words, got blank ones in 1 row (1;"),
        ([{"tokens": ["a\0b"], "ner_tags": ["O"]}, GOOD], "expected words without NUL characters, got some in"),
        ([{"tokens": ["a"], "ner_tags": [0.5]}], "expected a list of tags, with one entry per word"),
        ([{"tokens": ["a"], "ner_tags": [float("inf")]}], "expected a list of tags, with one entry per word"),
        ([{"tokens": ["a", None], "ner_tags": ["O", "B-x"]}], "expected no missing words"),
        ([{"tokens": ["a"], "ner_tags": ["O"]}], "expected two or more tags, got O"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_learnt_are_refused(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(InputError) as error:
        _ = task_of(rows, tmp_path).rows
    assert said in str(error.value)


@pytest.mark.parametrize("sentence", ["Sentence #", "number"])
def test_a_word_a_row_is_refused_with_how_to_join_sentences(tmp_path: Path, sentence: str) -> None:
    rows = [{sentence: "", "Word": word, "Tag": tag} for word, tag in (("Ada", "B-per"), ("wrote", "O"))]
    how = r"with pandas: .*df\['Sentence #'\]" if "#" in sentence else r"no column says .* give a conll file \(a word"
    with pytest.raises(InputError, match=rf"got a word a row in column 'Word' and its tag in 'Tag'; {how}") as error:
        _ = task_of(rows, tmp_path, text_column="Word", label_column="Tag").rows
    assert ("pandas" in str(error.value)) == ("#" in sentence)


@pytest.mark.parametrize("named", [{}, {"label_column": "Tag"}])
def test_a_word_a_row_is_refused_as_such_before_its_columns_are_named(tmp_path: Path, named: dict[str, str]) -> None:
    rows = [
        {"Sentence #": "1", "Word": word, "POS": pos, "Tag": tag}
        for word, pos, tag in (("Ada", "NNP", "B-per"), ("wrote", "VBD", "O"))
    ]
    with pytest.raises(InputError, match=r"got a word a row in column 'Word' and its tag in 'Tag'; with pandas"):
        _ = task_of(rows, tmp_path, **named).rows


def test_words_with_entities_beside_lists_are_no_reason_to_refuse(tmp_path: Path) -> None:
    rows = [{**GOOD, "language": "en", "first": "B-x"}, {**GOOD, "language": "de", "first": "O"}]
    assert task_of(rows, tmp_path).metric == "f1"


def test_a_tag_that_training_lacks_is_refused(tmp_path: Path) -> None:
    train = write_entities(tmp_path, 12)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"tokens": ["Ada"], "ner_tags": ["B-place"]}) + "\n")
    task = load_task(TaskArguments("token_classification", train_file=str(train), validation_file=str(other)))
    with pytest.raises(InputError, match=r"the tags O, B-person, B-thing, I-person, got 'B-place' in 1 row"):
        _ = task.rows


def test_the_order_of_a_models_tags_is_found_by_name(tmp_path: Path) -> None:
    task = task_of([{"tokens": ["a", "b"], "ner_tags": [0, 1]}], tmp_path, declared(["O", "B-x"]))
    folder = save_tiny(
        tmp_path / "m", AutoModelForTokenClassification, id2label={0: "B-x", 1: "O"}, label2id={"B-x": 0, "O": 1}
    )
    loaded = load_model(folder, task)
    assert loaded.label_order == [1, 0]
    batch = batch_of(task)
    with torch.no_grad():
        theirs = loaded.model.eval()(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]).logits
        assert torch.equal(loaded.as_module(task).eval()(batch).logits, theirs[..., [1, 0]])


# --- stages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", usual_first(["bert", "roberta", "deberta-v2", "modernbert", "qwen3"]))
def test_every_stage_and_method_runs_and_leaves_plain_checkpoints(tmp_path: Path, family: str) -> None:
    assert family in {**FAMILIES, **DECODERS}
    recipe = {
        "task": "token_classification",
        "train_file": str(write_entities(tmp_path, 24, "train")),
        "validation_file": str(write_entities(tmp_path, 12, "validation")),
        "output_dir": str(tmp_path / "run"),
        "teacher": str(save_tiny(tmp_path / "big", AutoModelForTokenClassification, family, blocks=4)),
        "student_layers": [1, 4],
        "training": {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(tmp_path / "recipe.yaml"), "report=false"]) == 0
    table = (tmp_path / "run" / "results.md").read_text()
    assert [column.strip() for column in table.splitlines()[0].split("|")[2:6]] == [
        "f1", "precision", "recall", "accuracy"
    ]  # fmt: skip
    for method in ("kd", "lwd", "ted"):
        model, info = AutoModelForTokenClassification.from_pretrained(
            tmp_path / "run" / method, output_loading_info=True
        )
        assert not info["missing_keys"]
        assert list(model.config.id2label.values()) == ["O", "B-person", "B-thing", "I-person"]


def test_tags_that_follow_from_the_words_are_learnt(tmp_path: Path) -> None:
    file = str(write_entities(tmp_path, 48))
    task = load_task(TaskArguments("token_classification", train_file=file, validation_file=file))
    model = save_tiny(tmp_path / "m", AutoModelForTokenClassification, hidden_dropout_prob=0.0, initializer_range=0.2)
    args = StageArguments(
        str(tmp_path / "out"), learning_rate=1e-2, num_train_epochs=12, per_device_train_batch_size=8, disable_tqdm=True
    )
    assert finetune(model, task, args)["f1"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    "text",
    [
        "Ada sang\nBo wrote\n", "Ada\nsang\n\nBo\nwrote\n",
        "Ada O\nsang O\n\nBo O\nwrote O\n",
    ],
)  # fmt: skip
def test_texts_without_tags_are_lines_or_words_below_each_other(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("x O\ny B-PER\n\nz O\nw O\n")
    (tmp_path / "more.txt").write_text(text)
    train, more = (str(tmp_path / f"{name}.txt") for name in ("train", "more"))
    task = load_task(TaskArguments("token_classification", train_file=train, unlabelled_file=more))
    assert task.unlabelled_rows is not None
    assert [row["tokens"] for row in task.unlabelled_rows] == [["Ada", "sang"], ["Bo", "wrote"]]


def test_kinds_of_words_beside_parts_of_entities_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tags = ["O", "NAME", "B-PER", "I-PER"]
    assert task_of([{"tokens": list("abcd"), "ner_tags": tags}], tmp_path).metric == "accuracy"
    assert caplog.text.count("got both (NAME and B-PER, I-PER); words are scored one by one") == 1
