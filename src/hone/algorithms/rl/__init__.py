"""Reinforcement learning: episodes, credit for their tokens, and three loops that differ in when they sample.

    train.py          sample, learn, repeat; read this first
    streaming.py      gradients go out while other groups are still sampled
    asynchronous.py   sampling runs a bounded number of steps ahead; ahead.py is its bookkeeping

    rollouts.py       one episode, a group, a step's groups; policy.py acts, compaction.py shortens its history
    advantages.py     rewards to advantages to training data
    losses.py         what the service is asked to minimise
    kl.py             how far two policies are apart, and a penalty for it
    updates.py        what the loops send to the trainer
    metrics.py        what the episodes were like, in numbers; transcripts.py, in words
    held_out.py       the same numbers for problems that are never trained on

A run is `asyncio.run(train.train(GrpoConfig(model=ModelConfig(name=...)), service, dataset, run_dir))`, with a dataset
of `hone.algorithms.envs` or of your own (`hone.algorithms.types.RLDataset`).
"""
