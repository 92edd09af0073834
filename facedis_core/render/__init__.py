"""Pictures of faces: camera, rasterizer, shading, color scales, contact sheets, animations."""
