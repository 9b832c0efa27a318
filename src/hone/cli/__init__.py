"""The command line: one file per noun, loaded only when it is used."""
