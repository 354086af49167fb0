"""How Sphinx makes the site from these pages: `make docs`. Nothing of it is read from the network."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from enum import EnumType
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "Interlock"
author = "the Interlock authors"
release = version_of("interlock")

# The sources begin at the top of the repository, so that a link to a plugin's README or to a test is the same link
# here as on a forge. Of what lies there, these are pages; what else a page links to is copied beside it.
root_doc = "docs/index"
include_patterns = ["docs/**", "**README.md", ".github/*.md"]
exclude_patterns = [
    ".git",
    ".[!g]*",
    "**/.*",
    "**/_*",
    "build",
    "dist",
    "src",
    "**/src",
    "tests",
    "**/tests",
]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
templates_path = ["_templates"]
nitpicky = True
# Names of others are not looked up: their inventories would have to be fetched. A type of ours that a signature names
# has to be described: in reference/python/values.rst, if nobody imports it.
nitpick_ignore_regex = [
    ("py:(?!exc).*", r"(?!interlock\b).*"),
    ("py:exc", "|".join([*dir(builtins), r"msgspec\..+"])),
    ("py:class", r"interlock\.(.*\.)?_[^.]+|interlock\._perform\.(Machinery|Performer)"),
]

myst_heading_anchors = 6

# In our docstrings, as in our pages, `this` is code.
default_role = "code"
add_module_names = False
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# One compact list for the fields of a struct, whose types its signature has.
napoleon_custom_sections = [("Attributes", "params_style")]
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "Interlock"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "start.html"}

_UNSIGNED = {
    "interlock.Evaluator",
    "interlock.Feed",
    "interlock.Session",
    "interlock._checkpoints.Checkpoints",
    "interlock._clock.Clock",
    "interlock._model_call.ModelCall",
    "interlock.egress.Grant",
    "interlock.evaluators.Reviewer",
    "interlock.policy.PolicyDocument",
}
# What Sphinx makes of the parameters of an operation, and how they are written.
_SPOILT = {
    "[[~typing.Concatenate[~sqlalchemy.engine.base.Connection, ~_P]]": "[~typing.Concatenate[Connection, _P]",
    "*args: ~typing.~_P": "*args: _P.args",
    "**kwargs: ~typing.~_P": "**kwargs: _P.kwargs",
}
_LISTED = re.compile(
    r"^## (?P<section>.+)$|^- \[(?P<title>[^\]]+)\]\((?P<page>[^)#:]+)\)", re.MULTILINE
)


def _toctrees(index: str) -> Iterator[str]:
    """Yield Markdown that puts the pages that *index* lists into the navigation, as it does."""
    for found in _LISTED.finditer(index):
        if found["section"]:
            yield f"```\n\n```{{toctree}}\n:hidden:\n:caption: {found['section']}\n"
        else:
            yield f"{found['title']} <{found['page']}>"


def _navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add the navigation, which a forge would show as code, to the pages that it hangs from."""
    if docname == app.config.root_doc:
        source[0] += "\n" + "\n".join(_toctrees(source[0])).removeprefix("```\n") + "\n```\n"
    elif docname == "docs/reference/api":
        toctree = "```{toctree}\n:glob:\n:maxdepth: 1\n\npython/*\n```"
        source[0] = source[0].replace("\n## ", f"\nWith signatures:\n\n{toctree}\n\n## ", 1)


def _signature(
    _app: Sphinx,
    _what: str,
    name: str,
    kind: object,
    _options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str, str | None] | None:
    """Leave out signatures that say nothing to users, and write those with a ParamSpec so that they can be read."""
    if name in _UNSIGNED or isinstance(kind, EnumType):
        return "", None
    if signature is None:
        return None
    for spoilt, plain in _SPOILT.items():
        signature = signature.replace(spoilt, plain)
    return signature, returned


def _docstring(
    _app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Begin properties with an empty comment: napoleon takes what is before a colon in the first line for a type."""
    if what == "property":
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> None:
    """Let Sphinx know our navigation, and how our signatures and docstrings are read."""
    app.connect("source-read", _navigation)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # napoleon's is 500
