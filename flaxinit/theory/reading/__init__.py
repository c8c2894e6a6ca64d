"""From any form of activation to a function. Only this room of the theory imports JAX."""
