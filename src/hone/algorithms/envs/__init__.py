"""Environments: what a model acts in and is rewarded by.

message_env.py      an environment of chat messages, and the one that turns it into tokens: read this first
problems.py         a question, a grader, one answer
jsonl.py            problems from a file
generated.py        problems made up for the embedded model
datasets.py         problems and episodes in batches for training
tools.py            an agent with tools: calculator.py, search.py, python_tool.py
tool_problems.py    questions that need them
games.py            games of several players, self-play and opponents: tic_tac_toe.py
guess_number.py, twenty_questions.py, memory.py
built_in.py         all of them by name
check.py            each one checks itself: gold play reaches the best return, random play does not
cookbook.py, verifiers.py, textarena.py     environments of other libraries
"""
