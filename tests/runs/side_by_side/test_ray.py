"""Steps as tasks of a Ray cluster, started on this machine: the bytes of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from small_runs import differing, made, write_recipe
from ted_distill import read_recipe
from ted_distill.errors import InputError
from ted_distill.runs.run import run
from ted_distill.runs.side_by_side import node_graph
from ted_distill.runs.side_by_side.ray_pool import refuse_other_devices

SMALL = ["check=false", "report=false", "methods=[kd]"]


def test_without_ray_its_launcher_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_graph, "find_spec", lambda name: None)
    recipe = write_recipe(tmp_path, "sequence_classification")
    with pytest.raises(InputError, match="launcher: expected Ray to be installed for ray, got none; pip install"):
        run(read_recipe(recipe, [*SMALL, f"output_dir={tmp_path / 'run'}", "launcher=ray"]))
    assert not (tmp_path / "run").exists()


def test_a_cluster_with_other_devices_than_this_machine_is_refused() -> None:
    """Its stages would be trained in other number types than was planned here, or on CPUs without a word."""
    refuse_other_devices(8, on_gpus=True)
    refuse_other_devices(0, on_gpus=False)
    with pytest.raises(InputError, match="a GPU on this machine too, as the cluster has 8, got none; start the"):
        refuse_other_devices(8, on_gpus=False)
    with pytest.raises(InputError, match="expected GPUs in the cluster, as on this machine, got none; add"):
        refuse_other_devices(0, on_gpus=True)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_tasks_of_a_cluster_make_the_same_bytes(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    recipe = write_recipe(tmp_path, "sequence_classification", seed=3)
    words = [*SMALL, f"output_dir={tmp_path / 'run'}"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(read_recipe(recipe, [*words, "launcher=ray"]))
        on_a_cluster = made(tmp_path / "run")
        (tmp_path / "run").rename(tmp_path / "aside")
        run(read_recipe(recipe, words))
    finally:
        torch.set_num_threads(before)
        ray.shutdown()
    assert differing(tmp_path / "run", on_a_cluster) == {}
