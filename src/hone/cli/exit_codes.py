"""What a command's exit code says. Scripts may rely on it."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
"""The same code that argparse uses for a wrong option."""
EXIT_PROBLEMS = 3
EXIT_BUDGET = 4
EXIT_INTERRUPTED = 130
"""As a shell says it of a program that Ctrl-C ended."""

MEANINGS = {
    EXIT_DONE: "Done.",
    EXIT_FAILED: "Done in part, or not at all: some arms or tests of an experiment failed; `hone data check`, "
    "`hone env check` or `hone doctor` found something; or the fault is ours.",
    EXIT_USER_ERROR: "A mistake that you can mend: a wrong option, a file that is not there, a name that is not known. "
    "Nothing was begun.",
    EXIT_PROBLEMS: "The experiment has problems: `hone check` and `hone run` name all of them. Nothing was begun.",
    EXIT_BUDGET: "Refused by the budget: `hone run` began nothing because even the least that it takes is more, or "
    "arms were skipped or stopped because of it. What is done is kept.",
    EXIT_INTERRUPTED: "Interrupted with Ctrl-C. `hone run --resume` goes on from there.",
}
