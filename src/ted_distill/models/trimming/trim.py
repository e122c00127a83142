"""`ted trim`: a checkpoint with only the tokens that some texts need.

FOLDER/config.json, weights, tokenizer...  a plain checkpoint
FOLDER/trim.json                           what was kept, how much smaller it is, what it does with other texts
FOLDER/stage.json                          the sums of all files

Before it is published, the smaller model is read back and compared: all texts must have the same tokens as before, a
sample of them the same outputs.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ...entries import typed
from ...errors import InputError, collect, raise_if_any
from ...output import (
    SETTINGS_NAME,
    Need,
    check_space,
    check_writable,
    command,
    foreign_names,
    locked,
    publication,
    read_manifest,
    refuse_busy,
    refuse_own_folder,
    short_name,
)
from ...progress import showing
from ...ranges import between, check_ranges, described
from ...tasks import TaskArguments
from ...tasks.reading.corpus import Text, read_texts
from ...tasks.reading.file_options import FileOptions, file_options, option_problems
from ...wording import parameters, size
from ..given import Model, as_name
from ..load import INFERRED, ModelArguments, inferred_of
from ..places import resolve_place
from .trimmed_checkpoint import choose_tokens

_STAGE = "trim"


@described
@dataclass
class TrimArguments:
    """Which texts say what is kept."""

    _argument_group_name: ClassVar[str] = "trim"

    texts: list[str] | None = None
    """data files whose tokens are kept"""
    other: list[str] | None = None
    """data files to say how many words are cut otherwise [a tenth of the texts]"""
    text_column: list[str] | None = None
    """columns to read [all that hold text]"""
    delimiter: str | None = None
    """between the fields of csv and tsv files"""
    encoding: str | None = None
    """of text files [utf-8]"""
    check_rows: Annotated[int, between(1, 10_000)] = 32
    """texts whose outputs are compared with those of the whole model"""
    model_revision: str = "main"
    """the checkpoint's branch, tag or commit on the Hub"""
    trust_remote_code: bool = False
    """run code that comes with a Hub model"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)

    @property
    def loading(self) -> ModelArguments:
        """How the checkpoint is loaded."""
        return ModelArguments(None, self.model_revision, self.trust_remote_code)


@dataclass(frozen=True)
class TrimmedCheckpoint:
    """A published checkpoint with fewer tokens.

    Attributes:
        about: what `trim.json` holds.
    """

    folder: Path
    about: dict[str, Any]

    def __str__(self) -> str:
        """What came of it, in a few lines."""
        was, now, other = self.about["before"], self.about["after"], self.about["other"]
        less = 100 * (1 - now["bytes"] / was["bytes"])
        lines = [
            f"{was['tokens']:,} -> {now['tokens']:,} tokens, {self.about['used']:,} of them in the texts ("
            f"{self.about['texts']:,}); the others are special, single characters or parts",
            f"{parameters(was['parameters'])} -> {parameters(now['parameters'])} parameters, {size(was['bytes'])} -> "
            f"{size(now['bytes'])} ({less:.1f} % less); embeddings {parameters(was['embeddings'])} -> "
            f"{parameters(now['embeddings'])}",
            f"checked: the same tokens for all texts, the same outputs for {self.about['checked']} "
            f"(largest difference {self.about['largest_difference']:.1g})",
        ]
        if other:
            lines.append(
                f"other text ({other['on']}): of {other['words']:,} words {100 * other['changed_share']:.2f} % are cut "
                f"into other pieces, {100 * other['unknown_share']:.2f} % become unknown"
            )
        return "\n".join(lines)


@typed
def trim_vocabulary(checkpoint: Model, output_dir: str | Path, arguments: TrimArguments) -> TrimmedCheckpoint:
    """Write a checkpoint with only the tokens that texts need, if it does the same on them.

    Args:
        checkpoint: folder, Hub id or (model, tokenizer).
        arguments: the files of texts, which say what is kept, and others.

    Raises:
        InputError: no such model or file, a model or tokenizer that cannot be trimmed, or a folder with other files.
        GateError: the smaller checkpoint would not do the same; nothing is published.
        TrainingError: the disk is full.
    """
    folder = Path(output_dir)
    problems = list(option_problems(TaskArguments(delimiter=arguments.delimiter, encoding=arguments.encoding)))
    raise_if_any(problems)
    options = file_options(TaskArguments(delimiter=arguments.delimiter, encoding=arguments.encoding))
    name = ""
    texts: list[Text] = []
    other: list[Text] | None = None
    with collect(problems):
        name = resolve_place(as_name(checkpoint))
    with collect(problems):
        _check_folder(folder, name)
    with collect(problems):
        texts, other = _read(arguments, options)
    raise_if_any(problems)
    with showing():
        chosen = choose_tokens(name, arguments.loading, texts, other, "those given")
        check_space([Need("the smaller checkpoint", folder, chosen.about["after"]["bytes"])])
        manifest: dict[str, Any] = {
            "stage": _STAGE,
            "task": _task_of(name),
            "model": short_name(name),
            "command": command(),
            INFERRED: inferred_of(name),
        }
        with locked(folder), publication(folder, manifest) as partial:
            about = chosen.write(partial, arguments.check_rows)
            # Which says how it reads rows.
            with suppress(FileNotFoundError):
                shutil.copyfile(Path(name) / SETTINGS_NAME, partial / SETTINGS_NAME)
    return TrimmedCheckpoint(folder, about)


# --- what goes in -------------------------------------------------------------------------------------------------


def _read(arguments: TrimArguments, options: FileOptions) -> tuple[list[Text], list[Text] | None]:
    problems: list[str] = []
    texts: list[Text] = []
    other: list[Text] | None = None
    with collect(problems):
        texts = read_texts(arguments.texts or [], "texts", arguments.text_column, options)
    with collect(problems):
        other = read_texts(arguments.other, "other", arguments.text_column, options) if arguments.other else None
    raise_if_any(problems)
    return texts, other


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that holds anything but an earlier checkpoint of this kind. Raises `InputError`."""
    check_writable(folder)
    refuse_busy(folder)
    refuse_own_folder(folder, [name] if name else [], "OUT")
    manifest = read_manifest(folder)
    held = foreign_names(folder) if manifest is None else []
    if held or (manifest is not None and manifest.get("stage") != _STAGE):
        what = ", ".join(held[:3]) if held else f"the result of {manifest.get('stage')!r}" if manifest else ""
        raise InputError(f"OUT: expected a new or empty folder, got {folder}, which holds {what}; give another one")


def _task_of(name: str) -> str | None:
    """The task of a checkpoint of this package."""
    return (read_manifest(Path(name)) or {}).get("task") if Path(name).is_dir() else None
