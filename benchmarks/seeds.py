"""The methods of a recipe over several seeds, from one teacher: scores at the end of training, mean and deviation.

    python -m benchmarks.seeds recipes/offline/stsb.yaml --seeds 5 teacher=MODEL train_file=... validation_file=... \
        output_dir=runs/worth/stsb

The teacher is fine-tuned once, with the recipe's own seed; Stage I, the start of the student's filters and Stage II run
once for each seed. Every seed is a run in `OUTPUT/seed-N`, so that what was cut off goes on. The scores are those of the
last weights, not the best of several evaluations. The last line counts the part of the gap between the student alone and
the teacher that a method closes, which means nothing where there is hardly a gap.
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
    parser.add_argument("overrides", nargs="*", help="key=value, as with ted run")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    folder = Path(str(recipe.run.output_dir))
    results = fine_tuned(arguments.recipe, arguments.overrides)
    scores: Scores = {}
    metric = results["metric"]
    for seed in range(1, arguments.seeds + 1):
        of_seed = run(read_recipe(arguments.recipe, [
            *arguments.overrides, f"teacher={folder / 'teacher'}", "finetune_teacher=false",
            f"output_dir={folder / f'seed-{seed}'}", f"training.seed={seed}",
            f"training.cache_dir={folder / 'states-cache'}", "training.disable_tqdm=true",
        ]))  # fmt: skip
        for name, result in of_seed.items():
            scores.setdefault(name, []).append(result.get(f"last_{metric}", result[metric]))
        write(folder, scores, metric)


def fine_tuned(file: str, overrides: list[str]) -> dict[str, Any]:
    """Fine-tune the teacher of a recipe, once."""
    recipe = read_recipe(file, overrides)
    args, model_arguments = stage_arguments(recipe, "finetune_teacher")
    return finetune(str(recipe.run.teacher), load_task(recipe.task), args, model_arguments)


def write(folder: Path, scores: Scores, metric: str) -> None:
    """The table of the seeds that are finished."""
    found = {"metric": metric, "scores": scores}
    (folder / "seeds.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    (folder / "seeds.md").write_text(table(scores, metric) + "\n", encoding="utf-8")
    logging.warning("%s", table(scores, metric))


def table(scores: Scores, metric: str) -> str:
    """Mean and standard deviation over the seeds of each method, and the share of the gap that it closes."""
    means = {name: statistics.mean(values) for name, values in scores.items()}
    gap = means["teacher"] - means["alone"]
    rows = [["model", metric, "standard deviation", "seeds", "gap closed"]]
    for name, values in scores.items():
        once = len(set(values)) == 1
        spread = "" if once else f"{statistics.stdev(values):.2f}"
        closed = f"{100 * (means[name] - means['alone']) / gap:.0f} %" if name in METHODS and name != "alone" else ""
        title = METHODS[name].title if name in METHODS else {"student": "student, untrained"}.get(name, name)
        rows.append([title, f"{means[name]:.2f}", spread, "" if once else str(len(values)), closed])
    return markdown_table(rows)


if __name__ == "__main__":
    main()
