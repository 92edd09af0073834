"""Registration of raw scans: the face of a scan in a model's topology, without landmarks."""
