"""Complete runs to learn from: each a configuration, a few dozen lines, and its results once they are measured."""
