"""Initialize a large model: trace it once, compile each distinct draw once, draw it in place.

::

    init function
      │  trace        one program of what the outputs need; what cannot be traced is refused
      │  flatten      one list of equations, each with the unit in which it is compiled eagerly
      │  partition    the key program, and one draw for each set of outputs
      │  segment      a draw is a chain, cut where an eager run rounds
      │  places       where each array goes: the result, and all that is made on the way
      │  compile      each distinct segment, in its places, becomes an executable
      │  keys         the key program runs, equation by equation
      │  execute      each draw runs as often as the model has it; its results go to their places
      ▼
    arrays, with the bits of an eager run

`api` is the function that runs these steps, and `report` says what they did. Some steps have
helpers:

- trace: `eager_calls` keeps what an eager run compiles as a whole, `leaks` finds values that the
  init function has stored, `layouts` reads the shardings that a program states.
- segment, compile: `fingerprint` gives equal programs one name.
- places: `out_shardings` reads what the caller and the model's metadata ask for, `shardings` makes
  shardings from others.

A step never imports a later one.
"""

from flaxinit.versions.compat import WHOLE, require

require("fast_init", **WHOLE)  # before what needs it is imported

from flaxinit.materialize.api import fast_init as fast_init
from flaxinit.materialize.report import Report as Report
