"""Runs an experiment: a file that was loaded becomes a directory of evidence and an `ExperimentRecord`.

run.py         the whole: plan, arms side by side, choice, benchmarks, conclusion
arm.py         one configured run: data, training, measurements, the checkpoint it ends with
validation.py  what is measured while an arm trains, and when it stops for it
measure.py     one model on one set of rows
rows.py        the rows that arms share, read once
services.py    open backends, tokenizers and chat formats, shared by arms
halving.py     the gate at which the worse arms stop
budget.py      what the experiment may use
usage.py       what an arm used
directory.py   the files of an experiment, and its lock
journal.py     what happened, in order
index.py       experiments under one directory, found quickly
"""
