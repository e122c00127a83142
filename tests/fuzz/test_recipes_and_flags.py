"""Recipes and command lines of all sorts, sane and not: nonsense is refused in words, and nothing sane is.

What is sane is written down here anew, and looser than in the package: a value between `SANE` and what can never be
meant may be taken or refused. Commands stop before anything is loaded.
"""

from __future__ import annotations

import atexit
import io
import math
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ted_distill.cli.flags
import ted_distill.runs.run  # noqa: F401  (imported before the clock runs: this takes seconds)
from ted_distill.cli import main as cli

FOLDER = Path(tempfile.mkdtemp(prefix="ted-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
QUICK = settings(
    max_examples=80,
    deadline=timedelta(seconds=10),
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
LONG = settings(QUICK, max_examples=5000, derandomize=False)


# --- the oracle -----------------------------------------------------------------------------------------------


class Sort(NamedTuple):
    """One sort of argument: values to draw that are sane, and whether any value at all is nonsense."""

    sane: st.SearchStrategy[Any]
    nonsense: Callable[[Any], bool]


def number_of(value: Any) -> float | None:
    """The number that a value of YAML, or a word of a command line, means to a reader; None if it means none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def numbers(low: float, high: float, *, whole: bool, open_low: bool = False, also: tuple[float, ...] = ()) -> Sort:
    def nonsense(value: Any) -> bool:
        found = number_of(value)
        if found is None or not math.isfinite(found):
            return True
        if found in also:
            return False
        return found < low or (open_low and found <= low) or found > high or (whole and found != int(found))

    if whole:
        return Sort(st.integers(int(low), min(int(high), 5000)), nonsense)
    drawn = st.floats(low, min(high, 5.0), exclude_min=open_low, allow_subnormal=False)
    return Sort(drawn.filter(lambda value: not open_low or value > 1e-30), nonsense)


def words(*choices: str) -> Sort:
    return Sort(st.sampled_from(choices), lambda value: not isinstance(value, str) or value not in choices)


HUGE = 1e18
COUNT = numbers(1, HUGE, whole=True)
FROM_ZERO = numbers(0, HUGE, whole=True)
WEIGHT = numbers(0, HUGE, whole=False)
TRUTH = Sort(st.booleans(), lambda value: str(value).lower() not in _TRUTHS)
_TRUTHS = {"true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0", "1.0", "0.0"}
TEXT = Sort(st.sampled_from(["text", "a b", "label", "ä"]), lambda value: isinstance(value, (list, dict)))

TRAINING: dict[str, Sort] = {
    "learning_rate": Sort(st.floats(1e-7, 0.01), numbers(0, 1e6, whole=False, open_low=True).nonsense),
    "num_train_epochs": Sort(st.floats(0.01, 50), numbers(0, HUGE, whole=False, open_low=True).nonsense),
    "max_steps": numbers(1, HUGE, whole=True, also=(-1,)),
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "warmup_steps": Sort(
        st.one_of(st.integers(0, 1000), st.floats(0, 0.5)),
        lambda v: WEIGHT.nonsense(v) or 1 < float(v) != int(float(v)),
    ),
    "weight_decay": Sort(st.floats(0, 0.5), WEIGHT.nonsense),
    "adam_beta1": numbers(0, 0.9999, whole=False),
    "adam_beta2": numbers(0, 0.9999, whole=False),
    "adam_epsilon": Sort(st.floats(1e-12, 1e-3), numbers(0, HUGE, whole=False, open_low=True).nonsense),
    "max_grad_norm": WEIGHT,
    "logging_steps": COUNT,
    "save_total_limit": COUNT,
    "seed": numbers(0, 2**32 - 1, whole=True),
    "data_seed": numbers(0, 2**32 - 1, whole=True),
    "dataloader_num_workers": Sort(st.integers(0, 8), FROM_ZERO.nonsense),
    "early_stopping_patience": COUNT,
    "cache_limit": WEIGHT,
    "lr_scheduler_type": words("linear", "cosine", "constant", "polynomial", "constant_with_warmup"),
    "optim": words("adamw_torch", "adamw_torch_fused", "sgd", "adafactor"),
    "frozen_dtype": words("auto", "float32", "bfloat16", "float16"),
    "disentangled_attention": words("auto", "fast", "plain"),
    "train_sampling_strategy": words("group_by_length", "random", "sequential"),
    "log_level": words("debug", "info", "warning", "error", "passive"),
    "keep_checkpoints": TRUTH,
    "fast_dropout": TRUTH,
    "logging_first_step": TRUTH,
    "run_name": TEXT,
}
DISTILLATION: dict[str, Sort] = {
    "kl_alpha": WEIGHT,
    "temperature": numbers(0, HUGE, whole=False, open_low=True),
    "layer_loss": words("mse", "normalized_mse", "cosine"),
}
TASK: dict[str, Sort] = {
    "max_seq_length": Sort(st.integers(8, 512), COUNT.nonsense),
    "max_train_samples": COUNT,
    "max_eval_samples": COUNT,
    "doc_stride": FROM_ZERO,
    "max_answer_length": COUNT,
    "n_best_size": COUNT,
    "null_score_diff_threshold": Sort(st.floats(-100, 100), numbers(-1e9, 1e9, whole=False).nonsense),
    "mlm_probability": Sort(st.floats(0.01, 0.9), numbers(0, 1, whole=False, open_low=True).nonsense),
    "stride": COUNT,
    "shuffle_buffer": COUNT,
    "validation_size": COUNT,
    "preprocessing_num_workers": Sort(st.integers(1, 8), COUNT.nonsense),
    "text_column": TEXT,
    "streaming": TRUTH,
}
RUN: dict[str, Sort] = {
    "filter_interval": COUNT,
    "teacher_filter_interval": COUNT,
    "filter_output_dim": COUNT,
    "student_num_layers": COUNT,
    "filter_nonlinear": TRUTH,
}
EVALUATION: dict[str, Sort] = {"per_device_eval_batch_size": COUNT, "use_cpu": TRUTH}
LEARNING: dict[str, Sort] = {"filter_interval": COUNT, "filter_output_dim": COUNT, "filter_nonlinear": TRUTH}

ODD_TEXT = st.one_of(
    st.sampled_from(
        ["", " ", "nan", "-inf", "1e400", "fast", "--seed", "null", "~", "{", "[1", "*a", "&a", "!!x", "0x10"]
    ),
    st.text(max_size=20),
    st.just("x" * 400),
)
ODD = st.one_of(
    st.integers(-5, 2),
    st.sampled_from([0.5, -1.0, 1.5, math.nan, math.inf, -math.inf, 1e308, 10**30, -(10**30), 10**400]),
    st.booleans(),
    ODD_TEXT,
    st.lists(st.integers(-1, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
"""Values of every type that fit hardly anything."""


# --- running --------------------------------------------------------------------------------------------------


def outcome(monkeypatch: pytest.MonkeyPatch, line: list[str]) -> tuple[int, str]:
    """Exit code of a command that stops once its arguments are read, and what it wrote."""
    with monkeypatch.context() as patch:
        for name in ("run", "finetune", "learn-filters", "distill", "evaluate", "student"):
            patch.setitem(cli.COMMANDS, name, replace(cli.COMMANDS[name], run=lambda *given: None))
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.main(line)
    return code, out.getvalue() + err.getvalue()


def check(code: int, said: str, nonsense: list[Any], uncertain: bool, line: Any) -> None:
    """Nonsense was refused in words, and what is sane was not."""
    assert code in (0, 2), (code, said, line)
    assert "Traceback" not in said
    if nonsense:
        assert code == 2, f"taken: {nonsense!r} in {line!r}"
    elif not uncertain:
        assert code == 0, f"refused: {line!r}: {said}"
    if code == 2:
        problems = [part for part in said.splitlines() if part.startswith("- ")]
        assert problems, said
        assert all(len(problem) < 1500 for problem in problems), said


class Drawn(NamedTuple):
    """A value, and whether it was drawn from the sane ones: an odd value may be sane, too."""

    value: Any
    sane: bool


def arguments(table: dict[str, Sort], most: int = 5) -> st.SearchStrategy[dict[str, Drawn]]:
    """Keys of a table, two thirds of them with sane values."""
    odd = ODD.map(lambda value: Drawn(value, False))

    def with_values(chosen: list[str]) -> st.SearchStrategy[dict[str, Drawn]]:
        sane = {name: table[name].sane.map(lambda value: Drawn(value, True)) for name in chosen}
        return st.fixed_dictionaries({name: st.one_of(sane[name], sane[name], odd) for name in chosen})

    return st.lists(st.sampled_from(sorted(table)), max_size=most, unique=True).flatmap(with_values)


def judged(table: dict[str, Sort], given: dict[str, Drawn]) -> tuple[list[Any], bool]:
    """Values that are nonsense, and whether some may be taken or refused."""
    nonsense = [(name, value) for name, (value, _) in given.items() if table[name].nonsense(value)]
    return nonsense, not all(drawn.sane for drawn in given.values())


# --- recipes --------------------------------------------------------------------------------------------------


@st.composite
def recipes(draw: st.DrawFn) -> tuple[dict[Any, Any], list[Any], bool]:
    """A recipe, its nonsense, and whether some of it is uncertain."""
    content: dict[Any, Any] = {
        "task": "sequence_classification", "train_file": "a.csv", "validation_file": "b.csv", "teacher": "t",
        "student": "s", "output_dir": str(FOLDER / "run"),
    }  # fmt: skip
    top = {**TASK, **RUN}
    given = draw(arguments(top))
    content |= {name: value for name, (value, _) in given.items()}
    nonsense, uncertain = judged(top, given)
    kinds = {
        "training": TRAINING,
        "finetune_student": TRAINING,
        "ted": {**TRAINING, **DISTILLATION},
        "learn_filters": TRAINING,
    }
    for section in draw(st.lists(st.sampled_from(sorted(kinds)), max_size=2, unique=True)):
        values = draw(arguments(kinds[section]))
        content[section] = {name: value for name, (value, _) in values.items()}
        found, unclear = judged(kinds[section], values)
        nonsense, uncertain = nonsense + found, uncertain or unclear
    if draw(st.integers(0, 9)) == 0:
        key = draw(st.one_of(st.integers(), st.booleans(), st.text(max_size=12).map(lambda text: f"no such {text}")))
        place = draw(st.sampled_from(["", "training"]))
        target = content.setdefault(place, {}) if place else content
        target[key] = draw(ODD)
        # A key without a value is no key at the top of a recipe.
        nonsense.append((key, "unknown"))
    return content, nonsense, uncertain


def _check_recipe(monkeypatch: pytest.MonkeyPatch, drawn: tuple[dict[Any, Any], list[Any], bool]) -> None:
    content, nonsense, uncertain = drawn
    file = FOLDER / "recipe.yaml"
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="replace")
    check(*outcome(monkeypatch, ["run", str(file)]), nonsense, uncertain, content)


_SIGNS = [
    "a: b",
    "[",
    "]",
    "{",
    "}",
    "- ",
    "&a ",
    "*a",
    "!x ",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "@",
    "1",
    "\n",
    "\t",
    "?",
    ",",
]
TOP_TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(_SIGNS), max_size=30).map("".join),
    st.integers(0, 3000).map(lambda depth: "[" * depth),
)
"""Texts that are no recipe: some are YAML, none has the keys that a recipe needs."""


def _check_text(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = FOLDER / "text.yaml"
    file.write_bytes(text.encode("utf-8", errors="replace"))
    check(*outcome(monkeypatch, ["run", str(file)]), [text], False, text)


# --- flags ----------------------------------------------------------------------------------------------------

LINES: dict[str, tuple[list[str], dict[str, Sort]]] = {
    "finetune": (["--model_name_or_path", "m", "--task", "sst2", "--output_dir", "o"], {**TRAINING, **TASK}),
    "learn-filters": (
        ["--model_name_or_path", "m", "--task", "sst2", "--output_dir", "o"], {**TRAINING, **TASK, **LEARNING}
    ),
    "distill": (
        ["--teacher_name_or_path", "t", "--student_name_or_path", "s", "--task", "sst2", "--output_dir", "o"],
        {**TRAINING, **TASK, **DISTILLATION},
    ),
    "evaluate": (["--model_name_or_path", "m", "--task", "sst2"], {**TASK, **EVALUATION}),
    "student": (["t", "o"], {"num_layers": COUNT, "hidden_size": COUNT, "seed": TRAINING["seed"]}),
}  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[str], list[Any], bool]:
    """A command line, its nonsense, and whether some of it is uncertain."""
    command = draw(st.sampled_from(sorted(LINES)))
    needed, table = LINES[command]
    given = draw(arguments(table))
    nonsense: list[Any] = []
    uncertain = False
    flags: list[str] = []
    for name, (value, sane) in given.items():
        worded = [str(part) for part in value] if isinstance(value, list) else [str(value)]
        flag = draw(st.sampled_from([f"--{name}", f"--{name.replace('_', '-')}"]))
        joined = draw(st.booleans()) and len(worded) == 1
        flags += [f"{flag}={worded[0]}"] if joined else [flag, *worded]
        # A word is all that a command line has: "1" is 1, and a list of one is its only value.
        meant = value if not isinstance(value, list) else worded[0] if len(worded) == 1 else value
        if meant == [] or (isinstance(meant, str) and meant.startswith("-") and not joined):
            uncertain = True
        elif table[name].nonsense(str(meant) if isinstance(meant, dict) and table[name] is TEXT else meant):
            nonsense.append((name, value))
        uncertain = uncertain or not sane
    if draw(st.integers(0, 9)) == 0:
        stray = draw(st.text(max_size=8).map(lambda text: f"--no-such-{text}"))
        flags += [stray]
        nonsense.append(stray)
    return [command, *needed, *flags], nonsense, uncertain


def _check_line(monkeypatch: pytest.MonkeyPatch, drawn: tuple[list[str], list[Any], bool]) -> None:
    line, nonsense, uncertain = drawn
    # Asking for help wins over everything else.
    if not {"-h", "--help", "--help-all"} & {*line}:
        check(*outcome(monkeypatch, line), nonsense, uncertain, line)


@st.composite
def word_lists(draw: st.DrawFn) -> list[str]:
    """Words in any order, as a slip of the hand may leave them."""
    known = ["--config", "--seed", "-", "--", "---", "=", "a=b", "--=", "training.seed=1", "--training.seed", *LINES]
    return draw(st.lists(st.one_of(st.sampled_from(known), ODD_TEXT), max_size=8))


def _check_words(monkeypatch: pytest.MonkeyPatch, command: str, given: list[str]) -> None:
    code, said = outcome(monkeypatch, [command, *given])
    assert code in (0, 2), (code, said)
    assert "Traceback" not in said


COMMANDS = st.sampled_from(["run", "finetune", "distill", "evaluate", "student", "import-published", "x"])


# --- tests ----------------------------------------------------------------------------------------------------


@QUICK
@given(recipes())
def test_nonsense_in_a_recipe_is_refused_and_nothing_sane_is(monkeypatch: pytest.MonkeyPatch, drawn: Any) -> None:
    _check_recipe(monkeypatch, drawn)


@QUICK
@given(TOP_TEXT)
def test_a_text_that_is_no_recipe_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    _check_text(monkeypatch, text)


@QUICK
@given(lines())
def test_nonsense_in_flags_is_refused_and_nothing_sane_is(monkeypatch: pytest.MonkeyPatch, drawn: Any) -> None:
    _check_line(monkeypatch, drawn)


@QUICK
@given(COMMANDS, word_lists())
def test_words_in_any_order_never_end_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch, command: str, given: list[str]
) -> None:
    _check_words(monkeypatch, command, given)


@pytest.mark.long
@LONG
@given(recipes())
def test_nonsense_in_many_recipes_is_refused(monkeypatch: pytest.MonkeyPatch, drawn: Any) -> None:
    _check_recipe(monkeypatch, drawn)


@pytest.mark.long
@LONG
@given(lines())
def test_nonsense_in_many_command_lines_is_refused(monkeypatch: pytest.MonkeyPatch, drawn: Any) -> None:
    _check_line(monkeypatch, drawn)
