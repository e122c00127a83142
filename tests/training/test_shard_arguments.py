"""What flags, and the environment of `accelerate launch`, may ask for of FSDP and DeepSpeed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ted_distill import InputError, StageArguments
from ted_distill.training.sharded.shard_arguments import (
    asks_for_fsdp,
    deepspeed_problems,
    leave_to_flags,
    settle_deepspeed,
)


@pytest.fixture(autouse=True)
def _launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ted_distill.training.sharded.shard_arguments.launched", lambda: True)


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
        ({}, {"fsdp": True, "torch_compile": True}, "torch_compile: expected false with fsdp"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, {}, "deepspeed: expected the package, got none; pip install deepspeed"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, {}, "megatron_lm: expected none in accelerate's config"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, {}, "parallelism_config: expected none in accelerate's"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(
    environment: dict[str, str], flags: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ted_distill.training.sharded.shard_arguments.find_spec", lambda name: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        made(tmp_path, **flags)
    assert len(refused.value.problems) == 1
    assert message in refused.value.problems[0]


def test_without_the_package_a_config_for_deepspeed_is_refused_before_it_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ted_distill.training.sharded.shard_arguments.find_spec", lambda name: None)
    with pytest.raises(InputError, match="deepspeed: expected the package, got none"):
        made(tmp_path, deepspeed={"zero_optimization": {"stage": 2}})


@pytest.mark.parametrize(
    ("config", "flags", "message"),
    [
        ({"zero_optimization": {"stage": 3}}, {}, "deepspeed: expected ZeRO stage 1 or 2, got 3; to split the weights"),
        ({}, {}, "deepspeed: expected ZeRO stage 1 or 2, got 0"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            {},
            "deepspeed: expected nothing to be offloaded, got cpu",
        ),
        ({"optimizer": {"type": "Adam"}}, {}, "deepspeed: expected no optimizer in its config, as the stages make"),
        ({"fp16": {"enabled": True}}, {}, "fp16: expected false with deepspeed"),
        ({}, {"torch_compile": True}, "torch_compile: expected false with deepspeed"),
    ],
)
def test_what_of_deepspeed_cannot_be_had_is_said(config: dict[str, Any], flags: dict[str, Any], message: str) -> None:
    whole = config if message.endswith("got 0") else {"zero_optimization": {"stage": 2}, **config}
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(config=whole))
    args = SimpleNamespace(deepspeed={}, deepspeed_plugin=plugin, **{"fp16": False, "torch_compile": False, **flags})
    args.deepspeed = whole or {"zero_optimization": {}}
    problems = deepspeed_problems(args)  # type: ignore[arg-type]
    assert len(problems) == 1
    assert message in problems[0]


def test_what_accelerate_only_repeats_is_left_to_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    config = {"zero_optimization": {"stage": 1}, "gradient_accumulation_steps": 1, "bf16": {"enabled": True}}
    plugin = SimpleNamespace(hf_ds_config=SimpleNamespace(config=config))
    args = SimpleNamespace(deepspeed=None, deepspeed_plugin=plugin, fp16=False, torch_compile=False)
    assert deepspeed_problems(args) == []  # type: ignore[arg-type]
    leave_to_flags(args)  # type: ignore[arg-type]
    assert config["gradient_accumulation_steps"] == "auto"
    settle_deepspeed(plugin, bf16=True)
    assert "bf16" not in config, "which would train weights in bfloat16"
    assert config["torch_autocast"]["enabled"]


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
