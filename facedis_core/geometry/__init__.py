"""Geometry of registered faces: alignment, surfaces, distances, PCA, simplification."""
