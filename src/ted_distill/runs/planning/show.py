"""`ted show` prints what a recipe would do: models, pairs and data, then its stages, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from ...method.filters import FilterConfig
from ...method.shapes import num_blocks, width
from ...models.tokenizers import Tokenizers
from ...stages.rate_search import SEARCHED
from ...tasks import describe_task
from ...training.stage_arguments import AUTO
from ...wording import counted, size
from ..recipe_keys import SCORE_ON
from ..table import markdown_table
from .features import PlannedData
from .plan import Pairs, Plan, PlannedModel
from .stage_plans import PlannedMethod, PlannedStage, plan_stages
from .unknown import Unknown

_WIDTH = 112


def show(plan: Plan) -> str:
    """Models, pairs and data, then a table of the stages, then what is unknown and why.

    Raises:
        InputError: see `plan_stages`.
    """
    stages = plan_stages(plan)
    found = paragraphs(dict(facts(plan)))
    methods = paragraphs({stage.name: _method(stage.method) for stage in stages if stage.method})
    return "\n\n".join([found, methods, markdown_table(_table(stages)), *_notes(plan, stages)]) + "\n"


def paragraphs(texts: dict[str, str]) -> str:
    """Names, and beside them what they stand for."""
    indent = max(map(len, texts)) + 2
    return "\n".join(
        fill(text, _WIDTH, initial_indent=name.ljust(indent), subsequent_indent=" " * indent, break_on_hyphens=False)
        for name, text in texts.items()
    )


# --- facts ----------------------------------------------------------------------------------------------------


def facts(plan: Plan) -> Iterator[tuple[str, str]]:
    """What a recipe has to do with: names, and a line about each."""
    task = plan.task
    description = describe_task(task.name, type(task)).rstrip(".?")
    yield "task", f"{task.name} ({description})"
    for owner, model in plan.models.items():
        yield owner, _model(model, plan.models["teacher"])
    if plan.trimmed is not None:
        yield "best", _trimmed(plan.trimmed, plan.models["student"])
    yield "pairs", _pairs(plan.pairs)
    if plan.recipe.filter_learners:
        yield "filters", _filters(plan.filters)
    yield "data", _data(plan.data)
    if isinstance(plan.tokenizers, Tokenizers) and not plan.tokenizers.shared:
        yield "tokens", "teacher and student have different tokenizers: each gets its own tokens of the same rows"
    if further := plan.recipe.content.get(SCORE_ON):
        yield "score_on", ", ".join(further)
    yield "output", str(plan.recipe.run.output_dir)


def _model(model: PlannedModel | Unknown, teacher: PlannedModel | Unknown) -> str:
    if isinstance(model, Unknown):
        return str(model)
    config = model.config
    source = model.name
    if model.kept_blocks:
        source = f"blocks {', '.join(map(str, model.kept_blocks))} of {source}"
    parameters = model.parameters
    if isinstance(parameters, Unknown):
        size = f"parameters {parameters}"
    else:
        size = f"{parameters:,} parameters"
        if isinstance(teacher, PlannedModel) and model is not teacher and isinstance(teacher.parameters, int):
            size += f", {100 * parameters / teacher.parameters:.0f} % of the teacher's"
    return f"{source}: {config.model_type}, {counted(num_blocks(config), 'block')} x {width(config)}, {size}"


def _trimmed(trimmed: tuple[int, int] | Unknown, student: PlannedModel | Unknown) -> str:
    text = "the best student with only the tokens of the training texts"
    if isinstance(trimmed, Unknown):
        return f"{text}: {trimmed}"
    tokens, parameters = trimmed
    if not isinstance(student, PlannedModel) or not isinstance(student.parameters, int):
        return f"{text}: {tokens:,} tokens"
    share = 100 * parameters / student.parameters
    size = student.config.get_text_config().vocab_size
    return f"{text}: {tokens:,} of {size:,} tokens, {parameters:,} parameters, {share:.0f} % of the whole student's"


def _pairs(pairs: Pairs | Unknown) -> str:
    if isinstance(pairs, Unknown):
        return "unknown, because the models are"
    if not pairs:
        return "none, as no method matches layers"
    return "teacher block:student block " + " ".join(f"{teacher}:{student}" for teacher, student in pairs)


def _filters(filters: dict[str, FilterConfig] | Unknown) -> str:
    if isinstance(filters, Unknown):
        return "unknown, because the models are"
    return "; ".join(f"{owner} {len(config.blocks)} x {_filter(config)}" for owner, config in filters.items())


def _filter(config: FilterConfig) -> str:
    of_model, out = config.hidden_size, config.filter_output_dim
    if config.filter_nonlinear:
        return f"Linear({of_model}, {of_model}) -> {config.hidden_act} -> Linear({of_model}, {out})"
    return f"Linear({of_model}, {out})"


def _data(data: PlannedData | Unknown) -> str:
    if isinstance(data, Unknown):
        return str(data)
    rows = ", ".join(f"{name} {_number(count)}" for name, count in data.rows.items())
    if isinstance(data.features, Unknown):
        return f"rows: {rows}; up to {data.longest} tokens each"
    features = f"{'' if data.exact else 'about '}{data.features:,} features to train on"
    if not data.looked_at:
        return f"rows: {rows}; {features}, up to {data.longest} tokens each"
    seen = f"{data.tokens:.0f} tokens on average and {data.longest} at most in a sample of {data.looked_at:,} rows"
    return f"rows: {rows}; {features}, {seen}"


def _method(method: PlannedMethod | None) -> str:
    assert method is not None
    arguments = method.arguments
    if not arguments.of_method.needs_teacher:
        return "pred_loss on the labels alone"
    text = f"pred_loss + {arguments.prediction_weight:g} match_loss (temperature {arguments.temperature:g})"
    if arguments.of_method.matches_relations:
        text += f" + {arguments.relation_weight:g} relation_loss"
    if method.pairs == []:
        return f"{text}; no hidden states are matched"
    text += f" + {method.mse_alpha:g} layer_loss ({arguments.layer_loss})"
    if isinstance(method.pairs, Unknown):
        return text
    start = arguments.student_filters or arguments.of_method.student_filters
    student = "" if method.filters is None else f"; student filters {_filter(method.filters)} from {start}"
    return f"{text} of {counted(len(method.pairs), 'pair')}{student}"


# --- stages ---------------------------------------------------------------------------------------------------


def _table(stages: list[PlannedStage]) -> list[list[str]]:
    rows = [["stage", "steps", "rows per step", "learning rate", "warm-up", "memory", "cache"]]
    for stage in stages:
        args = stage.args
        peak = f"{args.learning_rate:g}" if isinstance(args.learning_rate, float) else args.learning_rate or "?"
        rate = f"{peak} {getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type)}"
        cache = "" if stage.disk is None else _size(stage.disk) + (" (too large)" if stage.too_large else "")
        steps, warmup = _number(stage.steps), _number(stage.warmup)
        rows.append([stage.name, steps, f"{args.global_batch:,}", rate, warmup, _size(stage.memory), cache])
    return rows


def _number(number: int | str | Unknown) -> str:
    return f"{number:,}" if isinstance(number, int) else "?" if isinstance(number, Unknown) else number


def _size(number: int | Unknown) -> str:
    return "?" if isinstance(number, Unknown) else size(number)


def _notes(plan: Plan, stages: list[PlannedStage]) -> Iterator[str]:
    text = (
        "memory: an estimate for one device, weights and optimizer included; a process on a CPU takes 1 to 2 GB more. "
        "cache: disk for outputs of frozen models; the teacher's are shared by the stages and deleted after the run."
    )
    if any(stage.too_large for stage in stages):
        limit = stages[0].args.cache_limit
        text += f" Too large means more than cache_limit, {limit:g} GB: the frozen model then runs in every epoch."
    yield fill(text, _WIDTH)
    if any(stage.args.learning_rate == AUTO for stage in stages):
        yield f"steps: with the learning rate auto, {SEARCHED:.0%} as many more come first, in trials of several rates."
    # The reasons for unknown models and data are printed above.
    said = {fact.why for fact in (plan.data, *plan.models.values()) if isinstance(fact, Unknown)}
    values = [value for stage in stages for value in (stage.steps, stage.memory, stage.disk)]
    reasons = dict.fromkeys(value.why for value in values if isinstance(value, Unknown) and value.why not in said)
    if reasons:
        yield "\n".join(fill(f"?: {why}", _WIDTH, subsequent_indent="   ") for why in reasons)
