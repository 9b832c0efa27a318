"""The Tinker protocol over HTTP: accept first, fail later; the journal is the truth.

A request's way: `routes/` -> `journal` -> `worker` (one lane per model) or `samples` -> `engine.contract` -> `futures`.
"""
