"""Fingerprints of content: of models, tokenizers, rows and files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Identity: TypeAlias = dict[str, Any]

_ROWS = 1000
_STREAM_ROWS = 1000
"""Number of rows that the fingerprint of a stream is made from, since its end is not known."""
_PLACES = {"architectures", "dtype", "torch_dtype", "transformers_version"}
"""Fields of a config that describe how its checkpoint was saved, not what the model computes."""
_SETTLED = 1.0
"""Minimum age in seconds before a file's modification time is trusted; disk clocks may be coarse."""
_KNOWN = 1000
"""Fingerprints that a process keeps of each kind."""


def fingerprint(content: Any) -> str:
    """Fingerprint of plain JSON values: dicts (in any order of keys), lists, text, numbers."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def weights_fingerprint(weights: nn.Module | Mapping[str, Tensor], without: Collection[str] = ()) -> str:
    """Fingerprint of the names, types, shapes and bytes of weights.

    Args:
        weights: a module, or tensors by name.
        without: names left out, such as those of a head that is drawn anew.
    """
    digest = hashlib.sha256()
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    for name, tensor in sorted(tensors.items()):
        if name in without:
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            # Bytes can be seen of tensors with an axis only.
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def backbone_fingerprint(model: PreTrainedModel) -> str:
    """Fingerprint of a model's weights without head and pooler: it is the same with any head."""
    backbone = model.base_model
    return weights_fingerprint(backbone, [name for name in backbone.state_dict() if _is_of_head(name)])


def head_fingerprint(model: PreTrainedModel, without: Collection[str] = ()) -> str:
    """Fingerprint of the weights that `backbone_fingerprint` leaves out."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    backbone = [name for name in model.state_dict() if name.startswith(prefix) and not _is_of_head(name)]
    return weights_fingerprint(model, [*backbone, *without])


def _is_of_head(name: str) -> bool:
    """Whether a weight of what transformers calls the base model is the head's: a pooler, or that of T5, whose language
    model is its own base model.
    """
    return "pooler" in name or name.startswith("lm_head.")


def config_content(config: PretrainedConfig) -> Identity:
    """The fields of a config that describe the model: all except paths and versions."""
    fields = config.to_dict().items()
    content = {name: value for name, value in fields if not name.startswith("_") and name not in _PLACES}
    return json.loads(json.dumps(content, default=str))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Fingerprint of a tokenizer's behaviour, without the truncation and padding that earlier calls left in it."""
    content: dict[str, Any] = {
        "special": tokenizer.special_tokens_map,
        "longest": tokenizer.model_max_length,
        "inputs": tokenizer.model_input_names,
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        own = {name: value for name, value in tokenizer.init_kwargs.items() if not _is_place(name, value)}
        content |= {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab(), "arguments": own}
        return fingerprint(content)
    # To read a vocabulary as JSON and to write it in order takes ten times as long as to hash it as it is.
    text = backend.to_str()
    key = fingerprint([content, hashlib.sha256(text.encode()).hexdigest()])
    if key not in _tokenizers:
        content["backend"] = {**json.loads(text), "truncation": None, "padding": None}
        _keep(_tokenizers, key, fingerprint(content))
    return _tokenizers[key]


def rows_fingerprint(rows: Dataset | IterableDataset) -> str:
    """Fingerprint of the content of rows, in order, column by column; for a stream, of its first rows."""
    if isinstance(rows, IterableDataset):
        rows = Dataset.from_list(list(rows.take(_STREAM_ROWS)))
    digest = hashlib.sha256()
    for name in sorted(rows.column_names):
        digest.update(f"{name} {rows.features[name]} {len(rows)}\n".encode())
        for batch in rows.select_columns([name]).with_format("arrow").iter(_ROWS):
            for part in _content(batch.column(0).combine_chunks()):
                digest.update(part)
    return digest.hexdigest()


def file_fingerprint(file: str | Path) -> str:
    """Fingerprint of the bytes of a file; those of a file that is as this process last read it are not read again."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as content:
        state = _state(content.fileno())
        if state in _files:
            return _files[state]
        while block := content.read(1 << 20):
            digest.update(block)
        # What was written a moment ago could be written again at the same time of a clock.
        if state == _state(content.fileno()) and time.time() - max(state[-2:]) / 1e9 > _SETTLED:
            _keep(_files, state, digest.hexdigest())
    return digest.hexdigest()


_FileState: TypeAlias = tuple[int, int, int, int, int]
_files: dict[_FileState, str] = {}
"""Files that were read, by what changes when they are written: see `_state`."""
_tokenizers: dict[str, str] = {}
"""Tokenizers, by their content as it was serialised."""


def _state(opened: int) -> _FileState:
    """Disk, number, size and times of an open file: any write to it, or another file in its place, changes them."""
    found = os.fstat(opened)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _keep(known: dict[Any, str], key: Any, value: str) -> None:
    """Keep a fingerprint for as long as the process works, and not too many of them."""
    while len(known) >= _KNOWN:
        known.pop(next(iter(known)))
    known[key] = value


def _is_place(name: str, value: Any) -> bool:
    return name == "name_or_path" or name.endswith("_file") or isinstance(value, Path)


def _content(array: pa.Array) -> Iterator[bytes]:
    """The values of an Arrow array as bytes that do not depend on their layout in memory."""
    yield f"{len(array)} ".encode()
    if array.null_count:
        yield array.is_valid().to_numpy(zero_copy_only=False).tobytes()
    if isinstance(array, pa.ExtensionArray):
        yield from _content(array.storage)
    elif pa.types.is_struct(array.type):
        for field, part in zip(array.type, array.flatten(), strict=True):
            yield field.name.encode()
            yield from _content(part)
    elif _is_list(array.type):
        yield _bytes(pc.list_value_length(array))
        yield from _content(array.drop_null().flatten())
    elif pa.types.is_string(array.type) or pa.types.is_binary(array.type) or _is_large(array.type):
        yield _bytes(pc.binary_length(array))
        yield b"".join(array.drop_null().cast(pa.large_binary()).to_pylist())
    elif pa.types.is_null(array.type):
        return
    else:
        yield _bytes(array)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_large(kind: pa.DataType) -> bool:
    return pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)


def _bytes(numbers: pa.Array) -> bytes:
    """Numbers, Booleans or dates, in the type of the column."""
    values = numbers.drop_null().to_numpy(zero_copy_only=False)
    # Objects, such as decimals, have no bytes of their own.
    return repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).tobytes()
