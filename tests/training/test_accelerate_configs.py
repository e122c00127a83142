"""The configs in `recipes/accelerate/`: accelerate reads them, and their launch lines ask for what the stages do."""

from __future__ import annotations

import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from ted_distill import InputError, StageArguments
from ted_distill.runs.recipe_files import recipe_files
from ted_distill.training.sharded.shard_arguments import asks_for_fsdp

FOLDER = Path(__file__).parents[2] / "recipes" / "accelerate"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


def launch_line(file: Path) -> list[str]:
    """What stands after `accelerate launch` in the comment of a config."""
    text = re.sub(r"\\\n# +", "", file.read_text(encoding="utf-8"))  # a line that goes on
    (line,) = [line for line in text.splitlines() if "accelerate launch" in line]
    return shlex.split(line.lstrip("# "))[2:]


def environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that `accelerate launch` sets for its processes, on a machine with GPUs."""
    monkeypatch.setattr("accelerate.commands.launch.is_cuda_available", lambda *_: True, raising=False)
    line = [str(file) if part.endswith(file.name) else part for part in launch_line(file)]
    args, config, _ = _validate_launch_command(launch_command_parser().parse_args(line))
    if args.use_deepspeed:
        # As `accelerate launch` does.
        args.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
        return dict(prepare_deepspeed_cmd_env(args)[1])
    if args.multi_gpu or args.use_fsdp:
        return dict(prepare_multi_gpu_env(args))
    return dict(prepare_simple_launcher_cmd_env(args)[1])


def test_there_is_a_config_for_every_way_to_train() -> None:
    names = [file.stem for file in CONFIGS]
    assert names == ["deepspeed", "fsdp2", "one-gpu", "one-machine", "several-machines", "zero2"]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_reads_every_config_and_its_launch_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config_from_file(str(file))
    line = launch_line(file)
    assert line[:2] == ["--config_file", f"recipes/accelerate/{file.name}"]
    assert line[-4:] == ["-m", "ted_distill", "run", "recipe.yaml"]
    made = environment(file, monkeypatch)
    assert made.get("ACCELERATE_USE_FSDP", "false") == str(bool(config.fsdp_config)).lower()
    assert made.get("ACCELERATE_USE_DEEPSPEED", "false") == str(file.stem == "deepspeed").lower()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_the_stages_take_the_environment_that_every_config_makes(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = environment(file, monkeypatch)
    for name, value in made.items():
        if name.startswith(("ACCELERATE_", "FSDP_")):
            monkeypatch.setenv(name, value)
    # One process of a launcher, which needs no group of processes as it uses a CPU.
    monkeypatch.setattr("ted_distill.training.sharded.shard_arguments.launched", lambda: True)
    if file.stem == "deepspeed" and not find_spec("deepspeed"):
        with pytest.raises(InputError, match="deepspeed: expected the package, got none"):
            StageArguments(str(tmp_path), use_cpu=True)
        return
    args = StageArguments(str(tmp_path), use_cpu=True)
    assert asks_for_fsdp(args) == (file.stem in ("fsdp2", "zero2"))
    if asks_for_fsdp(args):
        assert os.environ["FSDP_RESHARD_AFTER_FORWARD"].lower() == str(file.stem == "fsdp2").lower()


def test_they_are_no_recipes() -> None:
    assert not [name for name in recipe_files() if "accelerate" in name]
