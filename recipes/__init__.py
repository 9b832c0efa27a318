"""Complete runs to learn from: each a configuration, a few dozen lines, and the numbers that it reached."""
