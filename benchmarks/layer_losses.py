r"""One mse_alpha for all tasks? TED with each layer loss and several weights, from the same models and filters.

    python benchmarks/layer_losses.py runs/layer_losses recipes/offline/stsb.yaml teacher=MODEL \
        train_file=stsb/train.parquet validation_file=stsb/validation.parquet
    python benchmarks/layer_losses.py runs/layer_losses        # the table of all that is there

The recipe is run with methods KD and TED, which makes teacher, student and filters; then Stage II starts from them
again for every loss and weight. Finished stages are skipped, so the same command resumes an interrupted comparison.
Give one recipe at a time: each adds its results to the folder, and the table shows all of them. Exit code: 0, 1 if
training fails, 2 if the input is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ted_distill import InputError, TrainingError, distill, load_task, read_recipe, run
from ted_distill.method.layer_losses import LAYER_LOSSES
from ted_distill.output import atomic_files, read_json, write_json
from ted_distill.runs.recipe import Recipe, stage_arguments
from ted_distill.runs.table import markdown_table

WEIGHTS = {"mse": [10.0, 100.0, 1000.0], "normalized_mse": [1.0, 10.0, 100.0]}


# --- what is run ----------------------------------------------------------------------------------------------


def compare(recipe: Recipe, weights: dict[str, list[float]]) -> dict[str, Any]:
    """Scores of teacher, student, KD, the recipe's own TED, and TED with each loss and weight."""
    made = run(recipe)
    folder = Path(str(recipe.run.output_dir))
    task = load_task(recipe.task)
    rows = []
    for layer_loss, of_loss in weights.items():
        for mse_alpha in of_loss:
            args, own = stage_arguments(recipe, "ted")
            args.output_dir = str(folder / f"ted_{layer_loss}_{mse_alpha:g}")
            args.cache_dir = str(folder / "states")
            own = dataclasses.replace(own, layer_loss=layer_loss, mse_alpha=mse_alpha)
            sys.stderr.write(f"== ted, {layer_loss}, mse_alpha {mse_alpha:g} -> {args.output_dir}\n")
            results = distill(folder / "teacher_filters", folder / "student_filters", task, args, own)
            rows.append({"layer_loss": layer_loss, "mse_alpha": mse_alpha, "results": results})
    shutil.rmtree(folder / "states", ignore_errors=True)
    published = stage_arguments(recipe, "ted")[1]
    own_row = {
        "layer_loss": published.layer_loss,
        "mse_alpha": published.layer_weight([(1, 1)]),
        "results": made["ted"],
    }
    return {"metric": task.metric, "models": made, "rows": [*rows, {**own_row, "of_recipe": True}]}


# --- the table ------------------------------------------------------------------------------------------------


def report(tasks: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: one row per loss and weight, one column per task."""
    head = ["", *(f"{name} ({measured['metric']})" for name, measured in tasks.items())]
    lines = [head]
    for model, title in (("teacher", "teacher"), ("student", "student, before training"), ("kd", "KD")):
        lines.append([title, *(_score(measured, measured["models"][model]) for measured in tasks.values())])
    of_recipe = [next(row for row in measured["rows"] if row.get("of_recipe")) for measured in tasks.values()]
    lines.append(
        ["TED as in the recipe"]
        + [
            f"{_score(measured, row['results'])} ({row['layer_loss']}, {row['mse_alpha']:g})"
            for measured, row in zip(tasks.values(), of_recipe, strict=True)
        ]
    )
    kinds = dict.fromkeys(
        (row["layer_loss"], row["mse_alpha"])
        for measured in tasks.values()
        for row in measured["rows"]
        if not row.get("of_recipe")
    )
    for layer_loss, mse_alpha in kinds:
        cells = [_cell(measured, layer_loss, mse_alpha) for measured in tasks.values()]
        lines.append([f"TED, {layer_loss}, mse_alpha {mse_alpha:g}", *cells])
    lines.append(["variance of each pair's teacher states", *(_variances(measured) for measured in tasks.values())])
    return markdown_table(lines) + "\n"


def _score(measured: dict[str, Any], results: dict[str, Any]) -> str:
    return f"{results[measured['metric']]:.2f}"


def _cell(measured: dict[str, Any], layer_loss: str, mse_alpha: float) -> str:
    found = [
        row["results"] for row in measured["rows"] if (row["layer_loss"], row["mse_alpha"]) == (layer_loss, mse_alpha)
    ]
    return _score(measured, found[0]) if found else ""


def _variances(measured: dict[str, Any]) -> str:
    found = [row["results"]["teacher_variances"] for row in measured["rows"] if "teacher_variances" in row["results"]]
    return ", ".join(f"{variance:.3g}" for variance in found[0]) if found else ""


# --- the command ----------------------------------------------------------------------------------------------


def read_weights(options: Sequence[str]) -> dict[str, list[float]]:
    """`normalized_mse=0.1,1` -> the loss and its weights. Raises `InputError`."""
    found, problems = {}, []
    for option in options:
        name, _, numbers = option.partition("=")
        try:
            found[name] = [float(number) for number in numbers.split(",")]
        except ValueError:
            problems.append(f"--weights: expected LOSS=NUMBER,NUMBER, got {option}")
        if name not in LAYER_LOSSES:
            problems.append(f"--weights: expected one of {', '.join(LAYER_LOSSES)}, got {name}")
    if problems:
        raise InputError(problems)
    return found or WEIGHTS


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, record, print the table of all tasks in the folder. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="docs/results.md has a table made by this."
    )
    parser.add_argument("folder", type=Path, help="of all runs and records")
    parser.add_argument("recipe", nargs="?", help="one that makes its models; its output_dir is not used")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for `ted run`")
    parser.add_argument("--weights", nargs="+", default=[], metavar="LOSS=W,W", help="mse=1,100 normalized_mse=1")
    options = parser.parse_args(argv)
    try:
        if options.recipe:
            name = Path(options.recipe).stem
            fixed = ["methods=[kd,ted]", "ted.student_filters=learned", f"output_dir={options.folder / name}"]
            recipe = read_recipe(options.recipe, [*options.overrides, *fixed])
            measured = compare(recipe, read_weights(options.weights))
            with atomic_files(options.folder) as partial:
                write_json(partial / f"{name}.json", measured)
    except (InputError, TrainingError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, InputError) else 1
    tasks = {file.stem: read_json(file) or {} for file in sorted(options.folder.glob("*.json"))}
    sys.stdout.write(report(tasks) if tasks else f"{options.folder}: no records yet\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
