"""From pixels to grids of feature vectors: backbones, control networks, and the pooling of regions."""
