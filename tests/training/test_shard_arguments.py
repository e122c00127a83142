"""What flags, and the environment of `accelerate launch`, may ask for of FSDP and DeepSpeed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ted_distill import InputError, StageArguments
from ted_distill.training.shard_arguments import asks_for_fsdp


@pytest.fixture(autouse=True)
def _launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ted_distill.training.shard_arguments.launched", lambda: True)


def made(folder: Path, **changes: Any) -> StageArguments:
    return StageArguments(str(folder), use_cpu=True, **changes)


@pytest.mark.parametrize(
    ("environment", "flags", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, {}, "fsdp: expected version 2, got 1; set fsdp_version to 2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, {}, "fsdp: expected version 2, got 1"),
        ({}, {"fsdp": True, "fsdp_config": {"version": 1}}, "fsdp: expected version 2, got 1"),
        ({}, {"fsdp": True, "fsdp_config": {"fsdp_activation_checkpointing": True}}, "no activation_checkpointing of"),
        (
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            {},
            "no activation_checkpointing of",
        ),
        ({}, {"fsdp": True, "torch_compile": True}, "torch_compile: expected false beside fsdp"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "deepspeed: expected none, as the stages shard with FSDP2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, {}, "megatron_lm: expected none in accelerate's config"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, {}, "parallelism_config: expected none in accelerate's"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    environment: dict[str, str], flags: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        made(tmp_path, **flags)
    assert len(refused.value.problems) == 1
    assert message in refused.value.problems[0]


def test_a_config_for_deepspeed_is_refused_before_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="deepspeed: expected none, as the stages shard with FSDP2"):
        made(tmp_path, deepspeed={"zero_optimization": {"stage": 2}})


def test_version_two_is_taken_from_flags_and_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not asks_for_fsdp(made(tmp_path))
    assert asks_for_fsdp(made(tmp_path, fsdp=True))
    assert asks_for_fsdp(made(tmp_path, fsdp="true"))
    assert not asks_for_fsdp(made(tmp_path, fsdp="false"))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert asks_for_fsdp(made(tmp_path))


def test_models_are_loaded_whole_in_every_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    made(tmp_path)
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


def test_several_processes_would_not_agree_on_a_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="auto_find_batch_size: expected one process"):
        StageArguments(str(tmp_path), use_cpu=False, auto_find_batch_size=True)
