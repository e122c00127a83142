"""Time optimizer steps of Stage I and Stage II, with speed-ups on and off, and compared with other packages.

    python benchmarks/steps.py [--stages 1 2] [--lengths 32 128 384] [--variants plain default textbrewer silverspoon]
    python benchmarks/steps.py --epochs 3 --variants plain default    # what a second epoch saves

Random DeBERTa-v3 models of the sizes of base (teacher) and xsmall (student), rows of random tokens, and the
package's own trainers. Every variant is a separate process. Those of one stage and length take turns, one step
each, so a slow minute of the machine affects all of them; while one computes, the others wait.
OMP_NUM_THREADS sets the number of threads. Exit code: 0, 1 if a run fails, 2 if the command line is wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_flops import SHAPES, step_flops
from step_process import WorkerError, started
from step_report import report

PLAIN = {
    "bf16": False,
    "disentangled_attention": "plain",
    "fast_dropout": False,
    "packed_linear": False,
    "keep_freed_memory": False,
    "freeze_unseen_embeddings": False,
    "frozen_dtype": "float32",
    "cache_limit": 0,
    "optim": "adamw_torch",
    "train_sampling_strategy": "random",
}
"""Fields of `StageArguments` with everything off: what a direct implementation would do."""

PACKAGES = {"textbrewer": "textbrewer", "silverspoon": "silverspoon-kd"}
"""Variants that are other packages -> their names; they have no Stage I."""

VARIANTS: dict[str, dict[str, Any]] = {"plain": PLAIN, "default": {}, **{name: {} for name in PACKAGES}}
"""Name -> fields of `StageArguments` that it sets; other packages have none."""

VARIANTS_HELP = """\
variants:
  plain        everything that makes steps fast is off: float32, attention and dropout of PyTorch, no cache
  default      as the commands do it when nothing is set
  textbrewer   the same models distilled by the package TextBrewer (stage 2; hidden_mse on every block, KD, labels)
  silverspoon  the same by the package silverspoon-kd (stage 2; mse on every block, KL, labels)
  +compile     after plain or default: torch_compile, as in default+compile
  +FIELD=VALUE after plain or default: one field of StageArguments, as in default+bf16=false+cache_limit=0

The first steps of each (--warmup, two more with +compile; with --epochs the first alone) are not counted.
"""


class VariantError(Exception):
    """A variant that does not exist."""


# --- variants -------------------------------------------------------------------------------------------------


def variant_arguments(name: str) -> dict[str, Any]:
    """Fields of `StageArguments` that a variant sets.

    Raises:
        VariantError: there is no such variant, or its package is missing.
    """
    base, *changes = name.split("+")
    if base not in VARIANTS or (changes and base in PACKAGES):
        raise VariantError(f"{name}: expected one of {', '.join(VARIANTS)}, and after plain or default +compile")
    if not is_installed(base):
        raise VariantError(f"{base}: pip install {PACKAGES[base]}, or leave it out with --variants plain default")
    arguments = dict(VARIANTS[base])
    for change in changes:
        field, separator, value = change.partition("=")
        if change == "compile":
            arguments["torch_compile"] = True
        elif separator and field in _stage_fields():
            arguments[field] = _yaml(value)
        else:
            raise VariantError(f"{name}: expected +compile or +FIELD=VALUE of StageArguments, got +{change}")
    return arguments


def is_installed(variant: str) -> bool:
    """Whether what a variant needs is there."""
    return variant not in PACKAGES or importlib.util.find_spec(PACKAGES[variant].replace("-", "_")) is not None


def installed_variants() -> list[str]:
    """Those to time if none are named; the others are said."""
    for name in PACKAGES:
        if not is_installed(name):
            progress(f"{name} is left out: pip install {PACKAGES[name]}")
    return [name for name in VARIANTS if is_installed(name)]


def _stage_fields() -> set[str]:
    # Imported only here: it takes seconds, and nothing else in this process needs torch.
    from ted_distill.training.stage_arguments import StageArguments

    return {field.name for field in dataclasses.fields(StageArguments)}


def _yaml(value: str) -> Any:
    import yaml

    return yaml.safe_load(value)


# --- measuring ------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All runs, and the rate of the machine's bf16 products: the contents of the JSON file.

    A failed run ends the measurement and is named under `failure`.

    Raises:
        WorkerError: not even the rate could be measured.
    """
    common = {"device": options.device, "shapes": options.shapes}
    results: list[dict[str, Any]] = []
    rates: list[float] = []
    failure = None
    with started([{"variant": "rate", "arguments": {}, **common}]) as [(rate, about)]:
        try:
            for stage, length in itertools.product(options.stages, options.lengths):
                # Between the runs rather than once: the best of them is less likely to be from a slow minute.
                rates.append(rate.ask("step")["flops_per_second"])
                names = [name for name in variants if stage == 2 or name not in PACKAGES]
                progress(f"stage {stage}, T {length}: starting {', '.join(names)}")
                jobs = [
                    {
                        "variant": name, "arguments": variants[name], "stage": stage, "task": options.task,
                        "length": length, "batch_size": options.batch_size, "epochs": options.epochs,
                        "steps": options.steps + warmup(name, options), **common,
                    }
                    for name in names
                ]  # fmt: skip
                results += measure_together(jobs, options)
        except WorkerError as error:
            failure = str(error)
    return {
        "command": shlex.join(sys.argv),
        "settings": {**vars(options), "json": None if options.json is None else str(options.json)},
        "versions": about["versions"],
        "machine": {"cpu": cpu_model(), "threads": about["threads"], "device": about["device_name"] or "cpu"},
        "environment": {
            name: value for name, value in os.environ.items() if name.startswith(("OMP_", "KMP_", "GOMP_"))
        },
        "bf16_flops_per_second": max(rates, default=None),
        "failure": failure,
        "results": results,
    }


def warmup(name: str, options: argparse.Namespace) -> int:
    """Steps of a variant that are made first and not counted; in epochs mode the first of the first epoch."""
    return 0 if options.epochs > 1 else options.warmup + (2 if "compile" in name else 0)


def measure_together(jobs: Sequence[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs of one stage and length, in turns."""
    with started(jobs) as ready:
        workers = [worker for worker, _ in ready]
        for worker in workers:
            for _ in range(warmup(worker.name, options)):
                worker.step()
        for turn in range(options.steps * options.epochs):
            # A different one first in every turn, so none always follows the one that heats the machine.
            first = turn % len(workers)
            seconds = {worker.name: worker.step() for worker in (*workers[first:], *workers[:first])}
            times = ", ".join(f"{worker.name} {seconds[worker.name]:.3f} s" for worker in workers)
            progress(f"  step {turn + 1} of {options.steps * options.epochs}: {times}")
        ends = [worker.ask("stop") for worker in workers]
    results = []
    for job, (worker, about), end in zip(jobs, ready, ends, strict=True):
        skipped = warmup(worker.name, options)
        flops = step_flops(
            SHAPES[options.shapes], job["stage"], job["task"], job["batch_size"], job["length"],
            teacher_filters=worker.name not in PACKAGES,
        )  # fmt: skip
        results.append(
            {
                **{key: job[key] for key in ("variant", "stage", "task", "length", "batch_size")},
                "warmup_seconds": worker.seconds[:skipped],
                "seconds": worker.seconds[skipped:],
                "flops": flops,
                **about,
                **end,
            }
        )
    return results


def cpu_model() -> str:
    """The processor as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def progress(line: str) -> None:
    """Report progress on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


# --- the command ----------------------------------------------------------------------------------------------


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog=VARIANTS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--stages", type=int, nargs="+", choices=(1, 2), default=[1, 2], help="[1 2]")
    parser.add_argument("--lengths", type=_count, nargs="+", default=[32, 128, 384], help="tokens a row [32 128 384]")
    parser.add_argument("--batch_size", type=_count, default=8, help="rows a step [8]")
    parser.add_argument("--steps", type=_count, default=5, help="steps that count; with --epochs, of an epoch [5]")
    parser.add_argument("--warmup", type=_count, default=2, help="steps before them that do not [2]")
    parser.add_argument("--epochs", type=_count, default=1, help="go so often through a data set of --steps [1]")
    parser.add_argument("--task", choices=("classification", "qa"), default="classification", help="[classification]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="[cpu]")
    parser.add_argument("--variants", nargs="+", help="see below [all that are installed]")
    parser.add_argument("--shapes", choices=tuple(SHAPES), default="base-xsmall", help="sizes of the models")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    options = parser.parse_args(argv)
    longest = SHAPES[options.shapes].max_positions
    if max(options.lengths) > longest:
        parser.error(f"--lengths: expected at most {longest} tokens with these models")
    if options.epochs > 1 and options.steps < 2:
        parser.error("--steps: expected at least 2 with --epochs, as the very first is not counted")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: the folder of {options.json} does not exist")
    options.variants = options.variants or installed_variants()
    if options.stages == [1] and set(options.variants) <= set(PACKAGES):
        parser.error(f"--variants: {options.variants[0]} has no Stage I")
    return options


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the file. Returns the exit code."""
    options = read_options(argv)
    try:
        variants = {name: variant_arguments(name) for name in options.variants}
        measured = measure(options, variants)
    except VariantError as error:
        sys.stderr.write(f"--variants: {error}\n")
        return 2
    except WorkerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if measured["results"]:
        sys.stdout.write(report(measured))
    if options.json is not None:
        options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if measured["failure"] is not None:
        sys.stderr.write(measured["failure"] + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
