"""The mesh and its file formats; no reader or writer changes the order or number of vertices."""
