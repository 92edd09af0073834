"""Many faces, block by block: find inputs, encode, decode, combine latents."""
