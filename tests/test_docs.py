"""The Python of docs/code_bases.md runs, top to bottom, and says what is so."""

import re
from pathlib import Path

import jax
import numpy as np

import flaxinit

PAGE = (Path(__file__).parents[1] / "docs" / "code_bases.md").read_text()


def test_the_lines_of_the_page_run():
    namespace: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "code_bases.md", "exec"), namespace)
    assert namespace["qkv"].variances((64, 192)) == [0, 1 / 64, 1 / 64]
    assert namespace["value"].scale == namespace["flaxinit"].deepnorm_factors(12).weights ** 2
    leaves = [jax.tree.leaves(namespace[name]) for name in ("params", "same")]
    for ours, theirs in zip(*leaves, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_line_of_its_tables_is_an_initializer():
    names = {**vars(flaxinit), "flaxinit": flaxinit, "truncated_normal": flaxinit.truncated_normal}
    by_hand = PAGE.split("<!-- patterns -->")[0]  # test_patterns.py has the others
    lines = re.findall(r"\| `(truncated_normal\..*?)` \|", by_hand)
    assert len(lines) == 3
    for line in lines:
        assert isinstance(eval(line, names), flaxinit.Initializer)
    assert "0.0176" in PAGE
    assert round(flaxinit.truncated_normal.from_parent(0.02).std(()), 4) == 0.0176
