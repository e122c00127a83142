"""Cards that the Hub reads, whose lines run, and pipelines that say what the model says."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    pipeline,
)

from quick_stages import LABELS, quick_arguments, reviews_task
from ted_distill import LearnFiltersArguments, TaskArguments, finetune, learn_filters, load_task
from ted_distill.output.cards import Origin, card_data, card_problems, card_text, origin_of
from ted_distill.training.shown.model_card import eval_results, hub_datasets
from tiny import save_tiny, tiny_tokenizer, write_entities, write_questions, write_reviews, write_text

PAIRS = [{"text": "the film", "text_pair": "the book was good", "label": row / 4} for row in range(12)]
SETS = [{"text": "the film was good", "labels": ["good"]}, {"text": "the dull book", "labels": ["bad", "dull"]}] * 6


def _file(folder: Path, task: str) -> Path:
    rows = {"regression": PAIRS, "multi_label_classification": SETS}.get(task)
    if rows is None:
        writers = {
            "sequence_classification": write_reviews, "question_answering": write_questions,
            "token_classification": write_entities,
        }  # fmt: skip
        return writers.get(task, write_text)(folder)
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return file


TASKS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "sequence_classification": (AutoModelForSequenceClassification, "bert", "text-classification", {}),
    "regression": (AutoModelForSequenceClassification, "distilbert", "text-classification", {}),
    "multi_label_classification": (AutoModelForSequenceClassification, "modernbert", "text-classification", {}),
    "token_classification": (AutoModelForTokenClassification, "deberta-v2", "token-classification", {}),
    "question_answering": (
        AutoModelForQuestionAnswering,
        "bert",
        "question-answering",
        {"max_seq_length": 32, "doc_stride": 8},
    ),
    "masked_lm": (AutoModelForMaskedLM, "bert", "fill-mask", {"max_seq_length": 16}),
    "causal_lm": (AutoModelForCausalLM, "gpt2", "text-generation", {"max_seq_length": 16}),
}


def _tuned(folder: Path, name: str) -> tuple[Path, Any]:
    auto_class, family, _, settings = TASKS[name]
    model = save_tiny(folder / "model", auto_class, family)
    # A tokenizer of another family: DistilBERT takes no token_type_ids.
    tiny_tokenizer().save_pretrained(model)
    file = str(_file(folder, name))
    task = load_task(TaskArguments(name, train_file=file, validation_file=file, **settings))
    finetune(model, task, quick_arguments(folder / "tuned", max_steps=1))
    return folder / "tuned", task


@pytest.mark.parametrize("name", TASKS)
def test_a_card_is_read_by_the_hub_and_its_lines_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, task = _tuned(tmp_path, name)
    card = ModelCard.load(folder / "README.md")
    data = card.data
    tag = TASKS[name][2]
    assert (data.pipeline_tag, data.library_name, data.license, data.base_model) == (tag, "transformers", None, None)
    assert list(card_problems(data, tag)) == []
    results = json.loads((folder / "all_results.json").read_text())
    (main,) = [score for score in data.eval_results or [] if score.metric_type == task.metric]
    assert main.metric_value == pytest.approx(results[task.metric], abs=1e-4)
    assert (main.task_type, main.dataset_type, main.dataset_split) == (tag, "local", "validation")
    assert main.dataset_name == task.sources["validation"]
    assert str(tmp_path) not in card.content
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()
    if name == "question_answering":
        assert len(code[code.index("tokenizer, model") :].strip().splitlines()) == 4
    _check_pipeline(name, folder, task)


def _check_pipeline(name: str, folder: Path, task: Any) -> None:
    """The pipeline's answers are those of the model."""
    if name not in ("sequence_classification", "regression", "multi_label_classification", "token_classification"):
        return
    says = pipeline(TASKS[name][2], model=str(folder))
    labels = {*(task.label_names or ())}
    if name == "token_classification":
        assert {one["entity"] for one in says("Ada wrote the book.", aggregation_strategy="none")} <= labels
    elif name == "regression":
        pair = PAIRS[0]["text"], PAIRS[0]["text_pair"]
        inputs = tiny_tokenizer(token_type_ids=False)(*pair, return_tensors="pt")
        with torch.no_grad():
            wanted = float(says.model(**inputs).logits)
        # A score, not its sigmoid.
        assert says({"text": pair[0], "text_pair": pair[1]})["score"] == pytest.approx(wanted, abs=1e-5)
    else:
        found = says("the dull book", top_k=None)
        assert {one["label"] for one in found} == labels
        whole = sum(one["score"] for one in found) == pytest.approx(1, abs=1e-4)
        assert whole == (name == "sequence_classification")


# --- what is known of the model before --------------------------------------------------------------------------------


def test_base_models_and_licences_are_handed_on_from_card_to_card(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, **LABELS)
    (model / "README.md").write_text("---\nlicense: mit\nbase_model: someone/tiny\n---\n# A model\n")
    task = reviews_task(tmp_path)
    finetune(model, task, quick_arguments(tmp_path / "tuned", max_steps=1))
    finetune(tmp_path / "tuned", task, quick_arguments(tmp_path / "again", max_steps=1))
    data = ModelCard.load(tmp_path / "again" / "README.md").data
    assert (data.license, data.base_model) == ("mit", ["someone/tiny"])
    license = {"license": "other", "license_name": "some-research", "license_link": "LICENSE"}
    card = {**license, "base_model": "someone/tiny"}
    (model / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n# A model\n")
    finetune(model, task, quick_arguments(tmp_path / "other", max_steps=1))
    found = ModelCard.load(tmp_path / "other" / "README.md").data.to_dict()
    # The file is not copied, so that the link leads to where it stays.
    link = "https://huggingface.co/someone/tiny/blob/main/LICENSE"
    assert {key: found.get(key) for key in license} == {**license, "license_link": link}


def test_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    assert origin_of("someone/unheard-of") == Origin(["someone/unheard-of"])
    assert origin_of(tmp_path) == Origin()
    (tmp_path / "README.md").write_text("---\n: [\n---\n")
    assert origin_of(tmp_path) == Origin()
    (tmp_path / "README.md").write_text("---\nbase_model: /home/me/model\n---\n")
    assert origin_of(tmp_path) == Origin()
    assert origin_of("/home/me/elsewhere") == Origin()


def test_a_folder_of_the_hubs_cache_is_known_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--someone--tiny" / "snapshots" / "0a1b"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: someone/larger\n---\n")
    assert origin_of(folder) == Origin(["someone/tiny"], {"license": "apache-2.0"})


def test_data_sets_of_the_hub_are_named_and_files_are_not(tmp_path: Path) -> None:
    file = str(write_reviews(tmp_path))
    assert hub_datasets(load_task(TaskArguments("sequence_classification", train_file=file))) == []
    task = load_task("sst2").with_rows(reviews_task(tmp_path).rows)
    assert hub_datasets(task) == ["nyu-mll/glue"]
    scored = {"validation": {"rows": 12, "from": "nyu-mll/glue/sst2/validation"}}
    (score,) = eval_results(task, {"accuracy": 50.0, "metric": "accuracy", "scored_on": scored})
    assert (score.dataset_type, score.dataset_name) == ("nyu-mll/glue", "nyu-mll/glue/sst2/validation")


def test_scores_of_filter_heads_are_not_given_as_the_models(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, **LABELS)
    task = reviews_task(tmp_path)
    learn_filters(model, task, quick_arguments(tmp_path / "filters", max_steps=1), LearnFiltersArguments())
    assert ModelCard.load(tmp_path / "filters" / "README.md").data.eval_results is None


def test_test_scores_and_those_of_other_splits_are_named_as_such(tmp_path: Path) -> None:
    task = load_task("mnli")
    rows = reviews_task(tmp_path).rows["validation"]
    vars(task)["rows"] = {"validation": rows, "validation_mismatched": rows, "test": rows}
    scored = {name: {"rows": 12, "from": f"{name}.jsonl"} for name in task.rows}
    found = eval_results(
        task, {"test_accuracy": 1.0, "accuracy": 2.0, "mismatched_accuracy": math.nan, "scored_on": scored}
    )
    named = {score.dataset_split: (score.metric_type, score.metric_value) for score in found}
    assert named["test"] == ("accuracy", 1.0)
    assert named["validation"] == ("accuracy", 2.0)
    data = card_data(Origin(), None, [], scores=found, model_name="a")
    assert [score.dataset_split for score in data.eval_results or []] == ["test", "validation"]
    assert "nan" not in card_text(data, "# A")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pipeline_tag": "fill-mask"}, "expected pipeline_tag text-classification, got 'fill-mask'"),
        ({"license": "Apache License 2.0"}, "expected a licence's short name, such as apache-2.0"),
        ({"license": "other"}, "expected license_name with license other"),
        ({"base_model": "/home/me/model"}, "expected base_model to be a name on the Hub, got '/home/me/model'"),
        ({"base_model": ["someone/tiny", "model"]}, "expected base_model to be a name on the Hub, got 'model'"),
    ],
)
def test_a_card_that_the_hub_would_refuse_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    values = {"pipeline_tag": "text-classification", "license": "mit", "base_model": "someone/tiny"}
    assert list(card_problems(ModelCardData(**values), "text-classification")) == []
    (problem,) = card_problems(ModelCardData(**{**values, **changes}), "text-classification")
    assert said in problem


def test_a_score_that_is_no_number_is_noticed() -> None:
    data = ModelCardData(**{"model-index": [{"name": "a", "results": [{
        "task": {"type": "text-classification"}, "dataset": {"type": "local", "name": "a"},
        "metrics": [{"type": "accuracy", "value": math.nan}],
    }]}]})  # fmt: skip
    (problem,) = card_problems(data, None)
    assert "expected a number for accuracy in model-index, got nan" in problem


def test_only_scores_in_percent_are_said_to_be(tmp_path: Path) -> None:
    file = str(write_text(tmp_path))
    task = load_task(TaskArguments("causal_lm", train_file=file, validation_file=file, max_seq_length=16))
    model = save_tiny(tmp_path / "model", AutoModelForCausalLM, "gpt2")
    finetune(model, task, quick_arguments(tmp_path / "out", max_steps=1))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "In percent, except perplexity, loss, word_perplexity, where lower is better." in card
