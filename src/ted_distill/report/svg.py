"""A matplotlib figure as an element of a page: small, with ids that no other figure has, and no address of anything.

It is part of the page rather than a picture in it: its words can be searched and copied, and the page is half as large.
"""

from __future__ import annotations

import io
import re

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

_VIEW = re.compile(r'<svg [^>]*(viewBox="[^"]*")[^>]*>')
_STYLE = re.compile(r"<defs>\s*<style.*?</defs>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_GAP = re.compile(r">\s+<")
_GROUP_ID = re.compile(r'^<g id="[^"]*"')
_PLACES = re.compile(r' (?:d|x|y|transform)="[^"]*"')
_DECIMALS = re.compile(r"(\.\d)\d+")
# The style sheet of the page has the font; no rotation is none.
_SAID_ELSEWHERE = re.compile(
    r' transform="rotate\(-0 [^"]*"|font-family:[^;"]*;?\s*|stroke-linecap: (?:butt|square);?\s*'
    r"|stroke-dashoffset: 0;?\s*"
)


def inline_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as `<svg>`, with a title and a description for those who do not see it.

    Args:
        name: of the figure, unlike that of any other on the page.
    """
    file = io.StringIO()
    # The ids of shapes that are used again are hashes, into which the name goes.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")), transparent=True
        )
    drawn = _STYLE.sub("", file.getvalue())
    opening = _VIEW.search(drawn)
    assert opening is not None  # every figure has one
    # Words hold neither < nor >: matplotlib has escaped them.
    shapes = _GAP.sub("><", _TAG.sub(lambda tag: _shortened(tag[0]), drawn[opening.end() :]))
    said = "".join(
        f'<{tag} id="{name}-{tag}">{escape(text)}</{tag}>' for tag, text in (("title", title), ("desc", description))
    )
    return Markup(f'<svg {opening[1]} role="img" aria-labelledby="{name}-title {name}-desc">{said}{shapes.strip()}')


def _shortened(tag: str) -> str:
    """A tag with numbers to a tenth of a point, without namespaces, names of groups, and what says nothing."""
    tag = _SAID_ELSEWHERE.sub("", _GROUP_ID.sub("<g", tag)).replace("xlink:href", "href")
    return _PLACES.sub(lambda place: " " + " ".join(_DECIMALS.sub(r"\1", place[0]).split()), tag)
