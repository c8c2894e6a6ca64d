"""What changes with the version of JAX: its names, the layout of its programs, its random bits.

``compat`` states which versions work, ``jaxpr`` reads and runs programs, ``threefry`` draws the
bits that `jax.random` draws. No other room depends on a version of JAX.
"""
