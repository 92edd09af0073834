"""Trained models on NumPy: configuration, loading, encoding and decoding, bundled models."""
