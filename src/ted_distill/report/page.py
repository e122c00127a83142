"""`report.html`: one file with sentences, tables, plots and rows; no script, and nothing that is fetched.

`templates/` has what it looks like. Whatever a template is given is escaped, but for the plots, which are markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import bench, figures, tables, texts, words

_TEXT = 400
"""The most characters of a text or a prediction of a row."""

_TEMPLATES = Environment(
    loader=PackageLoader("ted_distill.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.globals |= {"bench": bench, "figures": figures, "tables": tables, "texts": texts}
_TEMPLATES.filters["cut"] = lambda text: words.cut(text, _TEXT)


def page(content: Mapping[str, Any]) -> str:
    """The page.

    Args:
        content: see `contents.py`, as read back from `report.json`.
    """
    return _TEMPLATES.get_template("page.html").render(content=content)
