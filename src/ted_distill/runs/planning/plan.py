"""What a recipe would do, determined without training or writing anything.

Configs, tokenizers and data are read as a run would read them; weights only if a student is made of a model's
blocks, to find out whether that model is the teacher. Whatever cannot be fetched becomes `Unknown`, with the reason.
A wrong recipe is refused with all its problems.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ...errors import InputError, collect, raise_if_any
from ...method.filters import FilterConfig
from ...method.shapes import num_blocks
from ...models.blocks import student_from_teacher
from ...models.heads import without_weights
from ...models.labels import label_order
from ...models.load import load_config
from ...models.narrowing.narrow import check_narrow, narrow_config
from ...models.places import require_weights
from ...models.pretrained import apply_overrides
from ...models.scratch import scratch_config
from ...models.tokenizers import Tokenizers
from ...models.trying.positions import fit_length, readable_length, steady_length
from ...stages.methods import token_methods
from ...tasks import Task
from ...training.scores.best_score import score_problems
from ..matching import copied_blocks, filter_arguments, run_pairs, student_blocks
from ..model_checks import remedy_of_a_recipe
from ..narrowing import student_narrow
from ..recipe import Recipe, stage_arguments
from ..recipe_keys import FROM_SCRATCH
from ..run_task import task_of_run
from ..trimming import check_trimming, planned_size
from ..vocabularies import Reader, read_reader, run_tokenizers
from .features import PlannedData, look_at_data
from .swapped import warn_of_swapped
from .unknown import Hub, Unknown

Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class PlannedModel:
    """A model as the run would load it."""

    name: str
    config: PretrainedConfig
    model: PreTrainedModel | Unknown
    """With the task's head, on the meta device: shapes without weights."""
    kept_blocks: list[int] | None = None
    """The blocks of `name` that it is made of, if it is made of some."""

    @property
    def parameters(self) -> int | Unknown:
        """Of the model with its head."""
        return self.model if isinstance(self.model, Unknown) else self.model.num_parameters()

    @property
    def can_recompute(self) -> bool:
        """Whether its family can compute activations again, as far as is known."""
        return isinstance(self.model, Unknown) or bool(self.model.supports_gradient_checkpointing)


@dataclass(frozen=True)
class Plan:
    """What a recipe would do, except for its stages, which follow from this."""

    recipe: Recipe
    task: Task
    models: dict[str, PlannedModel | Unknown]
    """`teacher` and `student`."""
    pairs: Pairs | Unknown
    filters: dict[str, FilterConfig] | Unknown
    """Those of Stage I, of both models."""
    tokenizers: Tokenizers | Unknown
    data: PlannedData | Unknown
    trimmed: tuple[int, int] | Unknown | None = None
    """Tokens and parameters of the best student, if it is trimmed."""


def plan(recipe: Recipe, task: Task | None = None, *, tokenise: bool = True) -> Plan:
    """Find out what a recipe would do.

    Args:
        task: the recipe's, if it is loaded already.
        tokenise: whether to tokenise a sample of the data; otherwise their lengths stay unknown.

    Raises:
        InputError: the recipe is wrong; with all problems, whatever cannot be fetched.
    """
    task = task_of_run(recipe, task)
    if not recipe.content.get(FROM_SCRATCH):
        return _plan(recipe, task, tokenise)
    with tempfile.TemporaryDirectory() as folder:
        # A folder with a config stands in for a teacher that is made from scratch.
        scratch_config(recipe.content[FROM_SCRATCH]).save_pretrained(folder)
        return _plan(replace(recipe, run=replace(recipe.run, teacher=folder)), task, tokenise)


def with_data(known: Plan) -> Plan:
    """A plan that was made without tokenising, with a sample of its data tokenised. Raises `InputError`."""
    tokenizers = known.tokenizers
    student = tokenizers.student if isinstance(tokenizers, Tokenizers) else tokenizers
    trimmed = known.trimmed
    model = known.models["student"]
    if trimmed is not None and isinstance(model, PlannedModel) and isinstance(tokenizers, Tokenizers):
        trimmed = _trimmed_size(model, tokenizers.student, known.task)
    return replace(known, data=look_at_data(known.task, student), trimmed=trimmed)


def _plan(recipe: Recipe, task: Task, tokenise: bool) -> Plan:
    problems: list[str] = []
    hub = Hub()
    models: dict[str, PlannedModel | Unknown] = {}
    for owner in ("teacher", "student"):
        with collect(problems):
            models[owner] = _model(recipe, owner, task, hub)
    missing = next((model for model in models.values() if isinstance(model, Unknown)), None)
    with collect(problems):
        missing = missing or _unknown_origin(recipe, models, hub)
    pairs: Pairs | Unknown = missing or []
    filters: dict[str, FilterConfig] | Unknown = missing or {}
    # KD needs no pairs, so it works with any two models.
    if missing is None and token_methods(recipe.run.methods):
        with collect(problems):
            pairs = run_pairs(recipe)
            if recipe.filter_learners and not problems:
                filters = _stage_one_filters(recipe, models, task)
    readers: dict[str, Reader | Unknown] = {}
    for owner in ("teacher", "student"):
        with collect(problems):
            readers[owner] = _reader(recipe, owner, task, hub)
    tokenizers: Tokenizers | Unknown = Unknown("the recipe is wrong")
    with collect(problems):
        tokenizers = _tokenizers(recipe, task, readers)
    data: PlannedData | Unknown = Unknown("the recipe is wrong")
    with collect(problems):
        problems += _score_problems(recipe, task, hub)
        data = _data(task, models, readers, tokenizers, hub, tokenise)
    trimmed = None
    with collect(problems):
        trimmed = _trimmed(recipe, task, models, tokenizers, data, tokenise)
    raise_if_any(problems)
    warn_of_swapped(
        {owner: model.model if isinstance(model, PlannedModel) else model for owner, model in models.items()}
    )
    return Plan(recipe, task, models, pairs, filters, tokenizers, data, trimmed)


def _trimmed(
    recipe: Recipe,
    task: Task,
    models: dict[str, PlannedModel | Unknown],
    tokenizers: Tokenizers | Unknown,
    data: PlannedData | Unknown,
    tokenise: bool,
) -> tuple[int, int] | Unknown | None:
    """What is left of the best student if it is trimmed. Raises `InputError` for one that cannot be trimmed."""
    student = models.get("student")
    if recipe.run.student_trim is None or student is None:
        return None
    if isinstance(student, Unknown) or isinstance(tokenizers, Unknown):
        return student if isinstance(student, Unknown) else tokenizers
    if isinstance(student.model, Unknown):
        return student.model
    if tokenise and isinstance(data, Unknown):
        return data
    check_trimming(student.model, tokenizers.student, student.name, task)
    return _trimmed_size(student, tokenizers.student, task) if tokenise else Unknown("it was not tokenised")


def _trimmed_size(student: PlannedModel, tokenizer: PreTrainedTokenizerBase, task: Task) -> tuple[int, int] | Unknown:
    if isinstance(student.model, Unknown):
        return student.model
    return planned_size(student.model, tokenizer, student.name, task)


def _unknown_origin(recipe: Recipe, models: dict[str, PlannedModel | Unknown], hub: Hub) -> Unknown | None:
    """Why it is not known whether a student's blocks are the teacher's; None where it is, or where nobody asks."""
    student = models.get("student")
    if not isinstance(student, PlannedModel) or not student.kept_blocks or "teacher" not in models:
        return None
    if recipe.run.pairs or not token_methods(recipe.run.methods):
        return None
    found = hub.ask(_source(recipe, "student"), lambda: copied_blocks(recipe, student.kept_blocks))
    return found if isinstance(found, Unknown) else None


# --- models and filters ---------------------------------------------------------------------------------------


def _model(recipe: Recipe, owner: str, task: Task, hub: Hub) -> PlannedModel | Unknown:
    """A model without its weights. Raises `InputError` where the recipe asks for an impossible one."""
    source = _source(recipe, owner)
    if not recipe.content.get(FROM_SCRATCH):
        require_weights(source)
    config = hub.ask(source, lambda: load_config(source, recipe.model, task))
    if isinstance(config, Unknown):
        return config
    # A student that is made of the teacher's blocks after its fine-tuning has its head.
    like = "teacher" if owner == "student" and recipe.run.start == "teacher" else owner
    taken_as_is = not recipe.tunes(like)
    loading = recipe.model if taken_as_is else stage_arguments(recipe, f"finetune_{like}")[1]
    apply_overrides(config, loading.config_overrides, source)
    kept = None
    if owner == "student":
        total, width = num_blocks(config), recipe.run.student_hidden_size
        kept = student_blocks(recipe, total)
        if width:
            check_narrow(config.model_type, student_narrow(recipe.run))
            config = narrow_config(config, width, "student_hidden_size")
    name = f"a {config.model_type} of random weights" if recipe.content.get(FROM_SCRATCH) else source
    # The labels of the user's own data are known only from the data.
    labels = hub.ask(_data_name(task), lambda: task.num_labels)
    if isinstance(labels, Unknown):
        return PlannedModel(name, config, labels, kept)
    if taken_as_is:
        with remedy_of_a_recipe(f"finetune_{like}"):
            label_order(config, task, source)
    elif labels:
        config.num_labels = labels
    expected = f"model: expected a config that makes a {task.auto_model.__name__}"
    model = without_weights(config, task, recipe.model.trust_remote_code, expected, name, "use another")
    if kept:
        with torch.device("meta"):
            model = student_from_teacher(model, kept)
    return PlannedModel(name, model.config, model, kept)


def _source(recipe: Recipe, owner: str) -> str:
    return str(recipe.run.teacher if owner == "teacher" else recipe.run.student or recipe.run.teacher)


def _stage_one_filters(
    recipe: Recipe, models: dict[str, PlannedModel | Unknown], task: Task
) -> dict[str, FilterConfig]:
    """Shapes of the filters that Stage I would learn. Raises `InputError` for a start or reading they cannot have."""
    found = {}
    arguments_of = filter_arguments(recipe)
    for owner in recipe.filter_learners:
        arguments, model = arguments_of[owner], models[owner]
        assert isinstance(model, PlannedModel)  # checked by the caller
        found[owner] = arguments.shape(model.config)
        arguments.identity(task, found[owner])
    return found


# --- tokenizers and data --------------------------------------------------------------------------------------


def _reader(recipe: Recipe, owner: str, task: Task, hub: Hub) -> Reader | Unknown:
    """A model's tokenizer. Raises `InputError` for a folder without one."""
    if recipe.content.get(FROM_SCRATCH):
        return Unknown("the tokenizer will be made from the text")
    source = _source(recipe, owner)
    return hub.ask(source, lambda: read_reader(recipe, source, task))


def _tokenizers(recipe: Recipe, task: Task, readers: dict[str, Reader | Unknown]) -> Tokenizers | Unknown:
    """The tokenizers that the methods use. Raises `InputError`, see `run_tokenizers`."""
    teacher, student = (readers.get(owner, Unknown("the recipe is wrong")) for owner in ("teacher", "student"))
    if isinstance(teacher, Unknown):
        return teacher
    if isinstance(student, Unknown):
        return student
    return run_tokenizers(recipe, task, teacher, student)


def _score_problems(recipe: Recipe, task: Task, hub: Hub) -> list[str]:
    """What is wrong with the scores by which the stages choose their best checkpoints."""
    if isinstance(hub.ask(_data_name(task), lambda: task.rows), Unknown):
        return []
    stages = [stage_arguments(recipe, name)[0] for name in recipe.stages]
    return [problem for args in stages for problem in score_problems(args, task)]


def _data(
    task: Task,
    models: dict[str, PlannedModel | Unknown],
    readers: dict[str, Reader | Unknown],
    tokenizers: Tokenizers | Unknown,
    hub: Hub,
    tokenise: bool,
) -> PlannedData | Unknown:
    """The data, tokenised by the student's tokenizer. Raises `InputError` for rows longer than a model can read."""
    rows = hub.ask(_data_name(task), lambda: task.rows)
    if isinstance(rows, Unknown):
        return rows
    if "train" not in rows:
        raise InputError("data: expected rows to train on, got none; give train_file")
    problems: list[str] = []
    for owner, reader in readers.items():
        planned = models.get(owner)
        model = planned.model if isinstance(planned, PlannedModel) else planned
        if isinstance(reader, Reader) and isinstance(model, PreTrainedModel):
            with collect(problems):
                limit = readable_length(model)
                fit_length(limit, reader.tokenizer, task, reader.name, steady=limit == steady_length(model))
    raise_if_any(problems)
    if not tokenise:
        return Unknown("it was not tokenised")
    if isinstance(tokenizers, Tokenizers) and not tokenizers.shared:
        look_at_data(task, tokenizers.teacher)  # which must allow the rows too
    student = readers.get("student", Unknown("the recipe is wrong"))
    return look_at_data(task, student if isinstance(student, Unknown) else student.tokenizer)


def _data_name(task: Task) -> str:
    """The name of the data for `Hub.ask`: a file, or the name of a data set."""
    arguments, (name, *_) = task.arguments, task.hub_dataset() or ("./no data",)
    file = arguments.train_file or arguments.validation_file
    return f"./{file}" if file else arguments.dataset_name or name
