"""Rigs: heads with morph targets that animation tools know."""
