"""Configs, tokenizers and models by name, of a folder or the Hub; each of the many errors becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from ..errors import InputError, nearest, reason_of
from ..identity import model_commit, split_revision
from .exponents import with_numbers
from .places import not_a_folder_either

_UNDECLARED = {"deberta": ("cls_dropout",), "deberta-v2": ("cls_dropout",)}
"""Fields that transformers' models read from a config whose class does not declare them."""
_GUESSED = "make sure you don't have a local directory with the same name"
_NOT_SET = {"model_type", "architectures", "auto_map", "transformers_version", "name_or_path"}
"""Fields that say what a checkpoint is and where; to change them makes no other model of it."""


def load_pretrained(auto_class: Any, name: str, hub: dict[str, Any], **options: Any) -> Any:
    """`from_pretrained` with each of its many errors turned into one clear line.

    Args:
        name: a folder or a Hub id; one with `@` and a revision has that in place of `hub`'s.
    """
    repository, revision = split_revision(name, hub["revision"])
    try:
        hub = {**hub, "revision": model_commit(repository, revision)}
        return auto_class.from_pretrained(repository, **hub, **options)
    # Damaged files, unknown names, families without such a head; and remote code may raise anything.
    except Exception as error:
        if not hub["trust_remote_code"] and "trust_remote_code" in str(error):
            raise InputError(
                f"model: expected {name} to need no code but that of transformers, got a model with code of its own; "
                "read it, then set --trust_remote_code"
            ) from error
        if (refused := _refusal(error, repository, revision)) is not None:
            raise InputError(
                f"model: expected {name} from the Hub, got {refused}{not_a_folder_either(name)}"
            ) from error
        if isinstance(error, OSError) and "couldn't connect to" in str(error):
            raise InputError(
                f"model: expected {name} in the cache or a connection to the Hub, got neither"
                f"{not_a_folder_either(name)}; give a folder, or connect once to download it"
            ) from error
        # Where transformers knows no reason, it guesses one.
        said = (error.__cause__ or error.__context__ or error) if _GUESSED in str(error) else error
        raise InputError(
            f"model: expected {name} to load as {auto_class.__name__}, got an error ({reason_of(said)}"
            f"{not_a_folder_either(name)}); check the name and the files"
        ) from error


def is_refused_by_hub(error: BaseException) -> bool:
    """Whether the Hub has answered that there is no such repository or revision, or no access to it."""
    return any(isinstance(cause, (RepositoryNotFoundError, RevisionNotFoundError)) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _refusal(error: BaseException, repository: str, revision: str) -> str | None:
    """What the Hub has answered, and what to do, if that is why an error was raised; otherwise None."""
    for cause in _causes(error):
        if isinstance(cause, GatedRepoError):
            return f"no access; ask for it at https://huggingface.co/{repository}, and log in with `hf auth login`"
        if isinstance(cause, RepositoryNotFoundError):
            return "no such model; check the name, or log in with `hf auth login` if it is a private one"
        if isinstance(cause, RevisionNotFoundError):
            return f"no revision {revision}; check model_revision"
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(cause, HfHubHTTPError) and status in (401, 403):
            return f"its error {status}; log in with `hf auth login`, or unset HF_TOKEN if it has expired"
        if isinstance(cause, HfHubHTTPError) and status not in (None, 404):
            return f"its error {status}; try again later"
    return None


def load_tokenizer(name: str, hub: dict[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or Hub id.

    Raises:
        InputError: none that loads, or none that knows a word. Where its files are missing, transformers makes one of
            special tokens alone for many families, to which all words are unknown.
    """
    tokenizer: PreTrainedTokenizerBase = load_pretrained(AutoTokenizer, name, hub)
    words = set(tokenizer.get_vocab()).difference(tokenizer.all_special_tokens)
    if len(words) < 2:  # that of T5 then has `▁`
        raise InputError(
            f"model: expected {name} to hold its tokenizer, got one without words, as transformers makes it where "
            "its files are missing; save the tokenizer that the model was trained with into the same folder"
        )
    return tokenizer


def apply_overrides(config: PretrainedConfig, overrides: str | None, name: str) -> None:
    """Set config fields; a field that the config does not have and the model does not read is refused, never ignored.

    Raises:
        InputError: with all problems.
    """
    problems = []
    for item in filter(None, _items(overrides or "")):
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator:
            problems.append(f"config_overrides: expected `key=value`, got `{item}`")
        elif not _is_field(config, key):
            hint = nearest(key, config.to_dict(), most=3, likeness=0.3) or "; leave it out"
            problems.append(f"config_overrides: expected a field of the config of {name}, got `{key}`{hint}")
        else:
            # Configs of transformers check the types of values, and their errors have no common class.
            try:
                setattr(config, key, with_numbers(yaml.safe_load(value)))
            except Exception as error:
                reason = reason_of(error.__cause__ or error)
                problems.append(
                    f"config_overrides: expected a value of {key} that the config of {name} accepts, got {value} "
                    f"({reason}); change it"
                )
    if problems:
        raise InputError(problems)


def _items(overrides: str) -> Iterator[str]:
    """The overrides between commas that are in no brackets, as those of `id2label={0: bad, 1: good}` are."""
    start = depth = 0
    for place, letter in enumerate(overrides):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth <= 0:
            yield overrides[start:place]
            start = place + 1
    yield overrides[start:]


def _is_field(config: PretrainedConfig, key: str) -> bool:
    """Whether a config has a field that may be set, or its family's models read one that it does not declare."""
    if key in _UNDECLARED.get(config.model_type, ()):
        return True
    return hasattr(config, key) and not callable(getattr(config, key)) and key not in _NOT_SET and key[:1] != "_"
