"""How good a model is, with how sure one can be of it.

benchmark.py       what a benchmark is, and where its rows are
benchmarks/        those that are built in, one file each
run.py             a benchmark against a model
compare.py         two models on the same items
statistics.py      pass@k, intervals, paired comparisons
inspect_run.py     a task of inspect_ai against a model
inspect_model.py   a sampling client as a model of inspect_ai
"""
