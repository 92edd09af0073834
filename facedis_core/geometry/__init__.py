"""Geometry of registered faces on NumPy: alignment, surfaces, distances, PCA, simplification."""
