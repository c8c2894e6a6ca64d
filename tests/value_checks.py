"""What every initializer is: a value that can be written, pickled, copied and compared."""

import copy
import dataclasses
import pickle

import pytest

import flaxinit
from flaxinit.initializers.config import forms


def check_is_a_value(init, others):
    """Check one of several initializers; no two of them may be equal."""
    copies = (
        eval(repr(init), dict(forms())),
        pickle.loads(pickle.dumps(init)),
        copy.deepcopy(init),
        dataclasses.replace(init),
        flaxinit.get(init.to_config()),
    )
    for same in copies:
        assert same == init and hash(same) == hash(init)
    assert sum(other == init for other in others) == 1
    with pytest.raises(AttributeError):
        init.dtype = "float16"
