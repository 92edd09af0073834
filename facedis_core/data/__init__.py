"""What files hold: face sets, latents, how raw meshes are prepared, and the history of commands."""
