"""Checkpoints read as they were saved, to make students of them or to trim them: whole, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    T5Config,
    T5ForConditionalGeneration,
    T5Model,
)

from ted_distill.cli.main import main
from ted_distill.errors import InputError
from ted_distill.identity import backbone_fingerprint, head_fingerprint
from ted_distill.models.as_saved import load_as_saved
from ted_distill.models.load import ModelArguments
from ted_distill.models.students import StudentArguments, student
from tiny import save_tiny, write_reviews


def rewritten(folder: Path, change: Any) -> Path:
    """The same checkpoint, whose weights are those that `change` gives for its weights."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def compiled(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As of a model that was saved while `torch.compile` had wrapped it."""
    return {f"_orig_mod.{name}": weight for name, weight in weights.items()}


def with_adapters(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As of a model whose LoRA adapters were not merged."""
    return {name.replace(".query.", ".query.base_layer."): weight for name, weight in weights.items()}


@pytest.mark.parametrize("change", [compiled, with_adapters])
@pytest.mark.parametrize("command", ["student", "trim"])
def test_a_checkpoint_whose_weights_have_other_names_is_refused_and_not_drawn_anew(
    change: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = rewritten(save_tiny(tmp_path / "model", AutoModelForSequenceClassification, blocks=4), change)
    own = {"student": ["--layers", "2,4"], "trim": ["--texts", str(write_reviews(tmp_path))]}
    assert main([command, str(model), str(tmp_path / "out"), *own[command]]) == 2
    said = capsys.readouterr().err
    assert "expected all weights of a BertForSequenceClassification in" in said
    assert "merge adapters first" in said
    assert not (tmp_path / "out").exists()


def test_a_backbone_without_a_pooler_gets_the_same_one_each_time(tmp_path: Path) -> None:
    """Which is nobody's: but two students of one teacher are then the same."""
    save_tiny(tmp_path / "model", AutoModel, blocks=4)
    rewritten(tmp_path / "model", lambda found: {name: one for name, one in found.items() if "pooler" not in name})
    first, second = (load_as_saved(tmp_path / "model").state_dict() for _ in range(2))
    assert any("pooler" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_class_of_transformers_reads_its_own_config_beside_one_that_comes_with_the_model(tmp_path: Path) -> None:
    """As of checkpoints that came with their code before transformers had their family."""
    folder = save_tiny(tmp_path / "model", AutoModelForSequenceClassification)
    code = (
        "from transformers import PretrainedConfig\n\n\nclass OldConfig(PretrainedConfig):\n    model_type = 'bert'\n\n"
        "    def __init__(self, hidden_act='gelu', **settings):\n        super().__init__(**settings)\n"
    )
    (folder / "configuration_old.py").write_text(code)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "configuration_old.OldConfig"}
    (folder / "config.json").write_text(json.dumps(config))
    found = load_as_saved(folder, ModelArguments(trust_remote_code=True))
    assert isinstance(found.config, BertConfig)


def test_a_family_with_the_class_of_another_keeps_its_config(tmp_path: Path) -> None:
    exaone = pytest.importorskip("transformers.models.exaone").ExaoneConfig
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    AutoModelForCausalLM.from_config(exaone(vocab_size=40, num_hidden_layers=2, **small)).save_pretrained(tmp_path)
    assert load_as_saved(tmp_path).config.to_dict()["model_type"] == "exaone"


def test_a_student_of_a_head_that_was_trained_since_is_another_one(tmp_path: Path) -> None:
    """The blocks alone do not say whether it is the same teacher: the student has its head and its tokenizer too."""
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, blocks=4)
    arguments = StudentArguments(layers="2,4")
    student(model, tmp_path / "out", arguments)
    assert "skipped" in student(model, tmp_path / "out", arguments)
    before = (model / "model.safetensors").read_bytes()
    rewritten(model, lambda found: found | {"classifier.weight": found["classifier.weight"] + 1})
    with pytest.raises(InputError, match="one of the same student"):
        student(model, tmp_path / "out", arguments)
    (model / "model.safetensors").write_bytes(before)
    tokenizer = model / "tokenizer_config.json"
    tokenizer.write_text(tokenizer.read_text().replace('"model_max_length": 64', '"model_max_length": 32'))
    with pytest.raises(InputError, match="one of the same student"):
        student(model, tmp_path / "out", arguments)


def test_a_teacher_may_be_named_by_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path / "model", AutoModelForSequenceClassification, blocks=4)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELS", str(tmp_path))
    for place in ("~/model", "$MODELS/model"):
        out = tmp_path / place[:3].strip("~/$")
        assert "4 -> 2 blocks" in student(place, out / "student", StudentArguments(layers="2,4"))


def test_the_backbone_of_t5_is_the_same_with_its_language_model() -> None:
    """Whose base model transformers takes to be the whole model, with its head."""
    config = T5Config(vocab_size=40, d_model=16, d_kv=4, num_heads=4, d_ff=32, num_layers=2)
    whole = T5ForConditionalGeneration(config)
    bare = T5Model(config)
    bare.load_state_dict({name: one for name, one in whole.state_dict().items() if not name.startswith("lm_head")})
    assert backbone_fingerprint(whole) == backbone_fingerprint(bare)
    before = head_fingerprint(whole)
    whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight.detach() + 1)
    assert backbone_fingerprint(whole) == backbone_fingerprint(bare)
    assert head_fingerprint(whole) != before
