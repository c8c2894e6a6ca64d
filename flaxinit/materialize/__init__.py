"""Materialize the parameters of a large model: traced once, each distinct draw compiled once."""

from flaxinit.materialize.api import fast_init as fast_init
from flaxinit.materialize.report import Report as Report
