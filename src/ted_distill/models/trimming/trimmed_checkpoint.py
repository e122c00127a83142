"""A checkpoint with only the tokens that some texts need: chosen, written, read back and compared."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import InputError
from ...output import short_name, write_json
from ...output.cards import CARD_NAME, card_data, card_text, origin_of, read_card_data
from ...progress import busy
from ...tasks.reading.corpus import Text
from ..as_saved import load_as_saved
from ..load import ModelArguments, save_tokenizer
from ..pretrained import load_pretrained, load_tokenizer
from .cut_words import CutWords, cut_words, encoded, in_batches
from .trim_check import differing_texts, largest_difference, refuse_differing
from .trimmed_model import named_ids, table_size, trim_model
from .trimmed_tokenizer import Content, Trimmed, as_tokenizer, pieces_inside, trim_content, vocabulary

TRIM_NAME = "trim.json"
_HELD_OUT = 10
"""One text of so many says what becomes of other texts, where none are given."""
_FEWEST = 100
"""Texts below which a tenth of them says nothing."""


@dataclass(frozen=True)
class Trimming:
    """A checkpoint whose tokens are chosen; nothing has been written yet.

    Attributes:
        about: what `trim.json` will hold.
    """

    name: str
    loading: ModelArguments
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    trimmed: Trimmed
    small: PreTrainedModel
    texts: list[Text]
    about: dict[str, Any]

    def write(self, folder: Path, check_rows: int) -> dict[str, Any]:
        """Write the smaller checkpoint with its card and `trim.json`, if it does the same on the texts.

        Args:
            check_rows: how many of the texts outputs are compared on.

        Raises:
            GateError: it would not do the same.
        """
        self.small.save_pretrained(folder)
        _save_tokenizer(self.tokenizer, self.trimmed, folder)
        _write_card(folder, self.name, self.about)
        with busy("comparing"):
            about = self.about | _compare(folder, self, check_rows)
        write_json(folder / TRIM_NAME, about)
        return about


def choose_tokens(
    name: str,
    loading: ModelArguments,
    texts: list[Text],
    other: list[Text] | None,
    other_name: str,
    used: Set[int] = frozenset(),
) -> Trimming:
    """Load a checkpoint and choose the tokens that texts need.

    Args:
        name: folder or Hub id.
        other: texts to say what becomes of others [a tenth of the texts].
        other_name: what these are, for people.
        used: numbers of tokens that are needed besides those of the texts.

    Raises:
        InputError: a model or tokenizer that cannot be trimmed, or texts that need all tokens.
    """
    with busy("loading the checkpoint"):
        model, tokenizer = _load(name, loading)
    content = tokenizer_content(tokenizer, name)
    with busy("cutting texts"):
        trimmed = choose(content, texts, named_ids(model), used)
    _check_smaller(trimmed, model)
    small = trim_model(model, trimmed.kept)
    about = _about(name, model, small, trimmed, texts)
    with busy("cutting other texts"):
        about["other"] = _on_others(content, trimmed, texts, other, other_name, named_ids(model) | used)
    return Trimming(name, loading, model, tokenizer, trimmed, small, texts, about)


def _load(name: str, loading: ModelArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A checkpoint in the class and number type it was saved in, and its tokenizer."""
    return load_as_saved(name, loading, dtype="auto").eval(), load_tokenizer(name, loading.hub)


def tokenizer_content(tokenizer: PreTrainedTokenizerBase, name: str) -> Content:
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


# --- what is kept -------------------------------------------------------------------------------------------------


def choose(content: Content, texts: list[Text], named: set[int], used: Set[int] = frozenset()) -> Trimmed:
    """The tokenizer with the tokens that texts are cut into, and those that are kept in any case.

    Args:
        named: numbers of tokens that a config names.
        used: numbers of tokens that are needed besides those of the texts.
    """
    whole = as_tokenizer(content)
    used = {number for batch in in_batches(texts) for found in encoded(whole, batch) for number in found.ids} | used
    trimmed = trim_content(content, used, named)
    small = as_tokenizer(trimmed.content)
    # A word that is unknown as a whole may be known to a smaller vocabulary, whose longest pieces are others.
    differing = [text for batch in in_batches(texts) for text in differing_texts(whole, small, trimmed.kept, batch)]
    if not differing:
        return trimmed
    words = [part for text in differing for part in ((text,) if isinstance(text, str) else text)]
    return trim_content(content, used | pieces_inside(whole, words), named)


def smaller_size(model: PreTrainedModel, kept: int) -> int:
    """Parameters of a model that keeps this many tokens; weights that are tied count once.

    Args:
        model: may be on the meta device.
    """
    size = table_size(model)
    of_tokens = sum(weight.numel() for weight in model.parameters() if size in weight.shape)
    return model.num_parameters() - of_tokens // size * (size - kept)


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
    content: Content,
    trimmed: Trimmed,
    texts: list[Text],
    other: list[Text] | None,
    other_name: str,
    named: set[int],
) -> dict[str, Any] | None:
    """What becomes of words of other texts. Without any, of a tenth of the texts with tokens chosen from the rest."""
    if other is None and len(texts) < _FEWEST:
        return None
    used, on = trimmed, other_name
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


def _compare(folder: Path, of: Trimming, check_rows: int) -> dict[str, Any]:
    """Read the checkpoint back as anyone would, and compare it. Raises `GateError`."""
    small = load_pretrained(type(of.model), str(folder), of.loading.hub, dtype=of.model.dtype).eval()
    small_tokenizer = load_tokenizer(str(folder), of.loading.hub)
    whole, cut = of.tokenizer.backend_tokenizer, small_tokenizer.backend_tokenizer
    for batch in in_batches(of.texts):
        refuse_differing(differing_texts(whole, cut, of.trimmed.kept, batch))
    step = -(-len(of.texts) // check_rows)
    sample = [text if isinstance(text, str) else " ".join(text) for text in of.texts[::step]]
    largest = largest_difference((of.model, of.tokenizer), (small, small_tokenizer), of.trimmed.kept, sample)
    return {"checked": len(sample), "largest_difference": largest}
