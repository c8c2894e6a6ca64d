"""Any form of activation becomes a function. The only room that imports JAX."""
