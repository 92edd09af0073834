"""Trained models and example faces, installed beside the tools as data."""
