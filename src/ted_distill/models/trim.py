"""`ted trim`: a checkpoint with only the tokens that some texts need.

FOLDER/config.json, weights, tokenizer...  a plain checkpoint
FOLDER/trim.json                           what was kept, how much smaller it is, what it does with other texts
FOLDER/stage.json                          the sums of all files

Before it is published, the smaller model is read back and compared: all texts must have the same tokens as before, a
sample of them the same outputs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import transformers
from huggingface_hub import ModelCard
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, collect, raise_if_any
from ..output import (
    Need,
    check_inputs,
    check_space,
    check_writable,
    command,
    explain_full_disk,
    foreign_names,
    gone_if_empty,
    locked,
    publication,
    read_manifest,
    refuse_busy,
    short_name,
    without_former,
    write_json,
)
from ..output.cards import CARD_NAME, card_data, card_text, origin_of, read_card_data
from ..progress import busy, showing
from ..ranges import between, check_ranges, described
from ..tasks import TaskArguments
from ..tasks.reading.corpus import Text, read_texts
from ..tasks.reading.file_options import FileOptions, file_options, option_problems
from .cut_words import CutWords, cut_words, encoded, in_batches
from .given import Model, as_name
from .load import ModelArguments, load_config, load_pretrained, save_tokenizer
from .places import resolve_place
from .trim_check import differing_texts, largest_difference, refuse_differing
from .trimmed_model import named_ids, table_size, trim_model
from .trimmed_tokenizer import Content, Trimmed, as_tokenizer, pieces_inside, trim_content, vocabulary

TRIM_NAME = "trim.json"
_STAGE = "trim"
_HELD_OUT = 10
"""One text of so many says what becomes of other texts, where none are given."""
_FEWEST = 100
"""Texts below which a tenth of them says nothing."""


@described
@dataclass
class TrimArguments:
    """Which texts say what is kept."""

    _argument_group_name: ClassVar[str] = "trim"

    texts: list[str] | None = field(default=None, metadata={"help": "data files whose tokens are kept"})
    other: list[str] | None = field(
        default=None, metadata={"help": "data files to say how many words are cut otherwise [a tenth of the texts]"}
    )
    text_column: list[str] | None = field(default=None, metadata={"help": "columns to read [all that hold text]"})
    delimiter: str | None = field(default=None, metadata={"help": "between the fields of csv and tsv files"})
    encoding: str | None = field(default=None, metadata={"help": "of text files [utf-8]"})
    check_rows: Annotated[int, between(1, 10_000)] = field(
        default=32, metadata={"help": "texts whose outputs are compared with those of the whole model"}
    )
    model_revision: str = field(default="main", metadata={"help": "the checkpoint's branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that comes with a Hub model"})

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
            f"{_short(was['parameters'])} -> {_short(now['parameters'])} parameters, {_short(was['bytes'])}B -> "
            f"{_short(now['bytes'])}B ({less:.1f} % less); embeddings {_short(was['embeddings'])} -> "
            f"{_short(now['embeddings'])}",
            f"checked: the same tokens for all texts, the same outputs for {self.about['checked']} "
            f"(largest difference {self.about['largest_difference']:.1g})",
        ]
        if other:
            lines.append(
                f"other text ({other['on']}): of {other['words']:,} words {100 * other['changed_share']:.2f} % are cut "
                f"into other pieces, {100 * other['unknown_share']:.2f} % become unknown"
            )
        return "\n".join(lines)


def _short(number: int) -> str:
    """A count in thousands or millions: `22.7 M`, `7.7 k`."""
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number / 1e3:,.1f} k"


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
    with showing(), explain_full_disk([folder]), gone_if_empty(folder):
        with busy("loading the checkpoint"):
            model, tokenizer = _load(name, arguments.loading)
        content = _content(tokenizer, name)
        with busy("cutting texts"):
            trimmed = choose(content, texts, named_ids(model))
        _check_smaller(trimmed, model)
        small = trim_model(model, trimmed.kept)
        about = _about(name, model, small, trimmed, texts)
        with busy("cutting other texts"):
            about["other"] = _on_others(content, trimmed, texts, other, named_ids(model))
        check_space([Need("the smaller checkpoint", folder, about["after"]["bytes"])])
        manifest = {"stage": _STAGE, "task": _task_of(name), "model": short_name(name), "command": command()}
        with locked(folder), without_former(folder), publication(folder, manifest) as partial:
            small.save_pretrained(partial)
            _save_tokenizer(tokenizer, trimmed, partial)
            _write_card(partial, name, about)
            with busy("comparing"):
                about |= _compare(partial, model, tokenizer, trimmed, texts, arguments)
            write_json(partial / TRIM_NAME, about)
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
    if name and folder.is_dir() and Path(name).is_dir() and folder.samefile(name):
        raise InputError(f"OUT: expected another folder than that of the model, got {folder}; give another one")
    manifest = read_manifest(folder)
    held = foreign_names(folder) if manifest is None else []
    if held or (manifest is not None and manifest.get("stage") != _STAGE):
        what = ", ".join(held[:3]) if held else f"the result of {manifest.get('stage')!r}" if manifest else ""
        raise InputError(f"OUT: expected a new or empty folder, got {folder}, which holds {what}; give another one")


def _load(name: str, loading: ModelArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint in the class and number type it was saved in, and its tokenizer."""
    check_inputs(name)
    config = load_config(name, loading)
    saved_class = getattr(transformers, (config.architectures or [""])[0], AutoModel)
    model = load_pretrained(saved_class, name, loading.hub, dtype="auto")
    return model.eval(), load_pretrained(AutoTokenizer, name, loading.hub)


def _content(tokenizer: PreTrainedTokenizerBase, name: str) -> Content:
    """What the tokenizer's `tokenizer.json` holds. Raises `InputError` for one that has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            f"tokenizer: expected a fast one, with a tokenizer.json, got {type(tokenizer).__name__} of {name}; it "
            "cannot be trimmed"
        )
    backend.no_truncation()
    backend.no_padding()
    content: Content = json.loads(backend.to_str())
    vocabulary(content)
    return content


def _write_card(folder: Path, name: str, about: dict[str, Any]) -> None:
    """The model's own card, if it has one, without its scores: on other texts they may have changed."""
    own = Path(name) / CARD_NAME
    data = read_card_data(own) if Path(name).is_dir() else None
    before, after = about["before"]["tokens"], about["after"]["tokens"]
    said = f"Trimmed to {after:,} of {before:,} tokens."
    if data is None:
        data, body = card_data(origin_of(name), None, ["ted-distill"]), f"# {short_name(name)}, with fewer tokens"
    else:
        body = f"{ModelCard.load(own, ignore_metadata_errors=True).text.strip()}\n\n## Fewer tokens"
        said += " The scores are those before."
    data.eval_results, data.tags = None, [*dict.fromkeys([*(data.tags or []), "trimmed"])]
    (folder / CARD_NAME).write_text(card_text(data, f"{body}\n\n{said}"), encoding="utf-8")


def _task_of(name: str) -> str | None:
    """The task of a checkpoint of this package."""
    return (read_manifest(Path(name)) or {}).get("task") if Path(name).is_dir() else None


# --- what is kept -------------------------------------------------------------------------------------------------


def choose(content: Content, texts: list[Text], named: set[int]) -> Trimmed:
    """The tokenizer with the tokens that texts are cut into, and those that are kept in any case.

    Args:
        named: numbers of tokens that a config names.
    """
    whole = as_tokenizer(content)
    used = {number for batch in in_batches(texts) for found in encoded(whole, batch) for number in found.ids}
    trimmed = trim_content(content, used, named)
    small = as_tokenizer(trimmed.content)
    # A word that is unknown as a whole may be known to a smaller vocabulary, whose longest pieces are others.
    differing = [text for batch in in_batches(texts) for text in differing_texts(whole, small, trimmed.kept, batch)]
    if not differing:
        return trimmed
    words = [part for text in differing for part in ((text,) if isinstance(text, str) else text)]
    return trim_content(content, used | pieces_inside(whole, words), named)


def _check_smaller(trimmed: Trimmed, model: PreTrainedModel) -> None:
    size = table_size(model)
    if beyond := [number for number in trimmed.kept if number >= size]:
        raise InputError(
            f"tokenizer: expected an embedding for each token, got {size:,} embeddings and a token with the number "
            f"{beyond[0]:,}; call model.resize_token_embeddings(len(tokenizer)) and save it"
        )
    if len(trimmed.kept) >= size:
        raise InputError(
            f"texts: expected some that need fewer than all {size:,} tokens, got texts that need all of them; leave "
            "the checkpoint as it is"
        )


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, trimmed: Trimmed, folder: Path) -> None:
    """Save the tokenizer with its `tokenizer.json` replaced, and without files that hold all tokens."""
    save_tokenizer(tokenizer, folder)
    for file in {*tokenizer.vocab_files_names.values()} - {"tokenizer.json"}:
        (folder / file).unlink(missing_ok=True)
    write_json(folder / "tokenizer.json", trimmed.content)
    settings_file = folder / "tokenizer_config.json"
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    if isinstance(added := settings.get("added_tokens_decoder"), dict):
        numbers = trimmed.numbers
        settings["added_tokens_decoder"] = {str(numbers[int(number)]): token for number, token in added.items()}
        write_json(settings_file, settings)


# --- what came of it ----------------------------------------------------------------------------------------------


def _about(
    name: str, model: PreTrainedModel, small: PreTrainedModel, trimmed: Trimmed, texts: list[Text]
) -> dict[str, Any]:
    return {
        "model": short_name(name),
        "texts": len(texts),
        "used": trimmed.used,
        "before": _size(model),
        "after": _size(small),
    }


def _size(model: PreTrainedModel) -> dict[str, int]:
    """Tokens, parameters, those of the table of tokens, and bytes; weights that are tied count once."""
    return {
        "tokens": table_size(model),
        "parameters": model.num_parameters(),
        "embeddings": model.get_input_embeddings().weight.numel(),
        "bytes": sum(weight.numel() * weight.element_size() for weight in model.parameters()),
    }


def _on_others(
    content: Content, trimmed: Trimmed, texts: list[Text], other: list[Text] | None, named: set[int]
) -> dict[str, Any] | None:
    """What becomes of words of other texts. Without any, of a tenth of the texts with tokens chosen from the rest."""
    if other is None and len(texts) < _FEWEST:
        return None
    used, on = trimmed, "those given"
    if other is None:
        other = texts[::_HELD_OUT]
        kept = [text for place, text in enumerate(texts) if place % _HELD_OUT]
        used, on = choose(content, kept, named), "every tenth text, with tokens chosen from the rest"
    whole, small = as_tokenizer(content), as_tokenizer(used.content)
    counts: CutWords = cut_words(whole, small, _unknown(content), other)
    shares = {"changed_share": counts.changed_share, "unknown_share": counts.unknown_share}
    return {"on": on, "texts": len(other), **asdict(counts), **shares}


def _unknown(content: Content) -> str | None:
    model = content["model"]
    if model["type"] == "Unigram":
        return None if model.get("unk_id") is None else str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token")


def _compare(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trimmed: Trimmed,
    texts: list[Text],
    arguments: TrimArguments,
) -> dict[str, Any]:
    """Read the checkpoint back as anyone would, and compare it. Raises `GateError`."""
    small = load_pretrained(type(model), str(folder), arguments.loading.hub, dtype=model.dtype).eval()
    small_tokenizer = load_pretrained(AutoTokenizer, str(folder), arguments.loading.hub)
    whole, cut = tokenizer.backend_tokenizer, small_tokenizer.backend_tokenizer
    for batch in in_batches(texts):
        refuse_differing(differing_texts(whole, cut, trimmed.kept, batch))
    step = -(-len(texts) // arguments.check_rows)
    sample = [text if isinstance(text, str) else " ".join(text) for text in texts[::step]]
    largest = largest_difference((model, tokenizer), (small, small_tokenizer), trimmed.kept, sample)
    return {"checked": len(sample), "largest_difference": largest}
