"""A candidate that is loaded, and written in the formats that are files: ready to be scored and timed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..errors import InputError
from ..export.graph import require_small
from ..export.parity import probe_batches
from ..export.session import OnnxModel, file_as_module
from ..export.written import write_onnx
from ..fast.precision import cast_buffers, cast_weights
from ..method.filters import Batch, FilteredModel
from ..method.shapes import text_config
from ..models.embeddings import embedding_parameters
from ..models.labels import label_order
from ..models.load import LoadedModel, load_model, load_reader
from ..models.trying.pad_tokens import pad_token_of
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
        loaded: None for an export, which has nothing for PyTorch.
        files: of the formats that are files.
        order: position in the model's logits of each of the data's classes.
    """

    candidate: Candidate
    task: Task
    tokenizer: PreTrainedTokenizerBase
    order: list[int] | None
    pad_token_id: int | None
    loaded: LoadedModel | None = None
    files: dict[Format, Path] = field(default_factory=dict)
    formats: list[Format] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _split: Split | None = None

    def encoded(self, name: str) -> Split:
        """The rows that are scored, as this model reads them."""
        if self._split is None:
            rows = self.task.rows[name]
            self._split = Split(rows, self.task.encode(rows, self.tokenizer))
        return self._split

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
        return {} if self.loaded is None else probe_batches(self.loaded, self.task)

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


def open_candidate(candidate: Candidate, task: Task, formats: Sequence[Format]) -> Opened:
    """Load a candidate. Raises `InputError` if it does not fit the task."""
    if candidate.export is not None:
        return _open_export(candidate, task, formats)
    loaded = load_model(candidate.place, task, candidate.loading)
    loaded.model.eval()
    pad = pad_token_of(loaded.model)
    return Opened(candidate, task, loaded.tokenizer, loaded.label_order, pad, loaded, formats=list(formats))


def _open_export(candidate: Candidate, task: Task, formats: Sequence[Format]) -> Opened:
    place, export = candidate.place, candidate.export
    assert export is not None
    names: dict[str, Format] = {"float32": "onnx", "int8": "int8"}
    files = {names[name]: file for name, file in export.files.items() if name in names and names[name] in formats}
    if not files:
        raise InputError(
            f"formats: expected one of those that {place} holds ({', '.join(export.files)}), got "
            f"{', '.join(formats)}; name onnx or int8, or give the checkpoint"
        )
    config, tokenizer = load_reader(place, task, candidate.loading)
    order = label_order(config, task, place)
    pad = getattr(text_config(config), "pad_token_id", None)
    return Opened(candidate, task, tokenizer, order, pad, files=files, formats=[*files])


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
    loaded, place = opened.loaded, opened.candidate.place
    try:
        require_small(loaded.model, place)
        files: dict[Format, Path] = {"onnx": folder / "model.onnx", "int8": folder / "model_quantized.onnx"}
        int8 = files["int8"] if "int8" in wanted else None
        write_onnx(loaded, opened.task, files["onnx"], int8, f" of {opened.candidate.title}")
    except InputError as error:
        if required:
            raise
        opened.formats = [kind for kind in opened.formats if kind not in OF_FILES]
        opened.notes.append(f"{opened.candidate.title}: ONNX is left out. {error.problems[0]}")
        return
    opened.files = {kind: files[kind] for kind in wanted}


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
