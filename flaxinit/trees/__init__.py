"""Trees of parameters: the path of an array, patterns of paths, factors and new values by path.

``modules`` tells Flax's modules, ``paths`` names an array, ``patterns`` finds the arrays that are
meant, ``factors`` multiplies their draws, and ``rules`` draws them anew (`flaxinit.reinit`).
"""
