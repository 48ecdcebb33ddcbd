"""A backbone in, how well its dense features serve a task out: what decoupling must not cost."""
