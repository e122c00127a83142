"""Repeat a run from its folder, in another folder, and compare what came out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, raise_if_any
from ..identity import changes, pinning
from ..output import MANIFEST_NAME, SETTINGS_NAME, read_if_sound, read_json
from ..stages.stage_identity import WITHOUT_EFFECT, Results
from ..tasks.base import TEST
from ..training.scores.selection import shown_scores, test_contents
from ..wording import listed
from .checking.undisturbed import silent
from .parsing import read_yaml
from .recipe import Recipe, read_recipe
from .recipe_keys import OWNERS
from .recorded import RECIPE_NAME, moved_since, read_commits, refuse_in_memory
from .run import RECIPE_HEAD, run
from .run_folder import RunFolder
from .run_task import task_of_run
from .step_records import STAGES, all_steps
from .table import BEST, NOT_A_SCORE, TRIMMED, markdown_table

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
_INPUTS = {"task", "rows", "data", "arguments", "processes"}
"""Keys of a stage's identity that are no models, and nothing that follows from those."""


@dataclass(frozen=True)
class Repeated:
    """One model of a run, then and now."""

    model: str
    scores: dict[str, tuple[float, float]]
    """Score -> (then, now)."""
    same_weights: bool | None
    """None for a model that neither run made, or of which one has no record."""

    @property
    def difference(self) -> float:
        """The largest difference of a score."""
        return max((abs(now - then) for then, now in self.scores.values()), default=0.0)


@dataclass(frozen=True)
class Reproduction:
    """What a repeated run gave."""

    folder: Path
    models: list[Repeated]
    versions: list[str]
    """Versions of libraries that differ, `torch 2.13.0 -> 2.14.0`."""
    inputs: list[str] = field(default_factory=list)
    """What else differs of what went in, `data train changed`: rows, given models, arguments."""

    @property
    def difference(self) -> float:
        """The largest difference of a score of any model."""
        return max((model.difference for model in self.models), default=0.0)

    def __str__(self) -> str:
        """A table of the main scores and the weights, and which versions and inputs differ."""
        rows = [["model", "score", "then", "now", "weights"]]
        for model in self.models:
            same = {True: "the same", False: "differ", None: ""}[model.same_weights]
            for score, (then, now) in model.scores.items():
                rows.append([model.model, score, f"{then:.4f}", f"{now:.4f}", same])
        lines = [markdown_table(rows)]
        if self.versions:
            lines.append(f"Other versions: {', '.join(self.versions)}.")
        if self.inputs:
            lines.append(f"Other inputs: {', '.join(self.inputs)}.")
        return "\n\n".join(lines)


@pinning()
def reproduce(folder: Path, output_dir: Path | None = None) -> Reproduction:
    """Run the recipe of a finished run again, in a folder of its own.

    Args:
        folder: of the run.
        output_dir: of the repetition [FOLDER-again]. A repetition that was cut off goes on there.

    Raises:
        InputError: no finished run, or its rows are not where they were and those found instead are others; and see
            the stages.
        TrainingError: see the stages.
    """
    read_commits(folder)
    with silent():  # the recipe is read once more for the repetition
        recipe, then = _read(folder)
    refuse_in_memory(folder / RECIPE_NAME)
    named = folder if folder.name not in ("", "..") else folder.resolve()
    again = output_dir or named.with_name(f"{named.name}-again")
    if again.resolve() == folder.resolve():
        raise InputError(f"output_dir: expected another folder than that of the run, got {again}; give another")
    repeated = read_recipe(folder / RECIPE_NAME, [f"output_dir={again}", "keep=all", "require=null"])
    _compare_rows(recipe, then, repeated, folder / RECIPE_NAME)
    now = run(repeated)
    models = [
        Repeated(name, _both(then[name], now[name]), _same_weights(RunFolder(recipe), RunFolder(repeated), name))
        for name in now
        if name in then
    ]
    both = RunFolder(recipe), RunFolder(repeated)
    models += _trimmed(then, now, *both)
    return Reproduction(again, models, _versions(*both), _inputs(*both, then, now))


def _read(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the results of a finished run. Raises `InputError` if there is none."""
    file = folder / RECIPE_NAME
    if not file.is_file() or not file.read_text("utf-8", errors="replace").startswith(RECIPE_HEAD):
        raise InputError(f"run: expected the folder of a run, got {folder}; give one that `ted run` wrote")
    results = read_json(folder / "results.json")
    if not isinstance(results, dict):
        raise InputError(f"run: expected a finished run, got {folder} without results; finish it with `ted run`")
    return read_recipe(file, [f"output_dir={folder}"]), results


def _compare_rows(recipe: Recipe, then: Mapping[str, Results], repeated: Recipe, file: Path) -> None:
    """Warn of other rows than those of the run before anything is trained on them.

    Args:
        file: that the run has recorded its recipe in.

    Raises:
        InputError: they are those of another file, as the run's is not where it was.
    """
    with silent():  # the run itself will say what it reads
        task = task_of_run(repeated)
        data = task.identity["data"]
    changed = [split for split, content in _rows_of(RunFolder(recipe)).items() if data.get(split) != content]
    if task.test_identity not in (tests := test_contents(then.values())) and tests:
        changed.append(TEST)
    moved = moved_since(read_yaml(file, "recipe"), file)
    raise_if_any(
        f"{name}: expected the rows of the run, of {moved[name]}, which is not there, got other rows, of "
        f"{Path(str(getattr(repeated.task, name))).resolve()}; put the file back, or run this from another folder"
        for name in (f"{split}_file" for split in changed)
        if name in moved
    )
    if changed:
        logger.warning(
            "data: expected the rows of the run, got others for %s (%s): scores and weights will be others too",
            listed(changed), ", ".join(task.sources.get(split, "none") for split in changed),
        )  # fmt: skip


def _rows_of(at: RunFolder) -> dict[str, str]:
    """The content of each split of a run, as its first stage has recorded it; nothing of test rows."""
    for step in all_steps(at, ()):
        if step.kind in STAGES:
            identity = read_if_sound(Path(at.arguments(step.name)[0].output_dir) / SETTINGS_NAME).get("identity", {})
            return dict(identity.get("data", {}))
    return {}


def _trimmed(then: Mapping[str, Any], now: Mapping[str, Any], before: RunFolder, after: RunFolder) -> list[Repeated]:
    """The best student with fewer tokens, which RUN/best holds; nothing of runs without."""
    found = []
    for name, result in now.items():
        if name in then and TRIMMED in then[name] and TRIMMED in result:
            same = _equal([_sum(at.folder / BEST) for at in (before, after)])
            found.append(Repeated(BEST, _both(then[name][TRIMMED], result[TRIMMED]), same))
    return found


def _both(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Scores that both have."""
    scores = {name: value for name, value in shown_scores(dict(now)).items() if name not in NOT_A_SCORE}
    return {name: (float(then[name]), float(value)) for name, value in scores.items() if name in then}


def _same_weights(then: RunFolder, now: RunFolder, name: str) -> bool | None:
    return _equal([_sum(Path(at.model(name))) if at.makes(at.model(name)) else None for at in (then, now)])


def _equal(sums: list[Any]) -> bool | None:
    return None if None in sums else sums[0] == sums[1]


def _sum(folder: Path) -> Any:
    """The recorded sum of a model's weights, which is there also where the weights were dropped."""
    return read_if_sound(folder / MANIFEST_NAME).get("files", {}).get(WEIGHTS)


def _versions(then: RunFolder, now: RunFolder) -> list[str]:
    """Differences between the versions of the last stage."""
    manifests = [read_if_sound(Path(at.model([*OWNERS, *at.methods][-1])) / MANIFEST_NAME) for at in (then, now)]
    before, after = (manifest.get("versions", {}) for manifest in manifests)
    return [
        f"{name} {before[name]} -> {after[name]}" for name in before if name in after and before[name] != after[name]
    ]


def _that_count(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without those that change no result, of which each version records others."""
    return {name: value for name, value in arguments.items() if name not in WITHOUT_EFFECT}


def _inputs(before: RunFolder, after: RunFolder, then: Mapping[str, Results], now: Mapping[str, Results]) -> list[str]:
    """Differences between what went into the stages; models that a run makes follow from these."""
    found: dict[str, None] = {}
    for step in all_steps(before, ()):
        if step.kind not in STAGES:
            continue
        given = {role for role, model in step.by_role.items() if not before.makes(model)}
        settings = [
            read_if_sound(Path(at.arguments(step.name)[0].output_dir) / SETTINGS_NAME) for at in (before, after)
        ]
        identities = [
            {
                key: _that_count(value) if key == "arguments" else value
                for key, value in known.get("identity", {}).items()
                if key in _INPUTS | given
            }
            for known in settings
        ]
        if all(identities):
            same = settings[0].get("versions") == settings[1].get("versions")
            found |= dict.fromkeys(changes(*identities, same_versions=same))
    return [*found, *(["data test changed"] if test_contents(then.values()) != test_contents(now.values()) else [])]
