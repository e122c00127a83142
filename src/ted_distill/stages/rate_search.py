"""`learning_rate: auto`: successive halving over a few rates, on a part of the training rows held out for it.

Every rate trains a tenth of the stage, the best two that train then three tenths, each from the start and with the
whole schedule; the better of them is used. Validation and test rows play no part. Each trial is a stage in
`OUTPUT/rate-search`; of a finished one only its results stay there, so that a search that was cut off goes on after it.

In Stage II the teacher, and so a student made of its blocks, was trained on the rows held out too: scores on them are
too good, the more so the lower the rate. `ted compare --grid` makes the teacher anew without them.
"""

from __future__ import annotations

import copy
import gc
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from ..errors import NotFiniteError
from ..fast.states_cache import CACHE_NAME, remove_caches
from ..identity import plain
from ..output import atomic_files, on_main, read_if_sound, write_sealed
from ..progress import current_display
from ..tasks.base import Task
from ..training.scores.best_score import deciding_score
from ..training.stage_arguments import AUTO, StageArguments
from .lifecycle import TRIALS_NAME, OpenStage
from .rows.held_out import hold_out
from .stage_identity import Results

logger = logging.getLogger(__name__)

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""The rates that are tried, as multiples of the stage's default rate."""
RUNGS = ((5, 0.1), (2, 0.3))
"""How many rates are tried, and the share of the stage's length that each of them trains."""
SEARCHED = sum(number * share for number, share in RUNGS)
"""Updates of all trials, as a multiple of the stage's."""
_KEPT_NAME = "trials.json"
"""Identity and results of the trials that are finished, by the name of their folder, which is deleted."""
_UPDATES = ("num_decay_steps", "num_stable_steps", "timescale")
"""Arguments of transformers' schedules that count updates."""
OpenTrial = Callable[[Task, StageArguments], OpenStage]
"""Opens the same stage for other rows and arguments."""
Models = TypeVar("Models")


class Held(Generic[Models]):
    """The models of an open stage, which may be let go and are then loaded again, the same."""

    def __init__(self, load: Callable[[], Models], seed: int) -> None:
        self._load, self._seed = load, seed
        self._found: Models | None = load()

    def get(self) -> Models:
        """The models as they were loaded."""
        if self._found is None:
            set_seed(self._seed)
            self._found = self._load()
        return self._found

    def let_go(self) -> None:
        """Give back their memory."""
        self._found = None
        gc.collect()


def run_with_rate(
    held: Held[Models],
    run: Callable[[Models, StageArguments, Results], Results],
    open_trial: OpenTrial,
    task: Task,
    args: StageArguments,
    default: float,
) -> Results:
    """Run a stage, after a search for its learning rate if `args` ask for one.

    Args:
        held: what the stage has loaded; nothing of it is in memory while trials load their own.
        run: the stage with a learning rate that is a number, and what its results are to say besides its scores:
            `learning_rate`, every trial's score under `rate_search`, and the `search_seconds` that they trained.
        default: the stage's default rate.

    Raises:
        NotFiniteError: no rate led to a model with finite weights.
    """
    if args.learning_rate != AUTO:
        return run(held.get(), args, {})
    held.let_go()
    rate, found, seconds = search(open_trial, task, args, default)
    args = copy.copy(args)
    args.learning_rate = rate
    models = held.get()
    set_seed(args.seed)
    return run(models, args, {"learning_rate": rate, "rate_search": found, "search_seconds": round(seconds, 1)})


def search(
    open_trial: OpenTrial, task: Task, args: StageArguments, default: float
) -> tuple[float, dict[str, dict[str, float]], float]:
    """The best rate, the score of each trial (length in percent -> rate -> score), and the seconds of all of them.

    Raises:
        NotFiniteError: no trial gave a finite model.
    """
    folder = Path(args.output_dir) / TRIALS_NAME
    split = hold_out(task, args.seed)
    rates = [float(f"{default * factor:.3g}") for factor in FACTORS]
    found: dict[str, dict[str, float]] = {}
    seconds = 0.0
    for number, share in RUNGS:
        scores: dict[float, float] = {}
        for rate in rates:
            if len(scores) == number:
                break
            name = f"{share:.0%} of the training at {rate:g}"
            with current_display().show_part(f"trying rate {rate:g}"):
                try:
                    found_scores = _kept_result(open_trial(split, _trial_arguments(args, folder, rate, share)), folder)
                except NotFiniteError as error:
                    logger.warning("learning rate: %s failed (%s)", name, error)
                    continue
                finally:
                    gc.collect()  # the models of a trial, which its trainer holds in a circle
            seconds += found_scores["seconds"]
            metric, sign = deciding_score(args, task, found_scores)
            scores[rate] = float(found_scores[metric])
            logger.warning("learning rate: %s gives %s %.2f", name, metric, scores[rate])
        if not scores:
            raise NotFiniteError(
                f"learning_rate: expected one of {', '.join(f'{rate:g}' for rate in rates)} to train, but the loss "
                "became infinite or NaN with each; check the data, or give a lower learning_rate"
            )
        found[f"{share:.0%}"] = {f"{rate:g}": round(score, 4) for rate, score in scores.items()}
        # Of equal scores, the rate nearest to the default.
        rates = sorted(scores, key=lambda rate: (-sign * scores[rate], abs(np.log(rate / default))))
    on_main(lambda: remove_caches(folder / CACHE_NAME))
    return rates[0], found, seconds


def _kept_result(trial: OpenStage, folder: Path) -> Results:
    """The results of a trial, now or when the search was cut off; the model that it trained is deleted."""
    place, identity = Path(trial.args.output_dir), plain(trial.identity)
    kept = on_main(lambda: read_if_sound(folder / _KEPT_NAME))
    if kept.get(place.name, {}).get("identity") == identity:
        return Results(kept[place.name]["results"])
    results = trial.result()

    def keep() -> None:
        with atomic_files(folder) as partial:
            write_sealed(partial / _KEPT_NAME, {**kept, place.name: {"identity": identity, "results": results}})
        shutil.rmtree(place, ignore_errors=True)

    on_main(keep)
    return results


def _trial_arguments(args: StageArguments, folder: Path, rate: float, share: float) -> StageArguments:
    """Those of one trial: a share of the training, scored at its end."""
    trial = copy.copy(args)
    trial.output_dir = str(folder / f"{share:.0%}-{rate:g}".replace("%", ""))
    trial.learning_rate = rate
    if args.max_steps > 0:
        trial.max_steps = max(1, round(args.max_steps * share))
    trial.num_train_epochs = float(args.num_train_epochs or 1) * share
    if args.warmup_steps >= 1:
        trial.warmup_steps = round(args.warmup_steps * share)
    trial.lr_scheduler_kwargs = _shortened(args.lr_scheduler_kwargs, share)
    trial.eval_strategy, trial.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    trial.load_best_model_at_end = trial.keep_checkpoints = False
    trial.early_stopping_patience = trial.metric_for_best_model = trial.greater_is_better = None
    trial.report_to = []
    trial.cache_dir = args.cache_dir or str(folder / CACHE_NAME)
    return trial


def _shortened(schedule: Any, share: float) -> Any:
    """Arguments of a schedule with all counts of updates reduced to a share of them; what is no dict as it is."""
    if not isinstance(schedule, dict):
        return schedule
    return {
        name: max(1, round(value * share)) if name in _UPDATES and isinstance(value, int) and value > 0 else value
        for name, value in schedule.items()
    }
