"""Checkpoints of the published implementation, turned into plain checkpoints with filter files next to them.

The published code saves `model_type: ted-deberta-v2`, which no Auto class loads, with filters inside the model.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from ..errors import InputError, raise_if_any, reason_of
from ..method.filter_files import load_filters, save_filters
from ..method.filters import FilterConfig, Filters
from ..output import check_writable, command, foreign_names, locked, publication, read_json, write_json
from ..tasks.glue import GLUE

logger = logging.getLogger(__name__)

MODEL_TYPE, PLAIN_MODEL_TYPE = "ted-deberta-v2", "deberta-v2"
CONFIG_NAME = "config.json"
SAFETENSORS_NAME, PICKLE_NAME = "model.safetensors", "pytorch_model.bin"
TOKENIZER_NAMES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "spm.model",
)  # fmt: skip

HEADS = {"classifier.": "DebertaV2ForSequenceClassification", "qa_outputs.": "DebertaV2ForQuestionAnswering"}
"""The first letters of a head's weights -> the plain model of transformers that has them."""

_OWN_CONFIG_KEYS = {
    "train_filters", "filter_interval", "filter_output_dim", "filter_nonlinear", "filter_disabled",
    "_name_or_path", "auto_map",
}  # fmt: skip
_FILTER_HEADS = ("filter_head.", "filter_pooler.")
# A buffer that transformers used to save and now makes itself.
_POSITION_IDS = "deberta.embeddings.position_ids"


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a checkpoint of the published code."""

    config: dict[str, Any]
    """Of the plain model."""
    model_class: type[PreTrainedModel]
    weights: dict[str, Tensor]
    filter_config: FilterConfig | None
    """None after KD, which has no filters."""
    filter_weights: dict[str, Tensor]
    tokenizer_files: list[Path]


def import_published(source: str | Path, out: str | Path) -> Filters | None:
    """Write a plain checkpoint, its filter files, and the tokenizer files if there are any, into `out`.

    Every weight is kept bit for bit; only the heads that Stage I throws away are left out.

    Args:
        source: a local folder or a Hub id, saved after Stage I or Stage II.
        out: a folder that is empty or does not exist.

    Returns:
        The filters, or None for a model that the published code saved without any.

    Raises:
        InputError: the checkpoint is of another kind, damaged or incomplete, or `out` is not empty.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or foreign_names(out)):
        raise InputError(f"output: {out} exists and is not an empty folder; give another, or delete it")
    checkpoint = read_checkpoint(find_checkpoint(source))
    check_writable(out)
    with locked(out), publication(out, {"stage": "import-published", "command": command()}) as folder:
        write_json(folder / CONFIG_NAME, checkpoint.config)
        save_file(checkpoint.weights, folder / SAFETENSORS_NAME, metadata={"format": "pt"})
        for file in checkpoint.tokenizer_files:
            shutil.copyfile(file, folder / file.name)
        # In float32, as the stages load it: the filter files name the model by its weights.
        model = checkpoint.model_class.from_pretrained(folder, dtype=torch.float32)
        if checkpoint.filter_config is None:
            return None
        with torch.device("meta"):
            filters = Filters.random(checkpoint.filter_config)
        filters.load_state_dict(checkpoint.filter_weights, assign=True)
        save_filters(folder, filters, model)
        return load_filters(folder, model)


# --- reading --------------------------------------------------------------------------------------------------


def find_checkpoint(source: str | Path) -> Path:
    """The local folder, or that of the files downloaded from the Hub.

    Raises:
        InputError: neither a folder nor a model on the Hub has this name.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if isinstance(source, Path) or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise InputError(f"source: expected a checkpoint's folder or a Hub id, got {source}, which does not exist")
    names = [CONFIG_NAME, SAFETENSORS_NAME, PICKLE_NAME, *TOKENIZER_NAMES]
    try:
        return Path(snapshot_download(source, allow_patterns=names))
    except (OSError, ValueError) as error:
        raise InputError(
            f"source: expected a folder or a Hub id, got {source}: there is no such folder, and the Hub gave none "
            f"({reason_of(error)})"
        ) from error


def read_checkpoint(folder: Path) -> Checkpoint:
    """Take a checkpoint apart and check each part.

    Raises:
        InputError: a part is wrong; says what was expected and what it is.
    """
    config = _read_config(folder)
    weights = _read_weights(folder)
    model_class = _model_class(weights, folder)
    plain_config = _plain_config(config, model_class)
    filter_weights = {name: weight for name, weight in weights.items() if ".filter." in name}
    plain_weights = {
        name: weight
        for name, weight in weights.items()
        if name not in filter_weights and name != _POSITION_IDS and not name.startswith(_FILTER_HEADS)
    }
    model = _empty_model(model_class, plain_config, folder)
    problems = list(_differences(plain_weights, model.state_dict(), f"{folder}: model"))
    raise_if_any(problems)
    filter_config = _filter_config(config, model.config, bool(filter_weights), folder)
    renamed = _our_names(filter_weights, filter_config, folder)
    files = [folder / name for name in TOKENIZER_NAMES if (folder / name).is_file()]
    return Checkpoint(plain_config, model_class, plain_weights, filter_config, renamed, files)


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_NAME
    if not file.is_file():
        raise InputError(f"{folder}: expected {CONFIG_NAME}, found no such file; give the folder of a checkpoint")
    config = read_json(file)
    if not isinstance(config, dict):
        raise InputError(
            f"{file}: expected JSON, got a file that is cut off or is not JSON; copy or download the checkpoint again"
        )
    if config.get("model_type") != MODEL_TYPE:
        hint = (
            "; a plain checkpoint needs no import: give it to `ted` as it is"
            if config.get("model_type") == PLAIN_MODEL_TYPE
            else ""
        )
        raise InputError(
            f"{file}: expected model_type {MODEL_TYPE}, which the published code saves, got "
            f"{config.get('model_type')}{hint}"
        )
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint, each with its own storage. Pickles are read only as tensors."""
    readers: dict[str, Callable[[Path], Any]] = {
        SAFETENSORS_NAME: load_file,
        PICKLE_NAME: lambda file: torch.load(file, map_location="cpu", weights_only=True),
    }
    file = next((folder / name for name in readers if (folder / name).is_file()), None)
    if file is None:
        raise InputError(f"{folder}: expected {' or '.join(readers)}, found neither; give the folder of a checkpoint")
    try:
        weights = readers[file.name](file)
    except Exception as error:  # a damaged file fails in as many ways as there are bytes in it
        raise InputError(
            f"{file}: expected named tensors, got a file that is cut off, damaged, or holds more than tensors "
            f"({type(error).__name__}); copy or download the checkpoint again"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    ):
        raise InputError(f"{file}: expected named tensors, got something else; is it a model's checkpoint?")
    return {name: weight.detach().clone().contiguous() for name, weight in weights.items()}


def _model_class(weights: dict[str, Tensor], folder: Path) -> type[PreTrainedModel]:
    found = {HEADS[start] for start in HEADS if any(name.startswith(start) for name in weights)}
    if len(found) != 1:
        raise InputError(
            f"{folder}: expected one head, {' or '.join(f'{start}weight' for start in HEADS)}, got "
            f"{'both' if found else 'neither'}; give a checkpoint of Stage I or Stage II"
        )
    return getattr(transformers, found.pop())


def _plain_config(config: dict[str, Any], model_class: type[PreTrainedModel]) -> dict[str, Any]:
    """The config without the fields that only the published code knows, and with label names as strings."""
    plain = {key: value for key, value in config.items() if key not in _OWN_CONFIG_KEYS}
    plain |= {"model_type": PLAIN_MODEL_TYPE, "architectures": [model_class.__name__]}
    names = plain.get("id2label")
    if isinstance(names, dict) and all(str(position).isdecimal() for position in names):
        named = _label_names(names, str(config.get("finetuning_task")))
        plain["id2label"] = named
        plain["label2id"] = {label: int(position) for position, label in named.items()}
    return plain


def _label_names(names: dict[str, Any], task: str) -> dict[str, str]:
    """Position in the logits -> name of the class.

    The published GLUE scripts leave the data's class numbers where names belong; the task then has the names.
    """
    known = GLUE[task].label_names if task in GLUE else None
    if known and sorted(map(str, names.values())) == [str(number) for number in range(len(known))]:
        return {str(position): known[int(number)] for position, number in names.items()}
    return {str(position): str(label) for position, label in names.items()}


def _empty_model(model_class: type[PreTrainedModel], config: dict[str, Any], folder: Path) -> PreTrainedModel:
    """The plain model without memory for its weights: it has their names and shapes."""
    try:
        with torch.device("meta"):
            return model_class(model_class.config_class.from_dict(config))
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder / CONFIG_NAME}: no model can be made of it ({error})") from error


# --- filters --------------------------------------------------------------------------------------------------


def _filter_config(
    config: dict[str, Any], model_config: PretrainedConfig, found: bool, folder: Path
) -> FilterConfig | None:
    if not found and config.get("filter_disabled"):
        logger.warning(
            "%s: the published code saved this model without filters; ted needs some, kd and lwd do not", folder
        )
        return None
    interval, width = config.get("filter_interval", 1), config.get("filter_output_dim")
    if type(interval) is not int or type(width) not in (int, type(None)):
        raise InputError(
            f"{folder / CONFIG_NAME}: expected numbers as filter_interval and filter_output_dim, got {interval} and "
            f"{width}; copy or download the checkpoint again"
        )
    return FilterConfig.for_model(model_config, interval, width, bool(config.get("filter_nonlinear")))


def _our_names(weights: dict[str, Tensor], config: FilterConfig | None, folder: Path) -> dict[str, Tensor]:
    """`deberta.encoder.layer.{block - 1}.filter.weight` -> `filters.{k}.weight`.

    Raises:
        InputError: filters are missing, too many, or of other shapes than the config says.
    """
    if config is None:
        return {}
    with torch.device("meta"):
        expected = Filters.random(config).state_dict()
    theirs = {
        name: f"deberta.encoder.layer.{config.blocks[int(number)] - 1}.filter.{rest}"
        for name in expected
        for _, number, rest in [name.split(".", 2)]
    }
    wanted = {theirs[name]: weight for name, weight in expected.items()}
    raise_if_any(
        f"{problem}; {CONFIG_NAME} says filters after blocks {config.blocks}, {config.filter_output_dim} wide, "
        f"{'non' if config.filter_nonlinear else ''}linear"
        for problem in _differences(weights, wanted, f"{folder}: filters")
    )
    return {name: weights[theirs[name]] for name in expected}


def _differences(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> Iterator[str]:
    """The reasons why `found` cannot be loaded as `expected`, each kind of problem once."""
    missing = [name for name in expected if name not in found]
    foreign = [name for name in found if name not in expected]
    if missing:
        yield f"{what}: {len(missing)} of {len(expected)} weights are missing (first: {missing[0]})"
    if foreign:
        yield f"{what}: {len(foreign)} weights do not belong there (first: {foreign[0]})"
    misshapen = [name for name in expected if name in found and found[name].shape != expected[name].shape]
    if misshapen:
        got, wanted = (tuple(weights[misshapen[0]].shape) for weights in (found, expected))
        yield f"{what}: expected shape {wanted} of {misshapen[0]}, got {got}"
