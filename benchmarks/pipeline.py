"""Time, peak memory and disk of a whole run: teacher and student fine-tuned, Stage I for both, Stage II.

    python benchmarks/pipeline.py --train_file sst2/train.parquet --validation_file sst2/validation.parquet
    python benchmarks/pipeline.py --variants plain default default+cache_limit=0    # without files: made-up sentences
    python benchmarks/pipeline.py --variants plain default default+workers=2        # two stages at once, where they can

Random DeBERTa-v3 models and a tokenizer of the training text are made once. Then each variant is a `ted run` of the
same recipe, apart from the variant's fields, in a new process without tokenised data or a GPU. Variants run one
after another, every second time in the opposite order. OMP_NUM_THREADS sets the number of threads, TMPDIR the folder
for all files, which are deleted afterwards (base-xsmall: keep 15 GB free). Exit code: 0, 1 if a run fails, 2 if the
input is wrong.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import step_flops
from step_flops import KL_ALPHA, MSE_ALPHA, TEMPERATURE, Shape, Shapes
from step_process import WorkerError
from steps import VariantError, cpu_model, progress, variant_arguments

# `steps.py` pairs each block with one block, so a student with fewer blocks is possible only here.
SHAPES = {**step_flops.SHAPES, "small": Shapes(Shape(6, 384, 6, 1536), Shape(3, 384, 6, 1536), 128_100, 512, 256)}
LEARNING_RATE = 1e-4
VOCABULARY = 8_000
TEXTS = ("text", "text_pair", "question", "context")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_PAUSE = 0.25  # seconds between two looks at the disk


# --- what is run ----------------------------------------------------------------------------------------------


def shared_recipe(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The recipe of all variants; made-up data are written where no files are given."""
    files = options.train_file, options.validation_file
    if options.train_file is None:
        files = folder / "train.jsonl", folder / "validation.jsonl"
        write_sentences(files[0], options.max_train_samples, mean_words=9, seed=1)
        write_sentences(files[1], options.max_eval_samples, mean_words=19, seed=2)
    return {
        "task": options.task, "train_file": str(files[0]), "validation_file": str(files[1]),
        **{name: getattr(options, name) for name in ("max_train_samples", "max_eval_samples", "max_seq_length")},
        "teacher": str(folder / "teacher"), "student": str(folder / "student"), "methods": options.methods,
        "training": {
            "num_train_epochs": options.epochs, "per_device_train_batch_size": options.batch_size,
            "learning_rate": LEARNING_RATE, "report_to": "none",
        },
        # The published method: both models have a Stage I, and the student has dropout.
        "filter_init": "normal",
        "distill": {"kl_alpha": KL_ALPHA, "temperature": TEMPERATURE, "layer_loss": "mse", "student_dropout": True},
        **{method: {"mse_alpha": MSE_ALPHA} for method in options.methods if method == "lwd"},
        **{name: {"mse_alpha": MSE_ALPHA, "student_filters": "learned"} for name in options.methods if name == "ted"},
    }  # fmt: skip


def write_sentences(file: Path, rows: int, mean_words: int, seed: int) -> None:
    """Sentences of made-up words, about as long as those of SST-2; four words of five tell the label."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = random.Random(0).sample([first + second for first in syllables for second in syllables], 4000)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    weights = [1 / rank for rank in range(1, len(pairs) + 1)]
    generator = random.Random(seed)
    lines = []
    for row in range(rows):
        count = min(1 + round(generator.expovariate(1 / (mean_words - 1))), 60)
        drawn = generator.choices(pairs, weights, k=count)
        sentence = " ".join(pair[row % 2 if generator.random() < 0.8 else 1 - row % 2] for pair in drawn)
        lines.append(json.dumps({"sentence": sentence, "label": row % 2}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(recipe: dict[str, Any], shapes: Shapes, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Check the variants and the data, then save both models with a tokenizer of the training text.

    In a process of its own: a process starts with its parent's peak memory, so the parent has to stay small.
    Returns the report's facts about data and machine, or errors in the input under `problems`.
    """
    os.environ |= {**OFFLINE, "HF_DATASETS_CACHE": str(Path(recipe["teacher"]).with_name("datasets"))}
    import torch
    from transformers import BertTokenizer
    from transformers.utils.logging import disable_progress_bar

    from step_trainers import SPECIAL, make_model
    from ted_distill import StageArguments, TaskArguments, load_task
    from ted_distill.errors import collect
    from ted_distill.output import versions
    from ted_distill.runs.parsing import field_names, from_values

    disable_progress_bar()
    problems: list[str] = []
    for name, fields in variants.items():
        with collect(problems):
            from_values((StageArguments,), {"output_dir": recipe["teacher"], **_split(fields)[1]}, name)
    with collect(problems):
        # All rows: the tokenizer of a real model knows more words than a sample of the data contains.
        wanted = field_names(TaskArguments) - {"max_train_samples", "max_eval_samples"}
        task = load_task(TaskArguments(**{key: value for key, value in recipe.items() if key in wanted}))
        rows = task.rows
    if problems:
        return {"problems": problems}
    texts = [text for name in TEXTS if name in rows["train"].column_names for text in rows["train"][name]]
    special = {token: number for number, token in enumerate(SPECIAL)}
    size = min(VOCABULARY, shapes.vocabulary)
    # A third: every letter may be in it twice, at the beginning of a word and inside, whatever the size.
    tokenizer = BertTokenizer(special, model_max_length=shapes.max_positions).train_new_from_iterator(
        texts, size, limit_alphabet=min(1000, size // 3), show_progress=False
    )
    for name in ("teacher", "student"):
        make_model(name, getattr(shapes, name), shapes, task).model.save_pretrained(recipe[name])
        tokenizer.save_pretrained(recipe[name])
    samples = {"train": recipe["max_train_samples"], "validation": recipe["max_eval_samples"]}
    return {
        "versions": versions(), "threads": torch.get_num_threads(), "vocabulary": len(tokenizer),
        "rows": {name: min(sample, len(rows[name])) for name, sample in samples.items()},
    }  # fmt: skip


# --- measuring ------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All runs: the contents of the JSON file. Wrong input is under `problems`, a failed run under `failure`."""
    environment = {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "KMP_", "GOMP_"))}
    measured: dict[str, Any] = {"command": shlex.join(sys.argv), "settings": vars(options), "cpu": cpu_model()}
    measured |= {"environment": environment, "failure": None, "runs": []}
    with tempfile.TemporaryDirectory() as name:
        recipe = shared_recipe(options, Path(name))
        progress("making the models")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            measured |= {"recipe": recipe, **process.submit(prepare, recipe, SHAPES[options.shapes], variants).result()}
        repetitions = range(0 if "problems" in measured else options.repeats)
        for number, variant in [(n, v) for n in repetitions for v in list(variants)[:: -1 if n % 2 else 1]]:
            progress(f"repetition {number + 1} of {options.repeats}, {variant}")
            of_run, of_stages = _split(variants[variant])
            training = {**recipe["training"], **of_stages}
            try:
                run = run_recipe({**recipe, **of_run, "training": training}, Path(name) / "run")
            except WorkerError as error:
                return measured | {"failure": f"{variant}: {error}"}
            measured["runs"].append({"variant": variant, "repetition": number, "arguments": variants[variant], **run})
    return measured


def variant_fields(name: str) -> dict[str, Any]:
    """The same as in `steps.py`, and `+workers=N`, which is a run's."""
    parts = name.split("+")
    workers = [part.partition("=")[2] for part in parts if part.startswith("workers=")]
    if not all(number.isdecimal() and int(number) for number in workers):
        raise VariantError(f"{name}: expected +workers=N with a whole number of at least 1")
    rest = variant_arguments("+".join(part for part in parts if not part.startswith("workers=")))
    return rest | ({"workers": int(workers[-1])} if workers else {})


def _split(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a variant sets of the run, and what of its stages."""
    of_run = {name: value for name, value in fields.items() if name == "workers"}
    return of_run, {name: value for name, value in fields.items() if name not in of_run}


def run_recipe(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One `ted run` in a folder, which is deleted, and what it took.

    Raises:
        WorkerError: it failed; says what it printed last.
    """
    out = folder / "out"
    out.mkdir(parents=True)
    file = folder / "recipe.yaml"
    file.write_text(json.dumps({**recipe, "output_dir": str(out)}), encoding="utf-8")  # which is YAML too
    command = [sys.executable, "-m", "ted_distill", "run", str(file)]
    alone = {"HF_DATASETS_CACHE": str(folder / "datasets"), "CUDA_VISIBLE_DEVICES": ""}
    most = {"most on disk": 0, "most in caches": 0}
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(out, most, ended), daemon=True)
    with (folder / "printed").open("w+", encoding="utf-8", errors="replace") as printed:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, stderr=printed, env={**OFFLINE, **os.environ, **alone})
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            process.kill()  # if interrupted; one that ended is let be
            process.wait()
            ended.set()
            watcher.join()
        if process.returncode:
            printed.seek(0)
            tail = "".join(printed.readlines()[-15:])
            raise WorkerError(f"the run ended with exit code {process.returncode}\n{tail}")
    done = sorted(finished(out), key=lambda file: file.stat().st_mtime_ns)
    results = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in done}
    shutil.rmtree(folder)
    times = {stage: result["seconds"] for stage, result in results.items()}
    # Stages that were at work at once leave nothing to tell it by.
    other = 0.0 if recipe.get("workers", 1) > 1 else seconds - sum(times.values())
    whole = {"all else": other, "total": seconds, "CPU": usage.ru_utime + usage.ru_stime}
    sizes = {"peak memory": 1024 * usage.ru_maxrss, **most}
    scores = {stage: result[result["metric"]] for stage, result in results.items()}
    return {"seconds": {**times, **whole}, "bytes": sizes, "scores": scores, "results": results}


def finished(folder: Path) -> list[Path]:
    """The results of each finished stage of a run; its `best` is a copy of one of them."""
    return [file for file in folder.glob("*/all_results.json") if file.parent.name != "best"]


def watch(folder: Path, most: dict[str, int], ended: threading.Event) -> None:
    """Keep in `most` what a run and its caches take on the disk at their largest, and say which stages are done."""
    said: set[str] = set()
    while not ended.wait(_PAUSE):
        with suppress(FileNotFoundError):  # deleted during the look; the next one is soon
            sizes = {file.relative_to(folder): file.stat().st_blocks * 512 for file in folder.rglob("*")}
            cached = sum(size for file, size in sizes.items() if "states-cache" in file.parts)
            for what, size in (("most on disk", sum(sizes.values())), ("most in caches", cached)):
                most[what] = max(most[what], size)
            for stage in {file.parent.name for file in finished(folder)} - said:
                said.add(stage)
                progress(f"  {stage} is done")


# --- the table ------------------------------------------------------------------------------------------------


def report(measured: dict[str, Any]) -> str:
    """Medians over the repetitions of each variant, and those of plain over those of the others."""
    settings, runs = measured["settings"], measured["runs"]
    names = list(dict.fromkeys(run["variant"] for run in runs))
    runs_of = {name: [run for run in runs if run["variant"] == name] for name in names}
    others = [name for name in names if name != "plain"] if "plain" in names else []
    metric = runs[0]["results"]["teacher"]["metric"]
    table = [["", *names, *(f"plain/{name}" for name in others)]]
    for group, unit, scale, digits in (("seconds", "s", 1, 1), ("bytes", "GB", 1e9, 2), ("scores", metric, 1, 2)):
        for key in runs[0][group]:
            medians = {name: statistics.median(run[group][key] for run in runs_of[name]) / scale for name in names}
            table.append([f"{key} {unit}", *(f"{median:.{digits}f}" for median in medians.values())])
            if group != "scores":  # they are to be alike
                ratios = [medians["plain"] / medians[name] if medians[name] else 0 for name in others]
                table[-1] += [f"{ratio:.2f}x" if ratio else "-" for ratio in ratios]
    widths = [max(map(len, column)) for column in zip_longest(*table, fillvalue="")]
    lines = ["  ".join([label.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]) for label, *cells in table]
    head = (
        f"{measured['cpu']}, {measured['threads']} threads; {settings['shapes']}, {settings['task']}, "
        f"{measured['rows']['train']} rows, {settings['epochs']} epochs of batches of {settings['batch_size']}"
    )
    return "\n".join([head, "", *lines]) + "\n"


# --- the command ----------------------------------------------------------------------------------------------


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--train_file", metavar="FILE", help="data to train on [made-up sentences]")
    parser.add_argument("--validation_file", metavar="FILE", help="data to score on")
    parser.add_argument("--task", default="sst2", help="a name that `ted list` has [sst2]")
    numbers = {"max_train_samples": 256, "max_eval_samples": 128, "epochs": 3, "batch_size": 8, "repeats": 1}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"[{default}]")
    parser.add_argument("--max_seq_length", type=int, help="[128; tiny: 64]")
    parser.add_argument("--methods", nargs="+", choices=("kd", "lwd", "ted"), default=["ted"], help="[ted]")
    parser.add_argument("--shapes", choices=tuple(SHAPES), default="base-xsmall", help="sizes of the models")
    parser.add_argument(
        "--variants", nargs="+", default=["plain", "default"], help="as of steps.py, less textbrewer; and +workers=N"
    )
    parser.add_argument("--json", metavar="FILE", help="write all that was measured")
    options = parser.parse_args(argv)
    for name, value in vars(options).items():
        if isinstance(value, int) and value < 1:
            parser.error(f"--{name}: expected at least 1, got {value}")
    longest = SHAPES[options.shapes].max_positions
    options.max_seq_length = options.max_seq_length or min(128, longest)
    if options.max_seq_length > longest:
        parser.error(f"--max_seq_length: expected at most {longest} tokens with these models")
    if (options.train_file is None) != (options.validation_file is None):
        parser.error("--train_file, --validation_file: expected both or none")
    if options.train_file is None and options.task != "sst2":
        parser.error("--task: the made-up sentences are for sst2; give --train_file and --validation_file too")
    if "textbrewer" in options.variants:
        parser.error("--variants: textbrewer does not do all stages; it is in steps.py")
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        parser.error(f"--json: the folder of {options.json} does not exist")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the file. Returns the exit code."""
    options = read_options(argv)
    try:
        measured = measure(options, {name: variant_fields(name) for name in options.variants})
    except VariantError as error:
        sys.stderr.write(f"--variants: {error}\n")
        return 2
    if "problems" in measured:
        sys.stderr.write("the input was refused.\n" + "".join(f"- {problem}\n" for problem in measured["problems"]))
        return 2
    if measured["runs"]:
        sys.stdout.write(report(measured))
    if options.json is not None:
        Path(options.json).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if measured["failure"] is not None:
        sys.stderr.write(measured["failure"] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
