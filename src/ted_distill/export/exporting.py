"""`export_onnx`: a checkpoint becomes a folder of files that run without PyTorch, if they do what it does.

FOLDER/onnx/model.onnx            the model in float32, weights inside, for any batch size and length
FOLDER/onnx/model_quantized.onnx  with `int8`: the same with weights in int8
FOLDER/config.json, tokenizer...  as transformers and Transformers.js read them
FOLDER/export.json                task, labels, inputs, outputs, sizes, and how far the files are from the checkpoint
FOLDER/stage.json                 the sums of all files
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..entries import entry
from ..errors import GateError, InputError, collect, raise_if_any
from ..identity import file_fingerprint
from ..method.filters import Batch, FilteredModel
from ..models.embeddings import embedding_parameters
from ..models.given import Model, as_name
from ..models.labels import model_labels
from ..models.load import LoadedModel, ModelArguments, load_model, save_tokenizer
from ..models.places import resolve_place
from ..models.trying.pad_tokens import pad_token_of
from ..models.trying.positions import readable_length
from ..output import (
    Need,
    check_space,
    command,
    locked,
    publication,
    read_json,
    short_name,
    versions,
    write_json,
)
from ..progress import showing
from ..tasks import Task, TaskArguments
from ..tasks.base import Split
from .arguments import ExportArguments
from .folders import beside, check_folder
from .generated_rows import kind_of
from .graph import OPSET, require_small
from .parity import REFERENCE, Comparison, Logits, changed_share, compare, largest_change, made_inputs, probe_batches
from .requirements import package_versions, require_onnx
from .session import OnnxModel, file_as_module
from .which_task import Test, comparing_task
from .written import quantise, write_float

logger = logging.getLogger(__name__)

EXPORT_NAME = "export.json"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
"""Files of a checkpoint's weights, whole or in parts; not those of filters, which may lie beside them."""
READ_FILES = ("config.json", "tokenizer.json")
"""Files of a checkpoint that an export holds too, as the libraries of now write them."""
FLOAT, INT8 = "onnx/model.onnx", "onnx/model_quantized.onnx"
_STAGE = "export"


@dataclass(frozen=True)
class Exported:
    """A published export.

    Attributes:
        about: what `export.json` holds.
    """

    folder: Path
    about: dict[str, Any]

    @property
    def files(self) -> dict[str, Path]:
        """`float32` and, if it was written, `int8`: the ONNX files."""
        return {name: self.folder / file["file"] for name, file in self.about["files"].items()}


def read_export(folder: str | Path) -> Exported:
    """An export that was published earlier. Raises `InputError` for a folder that holds none."""
    about = read_json(Path(folder) / EXPORT_NAME)
    if not isinstance(about, dict) or "files" not in about:
        raise InputError(f"export: expected a folder of `ted export`, got {folder}; export a checkpoint first")
    return Exported(Path(folder), about)


def files_read_of(checkpoint: str | Path) -> dict[str, str]:
    """Fingerprints of the other files that an export follows from, as they are in a checkpoint's folder."""
    files = [Path(checkpoint) / name for name in READ_FILES]
    return {file.name: file_fingerprint(file) for file in files if file.is_file()}


def weights_of(checkpoint: str | Path) -> list[str]:
    """Fingerprints of the files with a checkpoint's weights, by which an export knows it; none of a name of the Hub."""
    files = [file for pattern in WEIGHTS for file in Path(checkpoint).glob(pattern)]
    return sorted(map(file_fingerprint, files))


@entry
def export_onnx(
    checkpoint: Model,
    output_dir: str | Path | None = None,
    *,
    int8: bool = False,
    task: TaskArguments | Task | str | None = None,
    test: Test | None = None,
    max_changed: float = 0.02,
    max_difference: float = 1e-4,
    model_arguments: ModelArguments | None = None,
) -> Exported:
    """Write a fine-tuned checkpoint as ONNX, compare it with the checkpoint, and publish it if it does the same.

    Args:
        checkpoint: folder, Hub id or (model, tokenizer).
        output_dir: the folder to publish [the checkpoint's name and `-onnx`, beside it].
        int8: also write the model with weights in int8.
        task: a task with rows, its arguments or its name [that of the checkpoint's stage, or of its head].
        test: rows to compare on: a recipe, a data file, or rows in memory [texts of random words].
        max_changed: the largest share of predictions that int8 may change. Of regression, see `changed_share`.
        max_difference: the largest difference of a logit in float32, as a share of the largest where that is above 1.

    Raises:
        InputError: packages are missing, the model or the rows do not fit the task, or the folder holds other files.
        GateError: a file differs by more than it may; nothing is published.
        TrainingError: the disk is full.
    """
    require_onnx()
    arguments = ExportArguments(int8=int8, max_changed=max_changed, max_difference=max_difference)
    name = resolve_place(as_name(checkpoint))
    folder = Path(output_dir) if output_dir is not None else beside(name, "onnx")
    loading = model_arguments or ModelArguments()
    problems: list[str] = []
    with collect(problems):
        check_folder(folder, _STAGE, [name])
    with collect(problems):
        task, split, made_up = comparing_task(name, task, test, loading)
    raise_if_any(problems)
    assert isinstance(task, Task)
    if not int8 and (folder / INT8).is_file():
        logger.warning("%s: expected int8 as before, got none; %s goes, give --int8 to make it again", folder, INT8)
    loaded = load_model(name, task, loading)
    loaded.model.eval()
    require_small(loaded.model, name)
    rows = task.rows[split]
    encoded = Split(rows, task.encode(rows, loaded.tokenizer))
    source = "made-up rows of random words" if made_up else f"{split} ({len(rows):,} rows of {task.sources[split]})"
    size = 4 * loaded.model.num_parameters()
    check_space([Need("the exported files", folder, size * (2 + int8))])
    with showing(), locked(folder):
        manifest = {"stage": _STAGE, "task": task.name, "model": short_name(name), "command": command()}
        with publication(folder, manifest) as partial:
            probes = probe_batches(loaded, task, made_inputs(task, encoded, loaded.tokenizer))
            about = _write(partial, loaded, task, probes, int8)
            about |= {"config_overrides": loading.config_overrides}
            found = _compared(partial, loaded, task, encoded, probes, int8)
            about |= _figures(found, task, arguments, source, made_up)
            _gate(about, found, source, made_up)
            write_json(partial / EXPORT_NAME, about)
    return Exported(folder, about)


# --- the files ----------------------------------------------------------------------------------------------------


def _write(folder: Path, loaded: LoadedModel, task: Task, probes: Mapping[str, Batch], int8: bool) -> dict[str, Any]:
    """Write all files but `export.json`, and say what they are."""
    model = loaded.model
    (folder / FLOAT).parent.mkdir(parents=True)
    write_float(loaded, task, folder / FLOAT, probes)
    operators = quantise(loaded, task, folder / FLOAT, folder / INT8, probes) if int8 else None
    files = {"float32": {"file": FLOAT}} | ({"int8": {"file": INT8}} if int8 else {})
    model.config.save_pretrained(folder)
    save_tokenizer(loaded.tokenizer, folder, task)
    labels = model_labels(model.config) if task.label_names is not None else None
    return {
        "model": short_name(loaded.name),
        "weights": weights_of(loaded.name),
        "read_from": files_read_of(loaded.name),
        "architecture": type(model).__name__,
        "task": {"name": task.name, "kind": kind_of(task), "pipeline_tag": task.pipeline_tag},
        "labels": labels,
        "max_length": task.longest(loaded.tokenizer),
        "positions": readable_length(model),
        "parameters": model.num_parameters(),
        "embedding_parameters": embedding_parameters(model),
        **OnnxModel(folder / FLOAT).signature,
        "opset": OPSET,
        "files": {name: {**file, "bytes": (folder / file["file"]).stat().st_size} for name, file in files.items()},
        "int8_operators": operators,
        "versions": versions() | package_versions(),
    }


def as_logits(loaded: LoadedModel, task: Task, file: Path | None = None) -> Logits:
    """Batch -> logits in the data's order, of a checkpoint or of the file that was written from it."""
    if file is None:
        return logits_of(loaded.as_module(task))
    return logits_of(file_as_module(file, task, loaded.label_order, pad_token_of(loaded.model)))


def logits_of(module: FilteredModel) -> Logits:
    """Batch -> logits of a model."""
    module.eval()

    def logits(batch: Batch) -> Tensor:
        return module(batch).logits

    return logits


def _compared(
    folder: Path, loaded: LoadedModel, task: Task, split: Split, probes: Mapping[str, Batch], int8: bool
) -> Comparison:
    models = {REFERENCE: as_logits(loaded, task), "float32": as_logits(loaded, task, folder / FLOAT)}
    if int8:
        models["int8"] = as_logits(loaded, task, folder / INT8)
    return compare(models, task, split, loaded.tokenizer, probes)


# --- the gate -----------------------------------------------------------------------------------------------------


def _figures(found: Comparison, task: Task, arguments: ExportArguments, source: str, made_up: bool) -> dict[str, Any]:
    """What the comparison says, for `export.json`; scores only on rows that were given."""
    parity: dict[str, Any] = {"on": source, "given": not made_up, "rows": found.rows, "tokens": list(found.lengths)}
    for name, difference in found.differences.items():
        parity[name] = {
            "largest_difference": difference.absolute,
            "relative": difference.relative,
            "changed": changed_share(task, name, REFERENCE, found, scored=not made_up),
            "largest_change": largest_change(task, name, REFERENCE, found),
        }
    parity["float32"]["max_difference"] = arguments.max_difference
    if "int8" in parity:
        parity["int8"]["changed"] = changed_share(task, "int8", "float32", found, scored=not made_up)
        parity["int8"]["max_changed"] = arguments.max_changed
    return {"metric": task.metric, "parity": parity, "scores": None if made_up else found.scores}


def _gate(about: dict[str, Any], found: Comparison, source: str, made_up: bool) -> None:
    """Raises `GateError` where a file differs by more than it may, with all figures."""
    parity, problems = about["parity"], []
    exact, int8 = parity["float32"], parity.get("int8")
    if found.differences["float32"].is_beyond(exact["max_difference"]):
        problems.append(
            f"{FLOAT}: expected logits within {exact['max_difference']:g} of PyTorch's, got "
            f"{exact['largest_difference']:.2g} ({exact['relative']:.1g} of the largest, which counts where that is "
            "above 1); try other versions of onnx and transformers, or raise --max_difference"
        )
    if int8 and not int8["changed"] <= int8["max_changed"]:
        problems.append(f"{INT8}: {_int8_problem(about, made_up)}")
    if problems:
        raise GateError(f"nothing was published, compared on {source}: " + "; ".join(problems))


def _int8_problem(about: dict[str, Any], made_up: bool) -> str:
    int8, scores = about["parity"]["int8"], about["scores"]
    metric = about["metric"]
    text = f"expected at most {100 * int8['max_changed']:g} % of predictions changed, got {100 * int8['changed']:.2f} %"
    if scores:
        text += f" ({metric} {scores['int8'][metric]:.2f} for {scores['float32'][metric]:.2f})"
    if made_up:
        return f"{text}; random words say little about that: give rows with --test, or raise --max_changed"
    return f"{text}; leave out --int8, or raise --max_changed"
