"""Learning from another model, or from the same one with more to go by.

    lessons.py       what the student sees, what the teacher sees, and who teaches
    teachers.py      what teachers say of an answer: scores, likeliest tokens, answers of their own
    off_policy.py    imitate answers that are given, by the teacher's whole distribution over each token
    prompt.py        move a prompt into the weights: the teacher answers with it, the student learns without
    on_policy.py     the student answers, the teacher scores every token of it

A teacher may be another model, several of them, or the student itself with a privileged prompt (self-distillation).
"""
