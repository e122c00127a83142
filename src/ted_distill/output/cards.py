"""Model cards with the metadata that the Hub reads: what a model was made of, its licence, its scores.

Nothing is looked up in the network, and nothing is made up: what the card of the model before does not say is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache

from ..errors import shown
from ..identity import split_revision
from .files import atomic_files
from .manifests import MANIFEST_NAME, damaged_files, read_manifest, sums, write_sealed
from .origins import is_hub_id

CARD_NAME = "README.md"
USE_HERE = 'name = "."'
"""The line of a card's example that names the model: the folder of the card, until it is on the Hub."""

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_CACHED = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]")


@dataclass(frozen=True)
class Origin:
    """What is known of the model that another one was made of, for the card of that one.

    Attributes:
        base_models: names on the Hub; of a folder, what its own card names.
        license: that of its card: `license`, and of one that the Hub has no name for `license_name` and `license_link`.
    """

    base_models: list[str] = field(default_factory=list)
    license: dict[str, Any] = field(default_factory=dict)


def origin_of(name: str | Path) -> Origin:
    """The origin of a model that is made of this one: a folder or a Hub id, which may have `@` and a commit."""
    folder = Path(name)
    if not folder.is_dir():
        repository, revision = split_revision(str(name))
        named = [repository] if is_hub_id(repository) else []
        cached = try_to_load_from_cache(repository, CARD_NAME, revision=revision) if named else None
        known = read_card_data(Path(cached)) if isinstance(cached, str) else None
        return Origin(named, _license(known, named))
    known = read_card_data(folder / CARD_NAME)
    in_cache = _CACHED.search(f"{folder.absolute()}/")
    if in_cache:
        before = [in_cache[1].replace("--", "/", 1)]
    else:
        base = known.base_model if known else None
        before = [base] if isinstance(base, str) else [str(one) for one in base or []]
    before = [one for one in before if is_hub_id(one)]
    return Origin(before, _license(known, before))


def _license(known: ModelCardData | None, base_models: Sequence[str]) -> dict[str, Any]:
    """What a card says of its licence; a link to a file beside it leads to where that file stays."""
    found = {key: getattr(known, key, None) for key in ("license", "license_name", "license_link")}
    link = found["license_link"]
    if isinstance(link, str) and "://" not in link:
        of = base_models[0] if len(base_models) == 1 else None
        found["license_link"] = f"https://huggingface.co/{of}/blob/main/{link}" if of else None
    return {key: value for key, value in found.items() if value is not None}


def read_card_data(file: Path) -> ModelCardData | None:
    """The metadata of a card; None if there is no card, or none that can be read."""
    # What people write into a card may be anything, and so may be what the library raises for it.
    try:
        return ModelCard.load(file, ignore_metadata_errors=True).data if file.is_file() else None
    except Exception:
        return None


def card_data(
    origin: Origin,
    pipeline_tag: str | None,
    tags: Sequence[str],
    *,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    scores: Sequence[EvalResult] = (),
    model_name: str = "",
) -> ModelCardData:
    """The metadata of a card; scores that are no numbers are left out."""
    known = [score for score in scores if math.isfinite(score.metric_value)]
    return ModelCardData(
        base_model=list(origin.base_models) or None,
        datasets=list(datasets) or None,
        eval_results=known or None,
        library_name="transformers",
        metrics=list(metrics) or None,
        model_name=model_name if known else None,
        pipeline_tag=pipeline_tag,
        tags=list(tags),
        **origin.license,
    )


def card_text(data: ModelCardData, body: str) -> str:
    """A whole card: metadata as YAML, and Markdown."""
    return f"---\n{yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True)}---\n\n{body.strip()}\n"


def is_as_written(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a published folder has a card that nobody edited."""
    files = {name: known for name, known in manifest.get("files", {}).items() if name == CARD_NAME}
    return bool(files) and not damaged_files(folder, files)


def replace_card(folder: Path, card: str) -> None:
    """Write a card; where nobody had edited the former one, the manifest gets the new one's sum, so that this is no
    change that anyone made by hand.
    """
    manifest = read_manifest(folder)
    with atomic_files(folder) as partial:
        (partial / CARD_NAME).write_bytes(card.encode("utf-8"))
        if manifest is not None and is_as_written(folder, manifest):
            known = {**manifest["files"], **sums(partial, [CARD_NAME])}
            write_sealed(partial / MANIFEST_NAME, {**manifest, "files": known})


def card_problems(data: ModelCardData, pipeline_tag: str | None) -> Iterator[str]:
    """What the Hub would refuse or show wrongly, without asking it.

    Args:
        pipeline_tag: the right one; None if it is not known.
    """
    if pipeline_tag is not None and data.pipeline_tag != pipeline_tag:
        yield f"card: expected pipeline_tag {pipeline_tag}, got {shown(data.pipeline_tag)}; correct {CARD_NAME}"
    yield from _license_problems(data)
    named = data.base_model if isinstance(data.base_model, list) else [data.base_model]
    for name in named:
        if name is not None and not is_hub_id(str(name)):
            yield (
                f"card: expected base_model to be a name on the Hub, got {shown(name)}, which is a folder or no name; "
                f"correct {CARD_NAME}, or leave it out"
            )
    for score in data.eval_results or []:
        if not isinstance(score.metric_value, (int, float)) or not math.isfinite(score.metric_value):
            yield (
                f"card: expected a number for {score.metric_type} in model-index, got {shown(score.metric_value)}; "
                "leave it out"
            )


def _license_problems(data: ModelCardData) -> Iterator[str]:
    given = data.license
    if given is not None and not (isinstance(given, str) and _LICENSE.fullmatch(given)):
        yield f"card: expected a licence's short name, such as apache-2.0, got {shown(given)}; correct {CARD_NAME}"
    if given == "other" and not data.license_name:
        yield f"card: expected license_name with license other, got none; add it to {CARD_NAME}"
