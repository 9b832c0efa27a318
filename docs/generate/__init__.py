"""Reference pages, made from the code: `make docs` writes them, a test fails when they are not what the code says.

One module for each page, or for each kind of page, with a function that returns its text.
"""
