"""A matplotlib figure as an element of a page: small, with ids that no other figure has, and no address of anything."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

from matplotlib.figure import Figure

_NAMESPACE = re.compile(r"^\{[^}]*\}")
_DECIMALS = re.compile(r"(\d+\.\d)\d+")
_USED = re.compile(r"url\(#([^)]+)\)")
# The style sheet of the page has the font; no rotation is none.
_SAID_ELSEWHERE = re.compile(r"font-family:[^;]*;?\s*|stroke-linecap: (?:butt|square);?\s*|stroke-dashoffset: 0;?\s*")


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as `<svg>`, with a title and a description for those who do not see it.

    Args:
        name: of the figure, unlike that of any other on the page.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawn = ElementTree.fromstring(file.getvalue())
    view = str(drawn.get("viewBox"))
    for element in drawn.iter():
        _plain(element)
    used = {one for element in drawn.iter() for one in _references(element)}
    body = [child for child in drawn if child.tag not in ("metadata", "style")]
    for element in drawn.iter():
        _renamed(element, name, used)
    root = ElementTree.Element("svg", {"viewBox": view, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    for tag, text in (("title", title), ("desc", description)):
        ElementTree.SubElement(root, tag, {"id": f"{name}-{tag}"}).text = text
    for child in body:
        root.extend(_flat(child))
    return ElementTree.tostring(root, encoding="unicode")


def _plain(element: ElementTree.Element) -> None:
    """Names without namespaces, numbers to a tenth of a point, nothing that says nothing."""
    element.tag = _NAMESPACE.sub("", element.tag)
    held = {_NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
    if held.get("transform", "").startswith("rotate(-0 "):
        del held["transform"]
    if "style" in held:
        held["style"] = re.sub(r"([:;]) ", r"\1", _SAID_ELSEWHERE.sub("", held["style"])).rstrip("; ")
        if not held["style"]:
            del held["style"]
    if element.tag not in ("text", "tspan"):
        element.text = None
    element.tail = None
    for key in ("d", "x", "y", "transform"):
        if key in held:
            held[key] = " ".join(_DECIMALS.sub(r"\1", held[key]).split())
    element.attrib.clear()
    element.attrib.update(held)


def _references(element: ElementTree.Element) -> list[str]:
    """Ids that an element refers to."""
    found = [found for value in element.attrib.values() for found in _USED.findall(value)]
    return found + ([element.attrib["href"][1:]] if element.attrib.get("href", "").startswith("#") else [])


def _renamed(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Ids with the name of the figure; those that nothing refers to are dropped."""
    held = element.attrib
    if "id" in held:
        own = held.pop("id")
        if own in used:
            held["id"] = f"{name}-{own}"
    if held.get("href", "").startswith("#"):
        held["href"] = f"#{name}-{held['href'][1:]}"
    for key, value in held.items():
        held[key] = _USED.sub(rf"url(#{name}-\1)", value)


def _flat(element: ElementTree.Element) -> list[ElementTree.Element]:
    """An element, or what it holds if it is a group for nothing; invisible shapes are none."""
    children = [kept for child in element for kept in _flat(child)]
    for child in list(element):
        element.remove(child)
    element.extend(children)
    if element.tag in ("g", "defs") and not element.attrib and (element.tag == "g" or not children):
        return children
    invisible = element.tag == "path" and element.attrib.get("style") == "fill:none" and "id" not in element.attrib
    return [] if invisible or element.tag in ("style", "metadata") else [element]
