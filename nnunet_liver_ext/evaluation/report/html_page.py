"""From a template to one HTML file that opens alone: styles, script and pictures are in it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nnunet_liver_ext import __version__
from nnunet_liver_ext.atomic_write import atomic_write

TEMPLATES = "templates"


def write_page(template: str, path: Path, **content: Any) -> None:
    """Renders a template and writes the file beside `path`, then renames it. All text is escaped.

    Args:
        template: name of a file in `TEMPLATES`.
        path: of the HTML file.
        content: what the template needs.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    fixed = {
        "css": Markup(read_template("style.css")),
        "script": Markup(read_template("script.js")),
        "version": __version__,
    }
    html = environment.get_template(template).render(**fixed, **content)
    with atomic_write(path) as unfinished:
        unfinished.write_text(html, encoding="utf-8")


def read_template(name: str) -> str:
    """The text of a file in `TEMPLATES`."""
    return (files(__package__) / TEMPLATES / name).read_text(encoding="utf-8")
