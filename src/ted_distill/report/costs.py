"""Size and speed of each model, measured once and kept, so that a report made again says the same.

Speed is rows a second of a plain forward pass on a sample of the rows that are scored. Models take turns, pass by pass,
so that whatever else the machine does slows all of them alike. Models of one shape are as fast as each other, and only
one of them is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel

from ..errors import InputError, TrainingError
from ..identity import Identity, config_content, fingerprint, plain, rows_fingerprint
from ..method.filters import Batch
from ..method.shapes import num_blocks
from ..models.embeddings import embedding_parameters
from ..models.load import LoadedModel, load_config, load_model
from ..output import MANIFEST_NAME, atomic_files, read_if_sound, read_json, write_sealed
from ..runs.kept_predictions import scored_split
from ..runs.run_folder import COMPARISON_NAME
from ..runs.spread import middles, spread_places
from ..runs.table import BEST, TRIMMED
from ..stages.autocast import fitting_autocast
from ..stages.evaluate import scoring_autocast, scoring_device
from ..tasks import Task
from ..training.fitting_memory import room_to_score
from ..training.stage_arguments import StageArguments
from .folders import RESULTS, Reported
from .hardware import hardware

MEASURED_NAME = "measured.json"
"""File of the measurements that would differ on another machine or at another time."""
_PASSES = 5
_MOST_ROWS = 256
_SECONDS_A_PASS = 2.0
_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""Without filters, which a finished student does not need."""


def costs(reported: Reported) -> dict[str, Any]:
    """`models`: parameters, bytes and speed by name; `speed`: how it was measured; `hardware`; `date` of the run.

    Of models that cannot be loaded any more, or without rows, it is what was measured of the same weights before; those
    of which nothing is known are left out, and named in `reported.missing`.
    """
    identity = _identity(reported)
    known = read_if_sound(reported.folder / MEASURED_NAME)
    if known.get("identity") != identity:
        found = {"identity": identity, "date": _date(reported), "hardware": hardware(), **_measure(reported)}
        known, nothing_new = _with_what_was_known(known, found), not found["models"]
        if not (nothing_new and known["models"]):
            with atomic_files(reported.folder) as partial:
                write_sealed(partial / MEASURED_NAME, known)
    reported.missing += known.get("missing", [])
    return {name: value for name, value in known.items() if name not in ("identity", "missing")}


def _with_what_was_known(known: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What is found now, and of each model that could not be measured what was measured of it before."""
    before, now = known.get("identity", {}), found["identity"]

    def is_same(name: str) -> bool:
        weights, shape = now["stages"].get(name), now["shapes"].get(name)
        same = not weights or weights == before["stages"].get(name)
        return same and shape in (None, before["shapes"].get(name))

    kept = {
        name: of
        for name, of in known.get("models", {}).items()
        if name not in found["models"] and name in now["shapes"] and is_same(name)
    }
    if not kept:
        return found
    missing = [text for text in found["missing"] if not any(_missing(name, "") in text for name in kept)]
    if found["models"] and _how_measured(known) != _how_measured(found):
        # Beside speeds of another machine or of other rows, theirs would say which model is faster, and be wrong.
        kept = {name: {**of, "rows_per_second": None} for name, of in kept.items()}
        missing += [
            f"Without the model of {name}, nothing is said of its speed: that of the others was measured in another way"
            for name in kept
        ]
    models = {**kept, **found["models"]}
    measured = {key: known[key] for key in ("date", "hardware", "speed")} if not found["models"] else {}
    in_order = {name: models[name] for name in now["shapes"] if name in models}
    return {**found, **measured, "models": in_order, "missing": missing}


def _how_measured(measured: dict[str, Any]) -> tuple[Any, ...]:
    """What speeds depend on apart from the models."""
    identity, speed = measured["identity"], measured.get("speed") or {}
    how = {key: value for key, value in speed.items() if key != "rows"}  # as many as there was time for
    return measured.get("hardware"), how, identity.get("rows"), identity.get("batch")


def _missing(name: str, why: str) -> str:
    return f"Without the model of {name}, nothing is said of its size and speed: {why}"


def _identity(reported: Reported) -> Identity:
    """What the measurements depend on: the stages' weights, the models' shapes, the rows."""
    stages = reported.stage_folders().items()
    task, args = reported.task, reported.scoring("teacher")
    return plain(
        {
            "stages": {name: weights_sums(folder) for name, folder in stages},
            "shapes": {name: _shape(reported, name) for name in _names(reported)},
            "rows": rows_fingerprint(task.rows[scored_split(task)]) if task else None,
            "batch": args.per_device_eval_batch_size if args else None,
        }
    )


def weights_sums(folder: str | Path) -> dict[str, str]:
    """The sha256 of the files of weights of a folder of ours, by its manifest; empty for other models."""
    files = (read_json(Path(folder) / MANIFEST_NAME) or {}).get("files")
    found = files.items() if isinstance(files, dict) else ()
    return {name: of["sha256"] for name, of in found if name.endswith((".safetensors", ".bin", ".onnx"))}


def _names(reported: Reported) -> list[str]:
    """The models, and RUN/best where it is one of its own, with fewer tokens."""
    trimmed = reported.comparison is None and any(result.get(TRIMMED) for result in reported.results.values())
    return [*reported.names, *([BEST] if trimmed else [])]


def _shape(reported: Reported, name: str) -> str | None:
    """A fingerprint that is equal for models that differ only in their weights; None for a missing model."""
    try:
        config = load_config(reported.model(name), reported.loading(name))
    except InputError:
        return None
    labels = {"id2label", "label2id", "problem_type"}
    return fingerprint({key: value for key, value in config_content(config).items() if key not in labels})


def _date(reported: Reported) -> str:
    """The day on which the run ended, by its files."""
    names = [folder / MANIFEST_NAME for folder in reported.stage_folders().values()]
    names += [reported.folder / RESULTS, reported.folder / COMPARISON_NAME]
    ended = max((file.stat().st_mtime for file in names if file.is_file()), default=time.time())
    return datetime.fromtimestamp(ended, tz=timezone.utc).strftime("%Y-%m-%d")


# --- measuring ----------------------------------------------------------------------------------------------------


def _measure(reported: Reported) -> dict[str, Any]:
    task, args = reported.task, reported.scoring("teacher")
    if task is None or args is None:
        return {"models": {}, "speed": None, "missing": []}
    models: dict[str, dict[str, Any]] = {}
    of_shape: dict[str, LoadedModel] = {}
    missing = []
    for name in _names(reported):
        shape = _shape(reported, name)
        try:
            loaded = of_shape.get(str(shape)) or load_model(reported.model(name), task, reported.loading(name))
        except InputError as error:
            missing.append(_missing(name, error.problems[0]))
            continue
        of_shape[str(shape)] = loaded
        embeddings = embedding_parameters(loaded.model)
        models[name] = {
            "shape": shape,
            "blocks": _blocks(loaded.model),
            "parameters": loaded.model.num_parameters(),
            "embedding_parameters": embeddings,
            "bytes": _bytes(Path(reported.model(name))),
        }
    speeds, how = _speeds(of_shape, task, args)
    for of_model in models.values():
        of_model["rows_per_second"] = speeds.get(str(of_model.pop("shape")))
    return {"models": models, "speed": how, "missing": missing}


def _blocks(model: PreTrainedModel) -> int | None:
    try:
        return num_blocks(model.config)
    except InputError:
        return None


def _bytes(folder: Path) -> int | None:
    """Of the weights on disk that are loaded, not of those beside them; None for a model of the Hub."""
    sizes = (sum(file.stat().st_size for file in folder.glob(names)) for names in _WEIGHTS)
    return next((size for size in sizes if size), None)


def _speeds(models: dict[str, LoadedModel], task: Task, args: StageArguments) -> tuple[dict[str, float], Any]:
    """Rows a second by shape, and how they were measured."""
    device = scoring_device(args.use_cpu)
    size = args.per_device_eval_batch_size
    rows = task.rows[scored_split(task)]
    rows = rows.select(spread_places(len(rows), _MOST_ROWS))
    precision = args.autocast_type
    for loaded in models.values():
        precision = fitting_autocast(loaded, task, device, precision)
    autocast = scoring_autocast(device, precision)
    ready: dict[str, _Pass] = {}
    try:
        with room_to_score(size):
            ready = {shape: _Pass(loaded, task, rows, size, device, autocast) for shape, loaded in models.items()}
            if not ready:
                return {}, None
            # The first pass warms up; it also says how much of the sample there is time for.
            slowest = max(one.seconds() for one in ready.values())
            share = min(1.0, _SECONDS_A_PASS / slowest)
            for one in ready.values():
                one.cut(share)
            taken = [{shape: one.seconds() for shape, one in ready.items()} for _ in range(_PASSES)]
    except TrainingError:
        return {}, None
    found = {shape: one.rows / median(of_all[shape] for of_all in taken) for shape, one in ready.items()}
    how = {
        "rows": max(1, round(max(one.rows for one in ready.values()))),
        "unit": "block" if task.running_text else "row",
        "passes": _PASSES,
        "batch_size": size,
        "precision": precision,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }
    return {shape: float(f"{speed:.3g}") for shape, speed in found.items()}, how


class _Pass:
    """One pass of a model over a sample of rows, batch by batch, longest first as in scoring."""

    def __init__(
        self,
        loaded: LoadedModel,
        task: Task,
        rows: Any,
        size: int,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.model = loaded.as_module(task).eval().to(device)
        self.device, self.autocast = device, autocast
        features = task.encode(rows, loaded.tokenizer)
        order = sorted(range(len(features)), key=lambda row: -features[row]["length"])
        self.collate = lambda places: task.collate([features[row] for row in places], loaded.tokenizer)
        self.places, self.size = order, size
        self.rows: float = len(features) if task.running_text else len(rows)
        """How many rows, or blocks of a text, the batches are of; a question may have several windows."""
        self.batches = self._batches()

    def _batches(self) -> list[Batch]:
        groups = (self.places[start : start + self.size] for start in range(0, len(self.places), self.size))
        return [{name: tensor.to(self.device) for name, tensor in self.collate(group).items()} for group in groups]

    def cut(self, share: float) -> None:
        """Keep about this share of the features, of all lengths alike; at least a batch of them, and whole batches."""
        kept = max(min(self.size, len(self.places)), round(share * len(self.places)))
        if kept > self.size:
            kept -= kept % self.size
        self.rows *= kept / len(self.places)
        self.places = [self.places[place] for place in middles(len(self.places), kept)]
        self.batches = self._batches()

    @torch.inference_mode()
    def seconds(self) -> float:
        """Of one pass."""
        self._wait()
        began = time.perf_counter()
        for batch in self.batches:
            with self.autocast():
                self.model(batch)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
