"""What a run was made with: recipe, commands, versions of the libraries."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from ..errors import InputError
from ..output import DamagedFileError, read_manifest
from ..output.origins import is_of_windows
from ..runs.parsing import read_yaml
from ..wording import and_list
from .folders import Reported


def facts(reported: Reported) -> dict[str, Any]:
    """`recipe`, its text; `commands` by stage and `versions`, as the stages' manifests have them; `chosen`, how."""
    manifests = {}
    for name, folder in reported.stage_folders().items():
        try:
            manifests[name] = read_manifest(folder) or {}
        except DamagedFileError:
            reported.missing.append(f"The manifest of {name} is damaged: its command and versions are not known.")
    versions: dict[str, list[str]] = {}
    for manifest in manifests.values():
        for library, version in manifest.get("versions", {}).items():
            if version not in versions.setdefault(library, []):
                versions[library].append(version)
    commands = [manifest["command"] for manifest in manifests.values() if "command" in manifest]
    return {
        "recipe": _recipe_text(reported),
        "commands": list(dict.fromkeys(commands)),
        "versions": {library: and_list(found) for library, found in versions.items()},
    }


def _recipe_text(reported: Reported) -> str | None:
    """The recorded recipe, with names in place of absolute paths, which tell a user's name."""
    for folder in (reported.folder, reported.run_folder):
        if (folder / "recipe.yaml").is_file():
            try:
                content = read_yaml(folder / "recipe.yaml", "recipe")
            except InputError as error:
                reported.missing.append(f"The recipe cannot be shown: {error.problems[0]}")
                return None
            return yaml.safe_dump(_without_folders(content), sort_keys=False, allow_unicode=True)
    return None


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_without_folders(held) for held in value]
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or is_of_windows(value)):
        return PureWindowsPath(value).name
    return value
