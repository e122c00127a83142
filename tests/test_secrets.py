"""Values of tokens, keys and passwords stay out of everything that is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForSequenceClassification

from ted_distill import DistillArguments, LearnFiltersArguments, StageArguments, TaskArguments
from ted_distill.cli.main import main
from ted_distill.models.load import ModelArguments
from ted_distill.output import command
from ted_distill.runs.parsing import field_names
from ted_distill.runs.run_arguments import RunArguments
from ted_distill.secrets import content_without_secrets, without_secrets
from tiny import save_tiny, write_reviews

SECRET = "correct-horse"


@pytest.mark.parametrize(
    "words",
    [
        ["--hub_token", SECRET], ["--hub-token", SECRET], [f"--hub_token={SECRET}"], [f"hub_token={SECRET}"],
        [f"training.hub_token={SECRET}"], ["--training.hub_token", SECRET], [f"--finetune.push_to_hub_token={SECRET}"],
        ["--api_key", SECRET], ["--WANDB_API_KEY", SECRET], ["--password", SECRET, SECRET], ["--key", SECRET],
        ["--client-secret", SECRET], [f"--proxy=https://me:{SECRET}@proxy.example"],
    ],
)  # fmt: skip
def test_a_secret_on_the_command_line_is_not_recorded(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/ted", "finetune", "--task", "sst2", *words, "--seed", "3"])
    recorded = command()
    assert SECRET not in recorded
    assert recorded.startswith("ted finetune --task sst2 ")
    assert recorded.endswith(" --seed 3")


def test_a_token_of_the_hub_is_hidden_wherever_it_is() -> None:
    token = "hf_" + "aB3" * 11
    assert without_secrets(["--run_name", token, f"x={token}"]) == ["--run_name", "***", "x=***"]


@pytest.mark.parametrize(
    "words",
    [
        ["--include_num_input_tokens_seen", "all"], ["--average_tokens_across_devices", "true"],
        ["--text_column", "key"], ["--train_file", "tokens.csv"], ["key_column=x"], ["--monkey_count", "3"],
        ["--url", "https://example.org/a@b"], ["--filter_token", "mean"], ["learn_filters.filter_token=mean"],
        ["--train_file", "data/sk_snk_treebank_train.csv"], ["hf_internal_testing_tiny_random"],
    ],
)  # fmt: skip
def test_what_only_looks_like_a_secret_is_recorded(words: list[str]) -> None:
    assert without_secrets(words) == words


def test_none_of_our_own_settings_is_taken_for_a_secret() -> None:
    kinds = (RunArguments, TaskArguments, ModelArguments, DistillArguments, LearnFiltersArguments)
    content = {key: "x" for kind in kinds for key in field_names(kind)}
    assert content_without_secrets(content) == content
    of_stages = dict.fromkeys(field_names(StageArguments), "x")
    assert of_stages.keys() - content_without_secrets(of_stages).keys() == {"hub_token"}


def test_a_recipe_is_recorded_without_its_secret_keys() -> None:
    content = {"teacher": "t", "training": {"hub_token": SECRET, "seed": 1}, "kd": [{"password": SECRET}], 1: 2}
    assert content_without_secrets(content) == {"teacher": "t", "training": {"seed": 1}, "kd": [{}], 1: 2}
    further = {"score_on": {"per-token": {"task": "sst2", "hub_token": SECRET}}}
    assert content_without_secrets(further) == {"score_on": {"per-token": {"task": "sst2"}}}, "a name of data"


def test_no_file_of_a_run_holds_the_token_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = str(write_reviews(tmp_path, 8))
    recipe = {
        "task": "sequence_classification", "train_file": rows, "validation_file": rows, "methods": ["kd"],
        "teacher": str(save_tiny(tmp_path / "big", AutoModelForSequenceClassification, blocks=3)),
        "student": str(save_tiny(tmp_path / "small", AutoModelForSequenceClassification, blocks=2)),
        "training": {"max_steps": 1, "hub_token": SECRET, "report_to": "tensorboard", "keep_checkpoints": True},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["run", str(tmp_path / "recipe.yaml"), f"output_dir={tmp_path / 'run'}", f"--kd.hub_token={SECRET}"]
    monkeypatch.setattr("sys.argv", ["ted", *words])
    assert main(words) == 0
    files = [file for file in (tmp_path / "run").rglob("*") if file.is_file()]
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []
    manifest = json.loads((tmp_path / "run" / "kd" / "stage.json").read_text())
    assert "--kd.hub_token=***" in manifest["command"]
