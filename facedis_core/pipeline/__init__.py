"""Pipelines over many faces, block by block: inputs, encoding, decoding, combining latents."""
