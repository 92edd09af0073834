"""Face sets, latents, the preparation of raw meshes, and the history of commands."""
