"""The recipes that come with the package: where they are, their names, and how a name is resolved."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, did_you_mean, near_names

_OTHERS = "accelerate/"
"""Configs for `accelerate launch`, which lie beside the recipes."""


def recipe_files() -> dict[str, Path]:
    """Name -> file of each recipe; the name is the path below `recipes/` without `.yaml`."""
    folder = _folder()
    files = sorted(folder.rglob("*.yaml")) if folder else []
    named = {_name(file.relative_to(folder).as_posix()): file for file in files if folder}
    return {name: file for name, file in named.items() if not name.startswith(_OTHERS)}


def _folder() -> Path | None:
    """`recipes/`: inside an installed package, or at the top of the repository in a checkout."""
    package = Path(__file__).parents[1]
    found = [folder for folder in (package / "recipes", package.parents[1] / "recipes") if folder.is_dir()]
    return found[0] if found else None


def _name(path: str) -> str:
    return path.removeprefix("./").removeprefix("recipes/").removesuffix(".yaml")


def recipe_title(file: str | Path) -> str:
    """The first line of a recipe, a comment that describes it; empty if there is no such comment."""
    with Path(file).open(encoding="utf-8") as lines:
        first = lines.readline()
    return first.lstrip("#").strip() if first.startswith("#") else ""


def find_recipe(name: str | Path) -> Path:
    """The file a name means: a file that exists, or one of `recipe_files`, with or without `recipes/` and `.yaml`.

    Raises:
        InputError: there is no such recipe; the message has the nearest names.
    """
    file, known = Path(name), recipe_files()
    try:
        if file.is_file():
            return file
    except OSError as error:  # such as a name that is too long
        raise InputError(f"recipe: expected a file, got {str(file)[:200]} ({error.strerror}); give another") from error
    name = _name(file.as_posix())
    if name in known:
        return known[name]
    hint = did_you_mean(_near(file, name, known)) or "; `ted list` shows the recipes"
    if (own := file / "recipe.yaml").is_file():
        hint = f"; its recipe is {own}"
    raise InputError(f"recipe: expected a file or a recipe of the package, got {str(file)[:200]}{hint}")


def _near(file: Path, name: str, known: dict[str, Path]) -> list[str]:
    """A file of similar name in the same folder, or recipes of that folder name, or one of similar name."""
    beside = near_names(file.name, [path.name for path in file.parent.glob("*.y*ml")])
    if beside:
        return [str(file.parent / beside[0])]
    parts = [other for other in known if name in (*other.split("/"), *map(str, Path(other).parents))]
    return parts[:3] or near_names(name, known)


def run_of_file(file: Path) -> str:
    """What a recipe's run is called: the name of its file, in which `$` begins no variable."""
    return file.stem.replace("$", "_")
