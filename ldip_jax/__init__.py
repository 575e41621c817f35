"""Long-distance, reference-guided, arbitrary-scale video super-resolution in JAX and Flax."""

__version__ = "0.1.0"
