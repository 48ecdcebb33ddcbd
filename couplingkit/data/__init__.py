"""From an instances JSON and a folder of photos to objects cut out by their masks."""
