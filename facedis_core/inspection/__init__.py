"""Contents and integrity of files: what fd-info prints and verifies."""
