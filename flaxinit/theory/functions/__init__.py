"""Functions: expressions, pieces, roots, growth. This room knows neither JAX nor Gaussians."""
