"""One file per method, each a `Method` or a `DenseMethod`."""
