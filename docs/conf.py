"""The documentation site: `make docs`."""

from __future__ import annotations

import ted_distill

project = "ted-distill"
author = "the ted-distill authors"
copyright = author
release = version = ted_distill.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
default_role = "code"
highlight_language = "text"  # what commands print is no Python

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = "ted-distill"
html_static_path = ["_static"]
copybutton_exclude = ".linenos, .gp, .go"
