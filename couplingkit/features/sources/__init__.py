"""One module per library that networks come from; each turns a name into an `OpenedNetwork`."""
