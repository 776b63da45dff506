"""Sphinx configuration; `make docs` builds with warnings as errors."""

from beir_hybrid.version import __version__

project = "beir-hybrid"
author = "the beir-hybrid authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"beir-hybrid {__version__}"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False
