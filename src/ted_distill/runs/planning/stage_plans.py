"""What each stage of a plan does: its steps, what it matches, and estimates of its memory and disk."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from transformers import PreTrainedModel

from ...errors import collect, raise_if_any
from ...fast.precision import resolve_dtype
from ...method.filters import FilterConfig
from ...method.pairs import resolve_pairs
from ...method.shapes import num_blocks, width
from ...stages.distill_arguments import DistillArguments
from ...stages.lifecycle import keeps_states
from ...stages.matching.relation_choice import choose_relations
from ...stages.method_checks import check_method
from ...stages.methods import IDENTITY, LEARNED
from ...stages.rows.unlabelled_rows import check_more_rows, choose_more_rows
from ...tasks.reading.notices import notice
from ...training.checkpointing import moments_of
from ...training.fitting_memory import RECOMPUTES
from ...training.stage_arguments import StageArguments
from ...training.stage_defaults import DISTILL as DISTILL_DEFAULTS
from ...training.stage_defaults import FINETUNE as FINETUNE_DEFAULTS
from ...training.stage_defaults import learn_filters_defaults, refuse_search, search_problems
from ...training.update_counts import check_updates, updates, warmup_doubt
from ...wording import listed
from ..matching import copied_blocks
from ..recipe import stage_arguments
from ..recipe_keys import FINETUNE, LEARN_FILTERS
from .estimates import BatchShape, distilling_bytes, learning_bytes, training_bytes
from .features import PlannedData
from .plan import Pairs, Plan, PlannedModel
from .unknown import Unknown


@dataclass(frozen=True)
class PlannedMethod:
    """What a method of Stage II matches."""

    arguments: DistillArguments
    mse_alpha: float
    pairs: Pairs | Unknown
    filters: FilterConfig | None
    """The student's; None if no blocks are matched, or if it is not known."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage. Bytes are estimates."""

    name: str
    args: StageArguments
    steps: int | Unknown
    memory: int | Unknown
    """Bytes on one device at the peak: see `estimates`."""
    disk: int | Unknown | None
    """Bytes of hidden states in the cache; None if none are kept."""
    method: PlannedMethod | None = None
    more_features: int = 0
    """Those of rows without labels and of changed copies, in each epoch."""
    can_recompute: bool = True
    """Whether activations of its model can be computed again, as far as is known."""

    @property
    def warmup(self) -> int | Unknown:
        """Steps until the peak learning rate."""
        if isinstance(self.steps, Unknown):
            share = 0 < self.args.warmup_steps < 1
            return self.steps if share else int(self.args.warmup_steps)
        return self.args.get_warmup_steps(self.steps)

    @property
    def too_large(self) -> bool:
        """Whether the cache would exceed its limit, so that the frozen model is run in every epoch."""
        return isinstance(self.disk, int) and self.disk > self.args.cache_limit * 1e9


def plan_stages(plan: Plan) -> list[PlannedStage]:
    """The stages of a plan, in order.

    Raises:
        InputError: a method's section asks for pairs of blocks that the models do not have.
    """
    problems: list[str] = []
    stages = []
    for name in plan.recipe.stages:
        with collect(problems):
            stages.append(_stage(plan, name))
    raise_if_any(problems)
    return stages


def _stage(plan: Plan, name: str) -> PlannedStage:
    args, own = stage_arguments(plan.recipe, name)
    args = _filled(plan, name, args)
    if name in LEARN_FILTERS:
        refuse_search(args)
    elif not isinstance(plan.data, Unknown) or "rows" in vars(plan.task):
        raise_if_any(search_problems(args, plan.task.rows))
    method = _method(plan, args, own) if isinstance(own, DistillArguments) else None
    more = _more_features(plan, _more_rows(plan, args, own)) if isinstance(own, DistillArguments) else 0
    memory, disk = _memory(plan, name, args, method), _disk(plan, name, args, method, more)
    steps = _steps(plan, args, more)
    if isinstance(steps, int) and (doubt := warmup_doubt(args, steps)) is not None:
        notice(f"stage {name}: {doubt}", args.output_dir)
    return PlannedStage(name, args, steps, memory, disk, method, more, _can_recompute(plan, name))


def _more_features(plan: Plan, rows: int) -> int:
    """As many features for a row as the rows with labels have; 0 where their number is not known."""
    features = 0 if isinstance(plan.data, Unknown) else plan.data.features
    return 0 if isinstance(features, Unknown) or not rows else round(rows * features / len(plan.task.rows["train"]))


def _filled(plan: Plan, name: str, args: StageArguments) -> StageArguments:
    """The arguments with the defaults of their stage; those of an unknown model stay open."""
    model = plan.models[_owner(name)]
    if isinstance(model, Unknown):
        args = copy.copy(args)
        args.num_train_epochs = args.num_train_epochs or 3
        return args
    filters = learn_filters_defaults(plan.task.first_token_only, plan.task.running_text)
    defaults = FINETUNE_DEFAULTS if name in FINETUNE else filters if name in LEARN_FILTERS else DISTILL_DEFAULTS
    return defaults.fill(args, model.config)


def _owner(name: str) -> str:
    """The model that a stage trains, or whose filters it learns."""
    return name.rpartition("_")[2] if name in (*FINETUNE, *LEARN_FILTERS) else "student"


def _steps(plan: Plan, args: StageArguments, more: int = 0) -> int | Unknown:
    """Optimizer steps, with `more` features than of rows with labels. Raises `InputError` where there would be none."""
    features = plan.data if isinstance(plan.data, Unknown) else plan.data.features
    if isinstance(features, Unknown):
        return args.max_steps if args.max_steps > 0 else features
    features += more
    check_updates(args, features)
    return updates(args, features)


def _more_rows(plan: Plan, args: StageArguments, arguments: DistillArguments) -> int:
    """The number of rows without labels that a method trains on. Raises `InputError` if it cannot have them."""
    if "rows" not in vars(plan.task) or isinstance(plan.tokenizers, Unknown):
        return 0
    check_more_rows(plan.task, arguments)
    more = choose_more_rows(plan.task, arguments, plan.tokenizers, args.seed)
    return 0 if more is None else sum(map(len, more.numbers))


# --- methods --------------------------------------------------------------------------------------------------


def _method(plan: Plan, args: StageArguments, arguments: DistillArguments) -> PlannedMethod:
    """What a method matches. Raises `InputError` for what the models do not have: pairs of blocks, widths, heads."""
    pairs = _method_pairs(plan, arguments)
    _check_method(plan, args, arguments, pairs)
    # Unknown pairs still count as pairs.
    mse_alpha = arguments.layer_weight([(1, 1)] if isinstance(pairs, Unknown) else pairs)
    teacher, student = plan.models.values()
    if not pairs or isinstance(pairs, Unknown) or isinstance(teacher, Unknown) or isinstance(student, Unknown):
        return PlannedMethod(arguments, mse_alpha, pairs, None)
    method = arguments.of_method
    if method.teacher_filters == LEARNED and not isinstance(plan.filters, Unknown):
        own = plan.filters.get("student")
        filters = own or FilterConfig.for_model(student.config, 1, plan.filters["teacher"].filter_output_dim)
    elif method.student_filters == IDENTITY:
        return PlannedMethod(arguments, mse_alpha, pairs, None)
    else:
        filters = FilterConfig.for_model(student.config, 1, width(teacher.config))
    return PlannedMethod(arguments, mse_alpha, pairs, replace(filters, blocks=[block for _, block in pairs]))


def _check_method(plan: Plan, args: StageArguments, arguments: DistillArguments, pairs: Pairs | Unknown) -> None:
    """Refuse what Stage II would refuse, before the stages that come first. Raises `InputError`."""
    teacher, student = plan.models.values()
    known = pairs if isinstance(pairs, list) else None
    if isinstance(teacher, Unknown) or isinstance(student, Unknown):
        check_method(arguments, args, known)
        return
    check_method(arguments, args, known, (teacher.config, student.config))
    models = teacher.model, student.model
    if arguments.of_method.matches_relations and all(isinstance(model, PreTrainedModel) for model in models):
        matched = known or (plan.pairs if isinstance(plan.pairs, list) else None)
        choose_relations(*models, args, arguments, matched[-1] if matched else None)


def _method_pairs(plan: Plan, arguments: DistillArguments) -> Pairs | Unknown:
    """The run's pairs, or those that the method's own section asks for."""
    teacher, student = plan.models.values()
    if not arguments.of_method.matches_states:
        return []
    if isinstance(teacher, Unknown) or isinstance(student, Unknown) or isinstance(plan.pairs, Unknown):
        return plan.pairs
    if not any((arguments.pairs, arguments.teacher_filter_interval, arguments.filter_interval)):
        return plan.pairs
    pairs = resolve_pairs(
        num_blocks(teacher.config),
        num_blocks(student.config),
        pairs=arguments.pairs,
        teacher_filter_interval=arguments.teacher_filter_interval,
        filter_interval=arguments.filter_interval,
        made_of=None if arguments.pairs else copied_blocks(plan.recipe, student.kept_blocks),
    )
    if arguments.of_method.teacher_filters == LEARNED and not isinstance(plan.filters, Unknown):
        _check_learnt(plan.filters, pairs, arguments)
    return pairs


def _check_learnt(learnt: dict[str, FilterConfig], pairs: Pairs, arguments: DistillArguments) -> None:
    """Refuse blocks in TED's own section for which Stage I learns no filters.

    Raises:
        InputError: names them; Stage I follows the top level of the recipe.
    """
    intervals = {"teacher": arguments.teacher_filter_interval, "student": arguments.filter_interval}
    problems = []
    for owner, blocks in zip(("teacher", "student"), zip(*pairs, strict=True), strict=True):
        if owner not in learnt:
            continue
        known = learnt[owner].blocks
        if not {*blocks} <= {*known} or (intervals[owner] and sorted(blocks) != known):
            problems.append(
                f"recipe section {arguments.method}: expected blocks of the {owner} with filters of Stage I "
                f"({listed(known, None)}), got {listed(sorted(blocks), None)}; set pairs or the intervals at the top "
                "level of the recipe instead"
            )
    raise_if_any(problems)


# --- memory and disk ------------------------------------------------------------------------------------------


def _can_recompute(plan: Plan, name: str) -> bool:
    model = plan.models[_owner(name)]
    # A frozen model keeps no activations.
    return name not in LEARN_FILTERS and (isinstance(model, Unknown) or model.can_recompute)


def _memory(plan: Plan, name: str, args: StageArguments, method: PlannedMethod | None) -> int | Unknown:
    """See `estimates`. Rows are as long as the longest one in the sample, or as the task allows."""
    models: dict[str, PreTrainedModel] = {}
    taught = method is not None and method.arguments.of_method.needs_teacher
    for owner in ("teacher", "student") if taught else (_owner(name),):
        planned = plan.models[owner]
        model = planned if isinstance(planned, Unknown) else planned.model
        if isinstance(model, Unknown):
            return model
        models[owner] = model
    longest = plan.task.max_seq_length if isinstance(plan.data, Unknown) else plan.data.longest
    batch = BatchShape(
        args.per_device_train_batch_size, -(-longest // 8) * 8, 2 if args.bf16 or args.fp16 else 4,
        moments_of(args), bool(getattr(args, RECOMPUTES)),
    )  # fmt: skip
    dtype = resolve_dtype(args.frozen_dtype, args.device, args.fp16)
    if method is not None:
        return distilling_bytes(models.get("teacher"), models["student"], method.filters, batch, dtype)
    owner = _owner(name)
    if name in FINETUNE:
        return training_bytes(models[owner], batch)
    if isinstance(plan.filters, Unknown):
        return plan.filters
    return learning_bytes(models[owner], plan.filters[owner], plan.task, batch, dtype)


def _disk(
    plan: Plan, name: str, args: StageArguments, method: PlannedMethod | None, more: int = 0
) -> int | Unknown | None:
    """Tokens x width x bytes of a number x blocks whose hidden states are kept: see `stages.lifecycle.states_cache`.

    Stage I also keeps those of the validation rows, and only those of the first token where its heads read no other.
    """
    owner = "teacher" if method else _owner(name)
    shared = owner == "teacher" or args.cache_dir is not None
    kept = 0 if name in FINETUNE else _tensors(plan, method)
    if not kept or not keeps_states(args, plan.task, shared):
        return None
    model, data = plan.models[owner], plan.data
    if isinstance(model, PlannedModel) and isinstance(data, PlannedData) and isinstance(kept, int):
        if isinstance(data.features, Unknown):
            return data.features
        features = data.features + more if method else data.features * data.all_to_train
        tokens = features * (1 if plan.task.first_token_only and not method else data.tokens)
        dtype = resolve_dtype(args.frozen_dtype, args.device, args.fp16)
        return round(tokens * width(model.config) * dtype.itemsize * kept)
    return next(missing for missing in (model, data, kept) if isinstance(missing, Unknown))


def _tensors(plan: Plan, method: PlannedMethod | None) -> int | Unknown:
    """How many tensors as wide as a hidden state are kept for each token: one for a pair, three for relations."""
    pairs = method.pairs if method else plan.pairs
    if isinstance(pairs, Unknown):
        return pairs
    return len(pairs) + (3 if method and method.arguments.of_method.matches_relations else 0)
