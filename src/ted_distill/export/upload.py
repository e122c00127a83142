"""`ted push`: a finished checkpoint on the Hub, with its card, and with filters and ONNX files if they are wanted.

What is uploaded is named file by file: the model, its tokenizer, its card, and what was asked for. Everything else in a
folder stays here: checkpoints with the state of the optimizer, caches, logs, recipes, `settings.json` and `stage.json`,
which hold paths of this machine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import ClassVar

import transformers
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..entries import typed
from ..errors import InputError, TrainingError, collect, raise_if_any, reason_of, shown
from ..method.filter_files import FILTERS_CONFIG_NAME, FILTERS_NAME
from ..models.given import Model, as_name
from ..models.load import ModelArguments
from ..models.places import resolve_place
from ..models.trimming.trimmed_checkpoint import TRIM_NAME
from ..output import check_inputs, read_json, short_name
from ..output.cards import CARD_NAME, USE_HERE, card_problems, card_text
from ..progress import busy, showing
from ..ranges import check_ranges, described
from ..secrets import text_without_secrets
from ..stages.filters.block_scores import BLOCK_SCORES_NAME
from ..tasks import load_task
from .exporting import EXPORT_NAME, READ_FILES, WEIGHTS, files_read_of, read_export, weights_of
from .which_task import arguments_of

_OF_MODEL = (
    *WEIGHTS, "model.safetensors.index.json", "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "*.model", "*.spm", "chat_template.jinja", TRIM_NAME,
)  # fmt: skip
_FORMER = (
    *(name for name in _OF_MODEL if not name.startswith("*")), "spiece.model", "spm.model", "sentencepiece.bpe.model",
    "tokenizer.model", "source.spm", "target.spm", "bpe.codes",
)  # fmt: skip
"""Files of an earlier model: what is not uploaded again would be read with this one. Never a pattern that begins with a
star: on the Hub it would match files in folders too, which nothing here wrote."""
_OF_FILTERS = (FILTERS_NAME, FILTERS_CONFIG_NAME, BLOCK_SCORES_NAME)
_OF_ONNX = ("onnx/model.onnx", "onnx/model_quantized.onnx", EXPORT_NAME)
_TOKENIZER = "tokenizer_config.json"


@described
@dataclass
class PushArguments:
    """What is uploaded besides the model and its card."""

    _argument_group_name: ClassVar[str] = "push"

    private: bool = False
    """in a repository that only its owner sees"""
    with_filters: bool = False
    """also the filters of Stage I or II"""
    onnx: str | None = None
    """also the files of this folder of `ted export`"""
    license: str | None = None
    """its short name, such as apache-2.0 [what the card says, if it says one]"""
    message: str = "Upload by ted-distill"
    """the message of the commit"""
    dry_run: bool = False
    """check everything and list the files; upload nothing"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, or would be.

    Attributes:
        url: of the commit; None if nothing was uploaded.
        files: names in the repository -> bytes.
    """

    repo_id: str
    url: str | None
    files: dict[str, int]

    def __str__(self) -> str:
        """The files and their sizes, and where they are."""
        width = max(map(len, self.files))
        lines = [f"{name:<{width}}  {size:>13,}" for name, size in self.files.items()]
        return "\n".join([*lines, self.url or f"nothing was uploaded to {self.repo_id}"])


@typed
def push_to_hub(
    checkpoint: Model,
    repo_id: str,
    *,
    private: bool = False,
    with_filters: bool = False,
    onnx: str | Path | None = None,
    license: str | None = None,
    message: str = PushArguments.message,
    dry_run: bool = False,
) -> Pushed:
    """Upload a finished checkpoint with its card to the Hub, as the user who is logged in there.

    Args:
        checkpoint: the folder of a stage, a run's `best`, or a checkpoint of `ted trim`.
        repo_id: `owner/name`; made if there is none.
        private: in a private repository.
        with_filters: also the filters.
        onnx: also the files of this export of the same checkpoint.
        license: in place of what the card says.
        message: of the commit.
        dry_run: check and list only.

    Raises:
        InputError: with all problems: no such checkpoint or repository, files missing, a card that the Hub would
            refuse, or that says what should stay here.
        TrainingError: the Hub cannot be reached, or refuses the upload.
    """
    arguments = PushArguments(private, with_filters, str(onnx) if onnx else None, license, message, dry_run)
    folder = Path(resolve_place(as_name(checkpoint)))
    problems = [*_repo_problems(repo_id)]
    files: dict[str, Path] = {}
    with collect(problems):
        files = files_to_push(folder, arguments)
    with collect(problems):
        card = _card(folder, repo_id, arguments)
    raise_if_any([*problems, *_private_problems(files)])
    sizes = {name: file.stat().st_size for name, file in files.items()} | {CARD_NAME: len(card.encode())}
    listed = {name: sizes[name] for name in sorted(sizes)}
    if dry_run:
        return Pushed(repo_id, None, listed)
    with tempfile.TemporaryDirectory(prefix="ted-push-") as place, showing():
        made = Path(place)
        for name, file in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            _link(file, made / name)
        (made / CARD_NAME).write_bytes(card.encode())
        return Pushed(repo_id, _upload(made, repo_id, arguments), listed)


# --- files ----------------------------------------------------------------------------------------------------------


def files_to_push(folder: Path, arguments: PushArguments) -> dict[str, Path]:
    """Name in the repository -> file, of everything but the card. Raises `InputError`."""
    if not folder.is_dir():
        raise InputError(f"checkpoint: expected a folder of this machine, got the name {folder}; give a folder")
    problems: list[str] = []
    with collect(problems):
        check_inputs(folder)
    found = {name: folder / name for name in _matching(folder, (*_OF_MODEL, *_vocabulary_files(folder)))}
    if not any(fnmatch(name, pattern) for name in found for pattern in WEIGHTS):
        problems.append(
            f"checkpoint: expected weights in model.safetensors, got {folder} without any; give another folder, such "
            "as a run's best"
        )
    if _TOKENIZER not in found:
        problems.append(f"checkpoint: expected a tokenizer beside the model, got none in {folder}; save it there")
    if _has_code(folder):
        found |= {file.name: file for file in sorted(folder.glob("*.py"))}
    if arguments.with_filters:
        filters = _matching(folder, _OF_FILTERS)
        if FILTERS_NAME not in filters:
            problems.append(f"with_filters: expected {FILTERS_NAME} in {folder}, got none; leave it out")
        found |= {name: folder / name for name in filters}
    if arguments.onnx:
        with collect(problems):
            found |= _onnx_files(Path(arguments.onnx), folder)
    raise_if_any(problems)
    return found


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def _has_code(folder: Path) -> bool:
    """Whether the model or its tokenizer is one whose code comes with it."""
    configs = [read_json(folder / name) for name in ("config.json", _TOKENIZER)]
    return any(isinstance(config, dict) and config.get("auto_map") for config in configs)


def _vocabulary_files(folder: Path) -> list[str]:
    """The files that the tokenizer's class is read from, which have other names in some families."""
    config = read_json(folder / _TOKENIZER)
    name = str(config.get("tokenizer_class") or "") if isinstance(config, dict) else ""
    names = {name, name.removesuffix("Fast"), f"{name.removesuffix('Fast')}Fast"}
    found: set[str] = set()
    for one in names:
        # A class whose package is not installed says so instead.
        with suppress(ImportError):
            found |= {*getattr(getattr(transformers, one, None), "vocab_files_names", {}).values()}
    return sorted(found)


def _onnx_files(export: Path, checkpoint: Path) -> dict[str, Path]:
    """The files of an export of this checkpoint. Raises `InputError` for any other folder."""
    check_inputs(export, "onnx")
    about = read_export(export).about
    made_of = about.get("weights")
    if not made_of:
        raise InputError(
            f"onnx: expected an export that says which weights it was made of, got {export}, which does not; export "
            f"{checkpoint} again"
        )
    if made_of != weights_of(checkpoint):
        raise InputError(
            f"onnx: expected an export of {checkpoint}, got {export}, which was made of other weights; export this "
            "checkpoint again"
        )
    if about.get("config_overrides"):
        raise InputError(
            f"onnx: expected an export of {checkpoint} as it is, got {export}, which was made with --config_overrides "
            f"{about['config_overrides']}; export this checkpoint again without them"
        )
    read, now = about.get("read_from"), files_read_of(checkpoint)
    for name in READ_FILES:
        if read is None or read.get(name) != now.get(name):
            raise InputError(
                f"onnx: expected an export of {checkpoint}, got {export}, which was made of another {name}; export "
                "this checkpoint again"
            )
    return {name: export / name for name in _OF_ONNX if (export / name).is_file()}


def _private_problems(files: dict[str, Path]) -> Iterator[str]:
    """Paths of this machine and secrets in what is text."""
    for name, file in files.items():
        if file.suffix not in (".json", ".py", ".jinja") or name in ("tokenizer.json", "vocab.json"):
            continue
        yield from _said_too_much(name, file.read_text(encoding="utf-8", errors="replace"))


def _said_too_much(name: str, text: str) -> Iterator[str]:
    if text_without_secrets(text) != text:
        yield f"{name}: expected nothing secret, got a token or password in it; remove it"
    home = str(Path.home())
    if home not in ("/", "") and f"{home}/" in text:
        yield f"{name}: expected no path of this machine, got one in {home}; remove it"


def _link(file: Path, target: Path) -> None:
    """The same file under another name. Its weights may be larger than the disk for temporary files."""
    try:
        target.symlink_to(file.resolve())
    except OSError:  # Windows allows it to some users alone
        shutil.copyfile(file, target)


# --- the card -------------------------------------------------------------------------------------------------------


def _card(folder: Path, repo_id: str, arguments: PushArguments) -> str:
    """The card as it is uploaded. Raises `InputError` for one that the Hub would refuse."""
    file = folder / CARD_NAME
    if not file.is_file():
        raise InputError(f"card: expected a {CARD_NAME} in {folder}, got none; write one")
    # What people write into a card may be anything, and so may be what the library raises for it.
    try:
        card = ModelCard.load(file)
    except Exception as error:
        raise InputError(
            f"card: expected metadata that the Hub reads, got an error in {file} ({reason_of(error, whole=True)})"
        ) from error
    data: ModelCardData = card.data
    if arguments.license:
        data.license = arguments.license
    if arguments.onnx:
        data.tags = [*dict.fromkeys([*(data.tags or []), "onnx", "transformers.js"])]
    text = card_text(data, card.text.replace(USE_HERE, f'name = "{repo_id}"'))
    raise_if_any([*card_problems(data, _pipeline_tag(folder)), *_said_too_much(CARD_NAME, text)])
    return text


def _pipeline_tag(folder: Path) -> str | None:
    """The Hub's name for the task of a checkpoint; None if it has none."""
    try:
        return load_task(arguments_of(str(folder), ModelArguments())["task"]).pipeline_tag
    except InputError:
        return None


# --- the Hub --------------------------------------------------------------------------------------------------------


def _repo_problems(repo_id: str) -> Iterator[str]:
    if "/" not in repo_id:
        yield f"repo_id: expected owner/name, got {shown(repo_id)}; say whose it is"
        return
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        yield f"repo_id: expected owner/name, got {shown(repo_id)} ({reason_of(error)}); correct it"


def _upload(folder: Path, repo_id: str, arguments: PushArguments) -> str:
    """Raises `InputError` for a public repository where a private one is wanted, `TrainingError` if the Hub refuses."""
    api = HfApi()
    try:
        with busy("uploading"):
            # None leaves it to the default of an organisation, which may be private; False would be public in any case.
            api.create_repo(repo_id, private=arguments.private or None, repo_type="model", exist_ok=True)
            # One that was there before stays as it was.
            if arguments.private and not api.model_info(repo_id).private:
                raise InputError(
                    f"private: expected a private repository, got {repo_id}, which exists and is public; give another "
                    "name, or make it private on the Hub"
                )
            # What an earlier push left there of another model would be taken for a part of this one. Of these, the Hub
            # deletes only what is not uploaded again.
            former = [*dict.fromkeys([*_FORMER, *_vocabulary_files(folder), *_OF_FILTERS, *_OF_ONNX])]
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, repo_type="model", commit_message=arguments.message,
                delete_patterns=former,
            )  # fmt: skip
    except InputError:
        raise
    # Errors of the connection are those of a library that depends on the version of huggingface_hub.
    except Exception as error:
        reason = text_without_secrets(reason_of(error, 3_000, whole=True))[:300]
        raise TrainingError(
            f"expected the Hub to take {short_name(repo_id)}, got an error ({reason}); log in with `hf auth login`, "
            "and check the name and the connection"
        ) from error
    return str(done.commit_url)
