"""The widest PointNet layer, linear to maximum over vertices, without its activations in memory."""
