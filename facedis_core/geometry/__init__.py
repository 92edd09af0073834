"""Geometry of registered faces: alignment, surfaces, rims, distances, PCA, simplification."""
