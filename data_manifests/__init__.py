"""Named probe sets: which objects, which pairs; never pixels. Read them through `importlib.resources`."""
