"""How Sphinx builds these pages: `python -m sphinx -W docs docs/_build`."""

import inspect
import re
import shutil
from pathlib import Path

import couplingkit

ROOT = Path(__file__).parent.parent
project, author = "couplingkit", "the authors of couplingkit"
version = release = couplingkit.__version__
copyright = f"2026, {author}"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute", "house.md"]
html_theme, html_title = "furo", f"couplingkit {version}"
html_theme_options = {"navigation_with_keys": True}
html_css_files = ["wide.css"]
html_static_path = ["static"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Of our docstrings: single backquotes are code.
default_role = "code"
smartquotes = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
nb_execution_in_temp = True
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "force", 300, True
# Progress bars and notes of other libraries.
nb_output_stderr = "remove"
copybutton_exclude = ".linenos, .gp"
# Pages that are of use in the repository, too, link to files of it.
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure", "mystnb.unknown_mime_type"]

NOTEBOOKS, REFERENCE = ROOT / "docs" / "notebooks", ROOT / "docs" / "reference.md"


def copy_notebooks() -> None:
    """Let the examples' notebooks be pages."""
    NOTEBOOKS.mkdir(exist_ok=True)
    for path in (ROOT / "examples").glob("*.ipynb"):
        shutil.copy(path, NOTEBOOKS / path.name)


def write_reference() -> None:
    """Write the page of all public names, in the order of the rooms that they come from."""
    stub = (ROOT / "couplingkit" / "__init__.pyi").read_text(encoding="utf-8")
    rooms: dict[str, list[str]] = {}
    for module, name in re.findall(r"^from \.(\S+) import \w+ as (\w+)$", stub, flags=re.MULTILINE):
        if not name.startswith("_"):
            rooms.setdefault(module.split(".")[0], []).append(name)
    lines = ["# Python reference", "", "Everything here is `couplingkit.NAME`.", ""]
    for room, names in rooms.items():
        lines += [f"## {room}", ""]
        for name in names:
            thing = getattr(couplingkit, name)
            kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
            members = "\n:members:" if kind == "class" else ""
            lines += ["```{eval-rst}", f".. auto{kind}:: couplingkit.{name}"]
            lines += ["   :members:", "```", ""] if members else ["```", ""]
    REFERENCE.write_text("\n".join(lines), encoding="utf-8")


def relink(_app, _page, source) -> None:
    """Let links to the examples' pages go to their copies here."""
    source[0] = re.sub(r"\]\(\.\./examples/([\w-]+)/README\.md\)", r"](examples_\1.md)", source[0])


def setup(app) -> None:
    """Called by Sphinx."""
    copy_notebooks()
    write_reference()
    app.connect("source-read", relink)
