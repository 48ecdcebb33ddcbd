"""The command line: each command parses its words, builds records, makes one call and writes what came of it."""
