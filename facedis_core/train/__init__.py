"""Training: recipes, batches, the two trainers, checkpoints and runs."""
