"""Data sets on disk: layout, labels, protocols, and how a face set is made of them."""
