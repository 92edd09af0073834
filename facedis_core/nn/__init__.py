"""Torch modules and losses; no files and no recipes."""
