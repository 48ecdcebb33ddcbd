"""One file per method, each against the `Method` protocol."""
