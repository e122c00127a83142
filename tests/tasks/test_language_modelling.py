"""Causal and masked language modelling: losses in chunks, perplexity, last words, heads that share the embedding."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
)

from ted_distill import InputError, StageArguments, evaluate, load_task
from ted_distill.cli.main import main
from ted_distill.fast import packed_linear
from ted_distill.fast.packed_linear import use_packed_linear
from ted_distill.method import vocabulary_losses
from ted_distill.method.filters import FilterConfig, Filters
from ted_distill.models.load import load_model
from ted_distill.stages.learn_filters import filter_trainer
from ted_distill.stages.lifecycle import read_data
from ted_distill.tasks import Task, TaskArguments
from tiny import DECODERS, WORDS, save_tiny, tiny_config, tiny_tokenizer, write_text

V = 11


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count: int = 37) -> Tensor:
    found = torch.randint(0, V, (count,), generator=torch.Generator().manual_seed(5))
    found[::3] = -100
    return found


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few tokens each, so that every sum crosses their borders."""
    monkeypatch.setattr(vocabulary_losses, "_CHUNK_NUMBERS", 50)


# --- losses -----------------------------------------------------------------------------------------------------


def gradient_of(value: Tensor, tensor: Tensor) -> Tensor:
    return torch.autograd.grad(value, tensor)[0]


def test_the_token_loss_is_cross_entropy() -> None:
    logits = numbers(37, V).requires_grad_()
    found, expected = vocabulary_losses.token_loss(logits, labels()), F.cross_entropy(logits, labels())
    assert torch.allclose(found, expected)
    assert torch.allclose(gradient_of(found, logits), gradient_of(expected, logits))
    assert torch.allclose(vocabulary_losses.token_loss(logits, labels(), torch.tensor(100.0)), expected * 24 / 100)


def test_the_token_kl_is_the_kl_of_labelled_tokens() -> None:
    student, teacher, kept = numbers(37, V).requires_grad_(), numbers(37, V, seed=1), labels() != -100
    found = vocabulary_losses.token_kl(student, teacher, kept, 2.0)
    expected = 4 * F.kl_div((student[kept] / 2).log_softmax(-1), (teacher[kept] / 2).softmax(-1), reduction="batchmean")
    assert torch.allclose(found, expected)
    assert torch.allclose(gradient_of(found, student), gradient_of(expected, student))
    assert torch.autograd.gradcheck(lambda z: vocabulary_losses.token_kl(z, teacher, kept, 2.0), student)


def test_the_vocabulary_loss_is_that_of_the_output_embeddings_logits() -> None:
    output = nn.Linear(5, V).double().requires_grad_(False)
    hidden = numbers(37, 5).requires_grad_()
    found, expected = (
        vocabulary_losses.vocabulary_loss(hidden, output, labels()),
        F.cross_entropy(output(hidden), labels()),
    )
    assert torch.allclose(found, expected)
    assert torch.allclose(gradient_of(found, hidden), gradient_of(expected, hidden))


def test_token_scores_are_log_probability_and_likeliest_token() -> None:
    logits, gold = numbers(37, V), labels()
    kept = gold != -100
    found = vocabulary_losses.token_scores(logits, gold)
    expected = logits[kept].log_softmax(-1).gather(1, gold[kept].unsqueeze(1)).squeeze(1)
    assert torch.allclose(found[kept, 0], expected)
    assert torch.equal(found[kept, 2], logits[kept].argmax(-1).double())
    assert torch.equal(found[kept, 1], (logits[kept].argmax(-1) == gold[kept]).double())
    assert found[~kept].tolist() == [[0.0, 0.0, -1.0]] * int((~kept).sum())


class LargestFloat32(TorchDispatchMode):
    """The most numbers that a float32 tensor made inside had."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                self.size = max(self.size, tensor.numel())
        return out


def test_no_float32_copy_of_all_logits_is_ever_made() -> None:
    student = numbers(64, V).bfloat16().requires_grad_()
    teacher, gold = numbers(64, V, seed=1).bfloat16(), labels(64)
    with LargestFloat32() as made:
        loss = vocabulary_losses.token_kl(student, teacher, gold != -100, 2.0) + vocabulary_losses.token_loss(
            student, gold
        )
        loss.backward()
    assert 0 < made.size <= 64 < 64 * V
    assert student.grad is not None
    assert student.grad.dtype == torch.bfloat16


# --- tasks --------------------------------------------------------------------------------------------------------


def task_of(name: str, file: Path, **arguments: Any) -> Task:
    arguments = {"max_seq_length": 16, **arguments}
    return load_task(TaskArguments(name, train_file=str(file), validation_file=str(file), **arguments))


def batch_of(task: Task, tokenizer: Any, count: int = 5, seed: int = 0) -> dict[str, Tensor]:
    features = task.encode_training(task.rows["train"], tokenizer)
    batch = task.collate([features[row] for row in range(len(features) - count, len(features))], tokenizer)
    return task.augment(batch, tokenizer, range(seed, seed + count))


@pytest.mark.parametrize("family", DECODERS)
def test_the_causal_loss_is_that_of_transformers(tmp_path: Path, family: str) -> None:
    task = task_of("causal_lm", write_text(tmp_path, 31))
    batch = batch_of(task, tiny_tokenizer())
    assert (batch["attention_mask"] == 0).any()  # the last block is shorter
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family)).eval()
    with torch.no_grad():
        outputs = model(**batch)
    assert torch.allclose(task.loss(outputs.logits, batch), outputs.loss)
    counts = task.counts(batch)
    # Every token but the first of each block is predicted.
    assert counts.labels == counts.predictions == batch["attention_mask"].sum() - len(batch["input_ids"])


def test_the_masked_loss_is_that_of_transformers(tmp_path: Path) -> None:
    task = task_of("masked_lm", write_text(tmp_path, 31), mlm_probability=0.4)
    torch.manual_seed(0)
    batch = batch_of(task, tiny_tokenizer())
    model = AutoModelForMaskedLM.from_config(tiny_config("bert")).eval()
    with torch.no_grad():
        outputs = model(**batch)
    assert torch.allclose(task.loss(outputs.logits, batch), outputs.loss)
    assert task.match(outputs.logits, outputs.logits, batch, 2.0, None) == 0
    elsewhere = outputs.logits + (batch["labels"] == -100).unsqueeze(-1) * torch.randn(40)
    assert task.match(elsewhere, outputs.logits, batch, 2.0, None) == 0


def test_padding_changes_no_loss(tmp_path: Path) -> None:
    task = task_of("causal_lm", write_text(tmp_path, 31))
    short = batch_of(task, tiny_tokenizer())
    fills = {"labels": -100}
    long = {name: F.pad(tensor, (0, 9), value=fills.get(name, 0)) for name, tensor in short.items()}
    z = torch.randn(5, 25, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(task.loss(z[:, :16], short), task.loss(z, long))
    assert torch.allclose(
        task.match(z[:, :16], z[:, :16].flip(-1), short, 2.0, None), task.match(z, z.flip(-1), long, 2.0, None)
    )


def test_special_tokens_are_never_hidden_and_scoring_hides_the_same_ones(tmp_path: Path) -> None:
    task = task_of("masked_lm", write_text(tmp_path), mlm_probability=0.5)
    tokenizer = tiny_tokenizer()
    first, again = (task.encode(task.rows["validation"], tokenizer) for _ in range(2))
    assert first["labels"] == again["labels"]
    for ids, hidden in zip(first["input_ids"], first["labels"], strict=True):
        assert (hidden[0], hidden[-1]) == (-100, -100)
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    share = np.mean([label != -100 for row in first["labels"] for label in row[1:-1]])
    assert share == pytest.approx(0.5, abs=0.06)
    batches = [batch_of(task, tokenizer, seed=seed)["labels"] for seed in (1, 2, 1)]
    assert not torch.equal(batches[0], batches[1])
    assert torch.equal(batches[0], batches[2])
    # What is hidden in training is the text itself.
    blocks = task.encode_training(task.rows["train"], tokenizer)["input_ids"][-5:]
    for row, ids in zip(batches[0], blocks, strict=True):
        assert all(label in (-100, token) for label, token in zip(row.tolist(), ids, strict=False))


@pytest.mark.parametrize("probability", [0.0, 1.5])
def test_a_share_that_hides_nothing_or_more_than_all_is_refused(tmp_path: Path, probability: float) -> None:
    with pytest.raises(InputError, match="mlm_probability: expected a number above 0 and at most 1"):
        task_of("masked_lm", write_text(tmp_path), mlm_probability=probability)


def test_a_short_text_has_a_hidden_token_in_every_update(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("the film was good.\n")
    task, tokenizer = task_of("masked_lm", tmp_path / "x.txt"), tiny_tokenizer()
    places = set()
    for seed in range(60):
        batch = batch_of(task, tokenizer, 1, seed)
        [hidden] = (batch["labels"] != -100).any(dim=0).nonzero().T.tolist()
        assert hidden
        assert not {0, batch["attention_mask"].sum().item() - 1} & set(hidden)
        assert task.counts(batch).labels == len(hidden)
        places |= set(hidden)
    assert len(places) == 5
    assert task.encode(task.rows["validation"], tokenizer)["labels"][0].count(-100) < 7


def test_where_chance_hides_tokens_no_others_are_hidden(tmp_path: Path) -> None:
    task, tokenizer = task_of("masked_lm", write_text(tmp_path)), tiny_tokenizer()
    features = task.encode_training(task.rows["train"], tokenizer)
    batch = task.collate([features[row] for row in range(5)], tokenizer)
    found, hides = task.augment(batch, tokenizer, range(3, 8)), []
    for row, text in enumerate(batch["input_ids"]):
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=3 + row)
        collator.create_rng()
        special = tokenizer.get_special_tokens_mask(text.tolist(), already_has_special_tokens=True)
        ids, labels = collator.torch_mask_tokens(text[None].clone(), special_tokens_mask=torch.tensor([special]))
        hides.append(bool((labels != -100).any()))
        if hides[-1]:
            assert torch.equal(found["input_ids"][row], ids[0])
            assert torch.equal(found["labels"][row], labels[0])
    assert {True, False} == {*hides}
    assert (found["labels"] != -100).any(dim=1).all()


def test_what_is_hidden_of_a_row_depends_on_its_own_seed_alone(tmp_path: Path) -> None:
    task, tokenizer = task_of("masked_lm", write_text(tmp_path, 31)), tiny_tokenizer()
    features = task.encode_training(task.rows["train"], tokenizer)
    last = [features[row] for row in range(len(features) - 3, len(features))]
    together = task.augment(task.collate(last, tokenizer), tokenizer, [5, 6, 7])
    for row, feature in enumerate(last):
        alone = task.augment(task.collate([feature], tokenizer), tokenizer, [5 + row])
        length = len(feature["input_ids"])
        for name in ("input_ids", "labels"):
            assert torch.equal(alone[name][0, :length], together[name][row, :length])
            assert torch.equal(
                together[name][row, length:],
                task.collate(last, tokenizer)[name][row, length:]
                if name == "input_ids"
                else torch.full_like(together[name][row, length:], -100),
            )


def test_a_text_of_unknown_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("zebra zebra zebra\n")  # such tokens are never hidden
    task = task_of("masked_lm", tmp_path / "x.txt")
    with pytest.raises(InputError, match=r"expected words that the tokenizer .* knows, got none"):
        task.encode_training(task.rows["train"], tiny_tokenizer())


def test_a_batch_of_special_tokens_alone_teaches_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    task, tokenizer = task_of("masked_lm", write_text(tmp_path)), tiny_tokenizer()
    unknown = [tokenizer.cls_token_id, *[tokenizer.unk_token_id] * 3, tokenizer.sep_token_id]
    batch = task.augment(task.collate([{"input_ids": unknown}], tokenizer), tokenizer, [0])
    counts = task.counts(batch)
    assert counts.labels == 0
    logits = torch.randn(*batch["input_ids"].shape, len(tokenizer), requires_grad=True)
    for loss in (
        task.loss(logits, batch, counts.labels),
        task.match(logits, logits.detach(), batch, 1.0, counts.labels),
    ):
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss == 0
        assert not gradient.any()


# --- perplexity and last words --------------------------------------------------------------------------------------


def long_model(folder: Path) -> Path:
    """Its predictions are far from even, so that context matters."""
    return save_tiny(folder / "gpt2", AutoModelForCausalLM, "gpt2", initializer_range=0.5)


@pytest.mark.parametrize("stride", [1, 5, 15])
def test_perplexity_is_that_of_each_token_once_with_its_context(tmp_path: Path, stride: int, float32: None) -> None:
    file, folder = write_text(tmp_path, 12), long_model(tmp_path)
    found = evaluate(folder, task_of("causal_lm", file, stride=stride))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(file.read_text(), add_special_tokens=False)["input_ids"]
    nats, right, end = [], 0, 0
    for start in range(0, len(tokens), stride):
        window = torch.tensor([tokens[start : start + 16]])
        with torch.no_grad():
            log_probabilities = model(window).logits[0].log_softmax(-1)
        for place in range(max(end - start, 1), window.shape[1]):
            nats.append(-log_probabilities[place - 1, window[0, place]].item())
            right += int(log_probabilities[place - 1].argmax() == window[0, place])
        end = start + window.shape[1]
        if end == len(tokens):
            break
    assert found["loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)
    assert found["accuracy"] == pytest.approx(100 * right / len(nats))
    words = len(file.read_text().split())
    assert found["word_perplexity"] == pytest.approx(math.exp(sum(nats) / words), rel=1e-4)


def test_a_last_word_is_right_only_as_a_whole(tmp_path: Path, float32: None) -> None:
    folder = long_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    # "good,fine." is one word and four tokens here.
    words = ("good,fine.", "bad", "very.")
    rows = [{"text": f"the {thing} was {word}"} for thing in ("film", "book") for word in words]
    # Passages whose last word is what the model says itself, where that is a word.
    for start in WORDS:
        ids = tokenizer(f"the {start} is", return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            said = tokenizer.convert_ids_to_tokens(int(model(ids).logits[0, -1].argmax()))
        rows += [{"text": f"the {start} is {said}"}] if said in WORDS else []
    file = tmp_path / "passages.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = load_task(TaskArguments("last_word", validation_file=str(file), max_seq_length=16))
    found = evaluate(folder, task)
    right, nats = [], []
    for row in rows:
        text, _, word = row["text"].rpartition(" ")
        before, after = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, f" {word}"))
        with torch.no_grad():
            log_probabilities = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(after) - 1)
        right.append(all(log_probabilities[p].argmax() == t for p, t in zip(places, after, strict=True)))
        nats.append(-sum(log_probabilities[p, t].item() for p, t in zip(places, after, strict=True)))
    assert any(right)
    assert not all(right)
    assert found["accuracy"] == pytest.approx(100 * np.mean(right))
    assert found["perplexity"] == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)


def test_a_passage_is_tokenised_as_a_whole_and_not_its_last_word_alone() -> None:
    """A tokenizer as Llama 2's, which puts a blank in front of every text: " good" alone would begin with two."""
    alphabet = [*"▁abcdefghijklmnopqrstuvwxyz", "<unk>"]
    vocabulary = {token: number for number, token in enumerate([*alphabet, "▁good", "▁▁good", "▁film"])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", ignore_merges=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", model_max_length=64)
    task = load_task(TaskArguments("last_word", max_seq_length=64))
    text = "the film was good"
    features = task.encode(datasets.Dataset.from_dict({"text": [text]}), tokenizer)
    assert features[0]["input_ids"] == tokenizer(text)["input_ids"]
    scored = features[0]["input_ids"][features[0]["scored_from"] :]
    assert tokenizer.convert_ids_to_tokens(scored) == ["▁good"]


def test_passages_without_a_last_word_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "passages.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in ("film", "the film " * 20, "a book")))
    task = load_task(TaskArguments("last_word", validation_file=str(file), max_seq_length=16))
    with pytest.raises(InputError) as error:
        task.encode(task.rows["validation"], tiny_tokenizer())
    short, long = error.value.problems
    assert "expected two or more words per passage, got fewer in 1 row (1; counted from 1)" in short
    assert "expected passages of up to 16 tokens, got longer ones in 1 row (2; counted from 1)" in long


def test_less_perplexity_is_better(tmp_path: Path) -> None:
    """The checkpoint that comes out is the one of least perplexity: here the first, as the learning rate ruins it."""
    file = str(write_text(tmp_path, 40))
    model = save_tiny(tmp_path / "m", AutoModelForCausalLM, "gpt2")
    flags = {
        "task": "causal_lm", "train_file": file, "validation_file": file, "max_seq_length": 16, "learning_rate": 3.0,
        "num_train_epochs": 3, "lr_scheduler_type": "constant", "disable_tqdm": True, "output_dir": tmp_path / "out",
        "keep_checkpoints": True, "save_total_limit": 9,
        "model_name_or_path": model,
    }  # fmt: skip
    assert main(["finetune", *(f"--{name}={value}" for name, value in flags.items())]) == 0
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    last = max((tmp_path / "out").glob("checkpoint-*"), key=lambda folder: int(folder.name.partition("-")[2]))
    curves = json.loads((last / "trainer_state.json").read_text())["log_history"]
    found = [entry["eval_perplexity"] for entry in curves if "eval_perplexity" in entry]
    assert len(found) == 3
    assert results["perplexity"] == min(found) < max(found)


# --- filter heads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "auto_class", "family"), [
    ("causal_lm", AutoModelForCausalLM, "gpt2"), ("causal_lm", AutoModelForCausalLM, "llama"),
    ("masked_lm", AutoModelForMaskedLM, "bert"), ("masked_lm", AutoModelForMaskedLM, "modernbert"),
    ("masked_lm", AutoModelForMaskedLM, "electra"), ("masked_lm", AutoModelForMaskedLM, "deberta-v2"),
])  # fmt: skip
@pytest.mark.parametrize("width", [16, 12])
def test_filter_heads_share_the_frozen_output_embedding(
    tmp_path: Path, name: str, auto_class: type, family: str, width: int, float32: None
) -> None:
    task = task_of(name, write_text(tmp_path, 31), mlm_probability=0.4)
    loaded = load_model(save_tiny(tmp_path / "m", auto_class, family), task)
    args = StageArguments(
        str(tmp_path / "out"),
        max_steps=1,
        learning_rate=1e-3,
        num_train_epochs=1,
        disable_tqdm=True,
        eval_strategy="no",
    )
    data = read_data(task, loaded.tokenizer, args)
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    config = FilterConfig.for_model(loaded.model.config, 1, width)
    trainer = filter_trainer(loaded, config, task, args, data)
    output = loaded.model.get_output_embeddings()
    for head in trainer.model.heads:
        assert head.output is output
        linear = output.in_features != width
        assert [name for name, w in head.named_parameters() if w.requires_grad] == (
            ["project.weight", "project.bias"] if linear else []
        )
    trainer.fit()
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.state_dict().items())
    fresh = Filters.random(config)
    assert not torch.equal(trainer.model.filtered.filters.filters[0].weight, fresh.filters[0].weight)
    # The loss in chunks is that of the head's own logits.
    torch.manual_seed(0)
    batch = batch_of(task, loaded.tokenizer)
    states = torch.randn(*batch["input_ids"].shape, width)
    expected = task.loss(head(states), batch)
    assert torch.allclose(task.filter_head_loss(head, states, batch), expected)


@pytest.mark.skipif(not packed_linear._works(), reason="PyTorch packs no bfloat16 weights on this processor")
def test_weights_that_are_used_twice_are_not_packed() -> None:
    torch.manual_seed(0)
    config = tiny_config("llama", tie_word_embeddings=True)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False).bfloat16()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = model(ids).logits
        packed = use_packed_linear(model)
        assert packed == 2 * 7  # attention and MLP of both blocks
        assert type(model.lm_head) is nn.Linear
        assert model.lm_head.weight is model.get_input_embeddings().weight
        assert torch.allclose(model(ids).logits.float(), expected.float(), atol=0.02)


# --- whole runs -----------------------------------------------------------------------------------------------------


def recipe_of(folder: Path, **changes: Any) -> Path:
    text = str(write_text(folder, 80))
    recipe = {
        "task": "causal_lm", "train_file": text, "validation_file": text, "max_seq_length": 16,
        "output_dir": str(folder / "run"), "student_layers": [2, 4],
        "from_scratch": {"model_type": "gpt2", "vocab_size": 300, "n_embd": 16, "n_layer": 4, "n_head": 2,
                         "n_positions": 32, "special_tokens": ["<unk>"]},
        "score_on": {"words": {"task": "last_word", "validation_file": text, "max_seq_length": 32}},
        "training": {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True},
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, **changes}))
    return file


@pytest.mark.long
def test_a_run_makes_its_teacher_distils_it_and_scores_all_on_further_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(recipe_of(tmp_path)), "report=false"]) == 0
    table = (tmp_path / "run" / "results.md").read_text()
    header = [cell.strip() for cell in table.splitlines()[0].split("|")[1:-1]]
    assert header[:2] == ["model", "perplexity"]
    assert {"words_accuracy", "words_perplexity", "word_perplexity"} <= {*header}
    assert sum(line.startswith("|") for line in table.splitlines()) == 2 + 6
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "ted")
    assert len(tokenizer("<unk>")["input_ids"]) == 1
    student = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "ted").eval()
    assert student.config.n_layer == 2
    ids = tokenizer("the film", return_tensors="pt")
    assert student.generate(**ids, max_new_tokens=3, do_sample=False).shape[1] == ids["input_ids"].shape[1] + 3
    # The student was made of the trained teacher, not of the random one.
    teacher = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "teacher").state_dict()
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "student_init").state_dict()
    assert torch.equal(made["transformer.h.0.mlp.c_fc.weight"], teacher["transformer.h.1.mlp.c_fc.weight"])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    again = evaluate(tmp_path / "run" / "ted", load_task(
        TaskArguments("last_word", validation_file=str(tmp_path / "text.txt"), max_seq_length=32)))  # fmt: skip
    assert results["ted"]["words_accuracy"] == pytest.approx(again["accuracy"])
    # A second time nothing is left to do.
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.safetensors")}
    assert main(["run", str(tmp_path / "recipe.yaml"), "report=false"]) == 0
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps


@pytest.mark.long
def test_a_masked_model_is_made_and_distilled_too(tmp_path: Path) -> None:
    scratch = {
        "model_type": "roberta", "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24,
        "num_attention_heads": 2, "max_position_embeddings": 40, "type_vocab_size": 1,
    }  # fmt: skip
    changes = {"task": "masked_lm", "from_scratch": scratch, "student_layers": [2], "score_on": {}}
    assert main(["run", str(recipe_of(tmp_path, mlm_probability=0.4, **changes)), "report=false"]) == 0
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "run" / "ted", output_loading_info=True)
    assert not info["missing_keys"]
    assert model.config.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "gpt22"}, "did you mean gpt2?"),
        (
            {"vocab_size": 300},
            "from_scratch: expected a model_type of transformers, such as gpt2, llama or bert, got nothing",
        ),
        ({"model_type": "gpt2", "n_layers": 3}, "from_scratch: expected fields of the config of gpt2, got n_layers"),
    ],
)
def test_a_teacher_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], said: str
) -> None:
    assert main(["run", str(recipe_of(tmp_path, from_scratch=values))]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"more": {"validation_file": "x"}}, "recipe section score_on.more: expected keys of a task"),
        ({"more": {"task": "last_word", "file": "x"}}, "unknown key file"),
        (
            {"more": {"task": "last_word", "validation_file": "/no/such.txt"}},
            "validation_file /no/such.txt: expected a file",
        ),
    ],
)
def test_further_data_that_are_not_there_are_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], said: str
) -> None:
    assert main(["run", str(recipe_of(tmp_path, score_on=values))]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "teacher").exists()
