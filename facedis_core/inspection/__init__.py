"""What a file is, what it holds, and whether it is whole."""
