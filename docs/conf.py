"""The site: Sphinx reads the pages in this folder, and `docs/build.py` builds them."""

import sys
import tomllib
from importlib.metadata import version as installed
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))
PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text("utf-8"))["project"]

project = "flaxinit"
author = PROJECT["authors"][0]["name"]
project_copyright = author
version = release = installed("flaxinit")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    # Of this folder:
    "docstrings",
    "journey",
    "mathml",
    "repository",
]
exclude_patterns = ["_build", "_ext"]
root_doc = "index"
repository_url = PROJECT["urls"]["Source"]

# A name in single backticks links to its entry of the reference, if it has one.
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
nb_execution_mode = "cache"
nb_execution_timeout = -1  # none: a busy machine is no error
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # what a derivation shows has formulas
nb_ipywidgets_js = {}  # they would come from the network

html_theme = "furo"
html_title = "flaxinit"
html_baseurl = PROJECT["urls"]["Documentation"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": repository_url,
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
suppress_warnings = ["myst.header"]  # pages of the book have no second heading above a third
