"""A lane for each model: `lane.py` runs its operations in order; the others are what it is made of."""
