"""Where a model is: a folder of this machine or a name on the Hub, and what is wrong with it if it is neither."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..identity import may_be_on_hub
from ..ranges import expanded
from ..wording import listed

_CONFIG = "config.json"
_WEIGHTS = {".safetensors", ".bin", ".h5", ".msgpack", ".ckpt", ".pt", ".pth", ".gguf"}
"""Ends of files that may hold a model's weights."""


def resolve_place(name: str | Path) -> str:
    """The folder or Hub id that a name stands for, with `~` and variables replaced: see `expanded`.

    Raises:
        InputError: a file, a folder without a model, or a name that can only be a folder's but is not.
    """
    name = str(name)
    if not name.strip():
        raise InputError("model: expected a folder or a Hub id, got an empty name; name a model")
    try:
        name = str(Path(name).expanduser()) if name.startswith("~") else expanded(name, "model")
    except RuntimeError as error:  # the home folder of a user who does not exist
        raise InputError(f"model: expected a folder or a Hub id, got {name} ({error}); check it") from error
    place = Path(name)
    if place.is_file():
        raise InputError(
            f"model: expected a folder or a Hub id, got the file {name}; give the folder that holds it, with its "
            f"{_CONFIG}"
        )
    repository, _, revision = name.rpartition("@")
    if place.is_dir():
        _check_folder(place)
    elif may_be_on_hub(repository) and revision and Path(repository).exists():
        raise InputError(
            f"model: expected a folder {name}, or {repository} of the Hub at {revision}, got a folder {repository}, "
            "which would be read in its place; rename it, or run this in another folder"
        )
    elif _is_path(repository or name):
        raise InputError(
            f"model: expected a folder or a Hub id, got the folder {name}, which does not exist{_nearest(place)}; "
            "check it"
        )
    return name


def not_a_folder_either(name: str) -> str:
    """A remark for messages about a Hub id that did not load: it may have been meant as a folder. Empty for folders."""
    return "" if Path(name).is_dir() else f"; there is no folder {name} here{_nearest(Path(name))}"


def require_weights(name: str) -> None:
    """Refuse a folder that holds a config but no weights, as an ONNX export is. Raises `InputError`."""
    folder = Path(name).expanduser()
    if not (folder / _CONFIG).is_file():
        return
    held = sorted(entry.name for entry in folder.iterdir())
    if any(Path(file).suffix in _WEIGHTS for file in held):
        return
    what = f"{listed(held, 5)}; give a folder that a model was saved to"
    if "onnx" in held:
        what = "an ONNX export; give the checkpoint that it was made of"
    raise InputError(f"model: expected weights, such as model.safetensors, in {folder}, got {what}")


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model. Raises `InputError`."""
    if (folder / _CONFIG).is_file():
        return
    held = sorted(entry.name for entry in folder.iterdir())
    inside = [name for name in held if (folder / name / _CONFIG).is_file()]
    if inside:
        what = f"the models {listed(inside, 3)}; give one of these" if inside[1:] else f"{inside[0]}; give that folder"
    elif "adapter_config.json" in held:
        what = "an adapter; merge it into its model and save that"
    else:
        what = f"{listed(held, 3) or 'nothing'}; check it"
    raise InputError(f"model: expected a folder with a {_CONFIG}, got {folder}, which holds {what}")


def _is_path(name: str) -> bool:
    """Whether a name can only be that of a folder: a Hub id is `name` or `owner/name`."""
    return name.startswith((".", "/", "~")) or "\\" in name or name.endswith("/") or name.count("/") > 1


def _nearest(place: Path) -> str:
    """The last folder on the way that exists, unless it is where we are."""
    known = next((parent for parent in place.parents if parent.is_dir()), Path())
    return "" if known in (Path(), Path("/")) else f" (only {known} does)"
