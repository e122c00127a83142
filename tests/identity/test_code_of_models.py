"""A model that comes with code of its own is another one once that code is another."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from quick_stages import LABELS, reviews_task
from ted_distill.identity import changes, own_code_fingerprint
from ted_distill.models.load import LoadedModel, ModelArguments, load_model
from tiny import save_tiny

MODEL = """from transformers import BertForSequenceClassification

from .scaling import SCALE


class OwnModel(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **kwargs):
        output = super().forward(input_ids, attention_mask, token_type_ids, **kwargs)
        output.logits = output.logits * SCALE
        return output
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = save_tiny(tmp_path / "own", AutoModelForSequenceClassification, **LABELS)
    config = json.loads((model / "config.json").read_text())
    own = {"auto_map": {"AutoModelForSequenceClassification": "modeling_own.OwnModel"}, "architectures": ["OwnModel"]}
    (model / "config.json").write_text(json.dumps(config | own))
    (model / "modeling_own.py").write_text(MODEL)
    (model / "scaling.py").write_text("SCALE = 1.0\n")
    return model


def loaded(folder: Path) -> LoadedModel:
    return load_model(folder, reviews_task(folder.parent), ModelArguments(trust_remote_code=True))


def test_other_code_is_another_model(folder: Path) -> None:
    before = loaded(folder).identity
    assert loaded(folder).identity == before
    for file in ("scaling.py", "modeling_own.py"):
        (folder / file).write_text((folder / file).read_text() + "# edited\n")
        after = loaded(folder).identity
        assert changes(before, after) == ["code changed"]
        before = after


def test_models_of_transformers_have_no_code_of_their_own(tmp_path: Path) -> None:
    plain = save_tiny(tmp_path / "plain", AutoModelForSequenceClassification, **LABELS)
    assert "code" not in load_model(plain, reviews_task(tmp_path)).identity


def test_a_class_of_a_users_file_that_is_registered_counts_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers loads such a class as one of its own."""
    file = tmp_path / "my_model.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from transformers import BertForSequenceClassification\n\n\nclass Mine(BertForSequenceClassification):\n"
    found = []
    for scale in (1, 2):
        file.write_text(f"{text}    scale = {scale}\n")
        monkeypatch.delitem(sys.modules, "my_model", raising=False)
        found.append(own_code_fingerprint(import_module("my_model").Mine))
    assert None not in found
    assert found[0] != found[1]
    assert own_code_fingerprint(BertForSequenceClassification, BertConfig) is None
