"""A candidate that is loaded, and written in the formats that are files: ready to be scored and timed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..export.exporting import Exported
from ..export.generated_rows import kind_of
from ..export.graph import require_small
from ..export.parity import made_inputs, probe_batches
from ..export.session import OnnxModel, file_as_module
from ..export.written import quantise, write_float
from ..fast.precision import cast_buffers, cast_weights
from ..method.filters import Batch, FilteredModel
from ..method.shapes import text_config
from ..models.embeddings import embedding_parameters
from ..models.labels import check_problem_type, label_order
from ..models.load import LoadedModel, load_model, load_reader
from ..models.trying.pad_tokens import pad_token_of
from ..models.trying.positions import fit_length
from ..tasks import Task
from ..tasks.base import Split
from .arguments import Format
from .candidates import Candidate
from .formats import OF_FILES
from .timing import Call

_BYTES = {"pytorch": 4, "bf16": 2}


@dataclass
class Opened:
    """A candidate with its tokenizer and whatever it is run from.

    Attributes:
        split: of the task's rows, which is scored.
        loaded: None for an export, which has nothing for PyTorch.
        files: of the formats that are files.
        order: position in the model's logits of each of the data's classes.
    """

    candidate: Candidate
    task: Task
    split: str
    tokenizer: PreTrainedTokenizerBase
    order: list[int] | None
    pad_token_id: int | None
    loaded: LoadedModel | None = None
    files: dict[Format, Path] = field(default_factory=dict)
    formats: list[Format] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def encoded(self) -> Split:
        """The rows that are scored, as this model reads them."""
        rows = self.task.rows[self.split]
        return Split(rows, self.task.encode(rows, self.tokenizer))

    def module(self, kind: Format, threads: int | None = None) -> FilteredModel:
        """The model in one of its formats.

        Args:
            threads: of a file [as many as PyTorch uses].
        """
        if kind in OF_FILES:
            return file_as_module(self.files[kind], self.task, self.order, self.pad_token_id, threads).eval()
        assert self.loaded is not None
        if kind != "bf16":
            return self.loaded.as_module(self.task).eval()
        model = copy.deepcopy(self.loaded.model)
        cast_weights(model, torch.bfloat16)
        module = replace(self.loaded, model=model).as_module(self.task).eval()
        try:
            with torch.no_grad():
                module(self.probes()["padded"])
        except RuntimeError:  # of a table in float32 that does not fit the weights any more
            cast_buffers(model, torch.bfloat16)
        return module

    def probes(self) -> dict[str, Batch]:
        """Made-up batches that formats are compared on beside the rows; none for an export."""
        if self.loaded is None:
            return {}
        return probe_batches(self.loaded, self.task, made_inputs(self.task, self.encoded, self.tokenizer))

    @property
    def parameters(self) -> dict[str, int | None]:
        """All of them, and those in embeddings; None where an older export does not say."""
        if self.loaded is None:
            assert self.candidate.export is not None
            about = self.candidate.export.about
            return {key: about.get(key) for key in ("parameters", "embedding_parameters")}
        model = self.loaded.model
        return {"parameters": model.num_parameters(), "embedding_parameters": embedding_parameters(model)}

    def size(self, kind: Format) -> int:
        """Bytes of the weights in a format; of a file, of all of it."""
        if kind in self.files:
            return self.files[kind].stat().st_size
        assert self.loaded is not None
        return _BYTES[kind] * self.loaded.model.num_parameters()


def open_candidate(candidate: Candidate, task: Task, split: str, formats: Sequence[Format]) -> Opened:
    """Load a candidate. Raises `InputError` if it does not fit the task."""
    if candidate.export is not None:
        return _open_export(candidate, candidate.export, task, split, formats)
    loaded = load_model(candidate.place, task, candidate.loading)
    loaded.model.eval()
    pad = pad_token_of(loaded.model)
    return Opened(candidate, task, split, loaded.tokenizer, loaded.label_order, pad, loaded, formats=list(formats))


def _open_export(candidate: Candidate, export: Exported, task: Task, split: str, formats: Sequence[Format]) -> Opened:
    place = candidate.place
    names: dict[str, Format] = {"float32": "onnx", "int8": "int8"}
    files = {names[name]: file for name, file in export.files.items() if name in names and names[name] in formats}
    if not files:
        raise InputError(
            f"formats: expected one of those that {place} holds ({', '.join(export.files)}), got "
            f"{', '.join(formats)}; name onnx or int8, or give the checkpoint"
        )
    _check_kind(export, task, place)
    config, tokenizer = load_reader(place, task, candidate.loading)
    check_problem_type(config, task, place)
    order = label_order(config, task, place)
    fit_length(export.about.get("positions"), tokenizer, task, place)
    pad = getattr(text_config(config), "pad_token_id", None)
    opened = Opened(candidate, task, split, tokenizer, order, pad, files=files, formats=[*files])
    if others := sorted({*export.about["inputs"]} - made_inputs(task, opened.encoded, tokenizer)):
        raise InputError(
            f"bench: expected an export that takes what batches of task {task.name} hold, got {place}, which takes "
            f"{', '.join(others)} too; export the checkpoint again"
        )
    return opened


def _check_kind(export: Exported, task: Task, place: str) -> None:
    """Refuse an export for another kind of task. Raises `InputError`."""
    own = export.about["task"]
    for found, wanted in ((own["kind"], kind_of(task)), (own["pipeline_tag"], task.pipeline_tag)):
        # A task of the user's own may be of no known kind.
        if None not in (found, wanted) and found != wanted:
            raise InputError(
                f"bench: expected an export for task {task.name} ({wanted}), got {place}, which is for {own['name']} "
                f"({found}); measure it by itself, or name its task with --task"
            )


def write_files(opened: Opened, folder: Path, required: bool) -> None:
    """Write a checkpoint's ONNX files, if formats ask for them, into a folder.

    Args:
        required: refuse a model that cannot be written; otherwise its formats are left out, with a note.

    Raises:
        InputError: it cannot be written.
    """
    wanted = [kind for kind in opened.formats if kind in OF_FILES]
    if opened.loaded is None or not wanted:
        return
    files: dict[Format, Path] = {"onnx": folder / "model.onnx", "int8": folder / "model_quantized.onnx"}
    probes, of = opened.probes(), f" of {opened.candidate.title}"
    try:
        require_small(opened.loaded.model, opened.candidate.place)
        write_float(opened.loaded, opened.task, files["onnx"], probes, of)
    except InputError as error:
        _leave_out(opened, OF_FILES, "ONNX", error, required)
        return
    try:
        if "int8" in wanted:
            quantise(opened.loaded, opened.task, files["onnx"], files["int8"], probes, of)
    except InputError as error:
        _leave_out(opened, ("int8",), "ONNX int8", error, required)
    opened.files = {kind: files[kind] for kind in wanted if kind in opened.formats}


def _leave_out(opened: Opened, formats: Sequence[Format], name: str, error: InputError, required: bool) -> None:
    """Go on without formats, with a note. Raises `error` if they are required."""
    if required:
        raise error
    opened.formats = [kind for kind in opened.formats if kind not in formats]
    opened.notes.append(f"{opened.candidate.title}: {name} is left out. {error.problems[0]}")


def calls(module: FilteredModel, batches: Sequence[Batch]) -> list[Call]:
    """A call for each batch, with everything ready that is not the model's work."""
    model: Any = module.model
    if isinstance(model, OnnxModel):
        return [_call(model.run, (model.feed(**module.inputs(batch)),), {}) for batch in batches]
    return [_call(model, (), {**module.inputs(batch), "return_dict": True}) for batch in batches]


def _call(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Call:
    @torch.inference_mode()
    def call() -> object:
        return function(*arguments, **named)

    return call
