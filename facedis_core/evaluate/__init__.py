"""Metrics, baselines, recognition, probes, comparison of meshes, and limits that gate CI."""
