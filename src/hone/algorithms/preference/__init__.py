"""Learning from which of two answers is better.

comparisons.py   rows of a file to examples: read this first
pairs.py         comparisons as training data
losses.py        DPO, IPO, ORPO, SimPO, KTO and Bradley-Terry, as functions of log-probabilities
objectives.py    which datums each of them needs
train.py         the loop
reward_model.py  a model that scores answers, learned from pairs
reference.py     the frozen model that some objectives compare with
judged.py        prompts for reinforcement learning, whose answers are judged together
rlhf.py          three stages in one run: demonstrations, a reward model, reinforcement on its rewards
"""
