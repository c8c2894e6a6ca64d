"""What a function is: expressions, pieces, roots, growth. Knows no JAX and no Gaussian."""
