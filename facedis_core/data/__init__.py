"""Face sets, latents, the preparation of raw meshes, units, and the history of commands."""
