"""The methods of a recipe over several seeds, from one teacher: scores at the end of training, mean and deviation.

    python -m benchmarks.seeds recipes/offline/stsb.yaml --seeds 5 teacher=MODEL train_file=... validation_file=... \
        output_dir=runs/worth/stsb
    python -m benchmarks.seeds recipes/offline/stsb.yaml --seeds 2 --vary distill.num_train_epochs=1,2,4,8 ...

The teacher is fine-tuned once, with the recipe's own seed; Stage I, the start of the student's filters and Stage II run
once for each seed. Every seed is a run in `OUTPUT/seed-N`, so that what was cut off goes on. The scores are those of
the last weights, not the best of several evaluations. The last column is the part of the gap between the student alone
and the teacher that a method closes, which means nothing where there is hardly a gap. With `--vary` there is a table
for each value of a key, and runs are in `OUTPUT/KEY-VALUE/seed-N`.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
from pathlib import Path
from typing import Any

from ted_distill import finetune, read_recipe, run
from ted_distill.runs.recipe import stage_arguments
from ted_distill.runs.table import markdown_table
from ted_distill.stages.methods import METHODS
from ted_distill.tasks import load_task

Scores = dict[str, list[float]]


def main() -> None:
    """Run what is missing, then print the table and write it to `OUTPUT/seeds.json` and `OUTPUT/seeds.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--vary", help="KEY=VALUE,VALUE,...: the same for each value of a key")
    parser.add_argument("overrides", nargs="*", help="key=value, as with ted run")
    arguments = parser.parse_intermixed_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folder = Path(str(read_recipe(arguments.recipe, arguments.overrides).run.output_dir))
    metric = fine_tuned(arguments.recipe, arguments.overrides)["metric"]
    key, _, values = (arguments.vary or "=").partition("=")
    found: dict[str, Scores] = {}
    # Seeds outside, so that what is cut off has as many seeds of each value.
    for seed in range(1, arguments.seeds + 1):
        for value in values.split(","):
            name = f"{key} {value}" if key else ""
            changes = [*arguments.overrides, *([f"{key}={value}"] if key else [])]
            own = folder / f"{key}-{value}" if key else folder
            for method, score in of_seed(arguments.recipe, changes, folder, own, seed, metric).items():
                found.setdefault(name, {}).setdefault(method, []).append(score)
            write(folder, found, metric)


def fine_tuned(file: str, overrides: list[str]) -> dict[str, Any]:
    """Fine-tune the teacher of a recipe, once."""
    recipe = read_recipe(file, overrides)
    args, model_arguments = stage_arguments(recipe, "finetune_teacher")
    return finetune(str(recipe.run.teacher), load_task(recipe.task), args, model_arguments)


def of_seed(file: str, overrides: list[str], folder: Path, own: Path, seed: int, metric: str) -> dict[str, float]:
    """The score of each model of a run at the end of its training.

    Args:
        folder: of the teacher and the cache of its outputs, which all seeds share.
        own: of the runs.
    """
    results = run(read_recipe(file, [
        *overrides, f"teacher={folder / 'teacher'}", "finetune_teacher=false", f"output_dir={own / f'seed-{seed}'}",
        f"training.seed={seed}", f"training.cache_dir={folder / 'states-cache'}", "training.disable_tqdm=true",
    ]))  # fmt: skip
    return {name: result.get(f"last_{metric}", result[metric]) for name, result in results.items()}


def write(folder: Path, found: dict[str, Scores], metric: str) -> None:
    """The tables of the seeds that are finished."""
    text = "\n\n".join(
        "\n\n".join([*([f"**{name}**"] if name else []), table(scores, metric)]) for name, scores in found.items()
    )
    name = "seeds-" + "-".join(found).replace(" ", "-").replace(".", "_") if "" not in found else "seeds"
    (folder / f"{name}.json").write_text(json.dumps({"metric": metric, "scores": found}, indent=2) + "\n", "utf-8")
    (folder / f"{name}.md").write_text(text + "\n", "utf-8")
    logging.warning("%s", text)


def table(scores: Scores, metric: str) -> str:
    """Mean and standard deviation over the seeds of each method, and the share of the gap that it closes."""
    means = {name: statistics.mean(values) for name, values in scores.items()}
    gap = means["teacher"] - means["alone"]
    rows = [["model", metric, "standard deviation", "seeds", "gap closed"]]
    for name, values in scores.items():
        once = name not in METHODS
        spread = "" if once or len(values) < 2 else f"{statistics.stdev(values):.2f}"
        closed = f"{100 * (means[name] - means['alone']) / gap:.0f} %" if not once and name != "alone" else ""
        title = "student, untrained" if name == "student" else name if once else METHODS[name].title
        rows.append([title, f"{means[name]:.2f}", spread, "" if once else str(len(values)), closed])
    return markdown_table(rows)


if __name__ == "__main__":
    main()
