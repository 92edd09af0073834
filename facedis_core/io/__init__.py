"""Bytes in and out: files, pipes, safetensors, .npy and CSV; nothing about faces."""
