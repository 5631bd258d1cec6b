"""Sphinx configuration. Build with ``make docs``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "scripts"), str(HERE.parent / "src")]

import docs_pages

import metaprompts

project = "metaprompts"
author = "The metaprompts developers"
copyright = "The metaprompts developers"
version = release = metaprompts.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Furo brings its fonts and scripts: the pages load nothing from other hosts.
html_theme = "furo"
html_title = "metaprompts"
html_show_sourcelink = False
# Headings are link targets with the names that GitHub gives them.
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app):
    """Generate pages before the build reads them."""
    app.connect("builder-inited", lambda app: docs_pages.write_pages(HERE / "generated"))
    app.connect("source-read", _relink)


def _relink(app, name, source):
    """README.md is the first page here."""
    source[0] = source[0].replace("](../README.md", "](index.md")
