"""Images in, trained networks out: the reference trainer of decoupled models."""
