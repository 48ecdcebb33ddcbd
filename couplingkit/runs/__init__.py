"""A run as an object: models one after another, a place that keeps what there is so far, a folder that is read back."""
