"""How good a model is, with how sure one can be of it.

statistics.py    pass@k, intervals, paired comparisons
"""
