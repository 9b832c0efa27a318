"""Tic-tac-toe, by the number of the square."""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Literal

from hone.algorithms.envs.games import AgainstOpponents, IllegalMove, Opponent, Perfect, Random, SolvedGame

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
MARKS = "XO"
EMPTY = "."


class TicTacToe(SolvedGame):
    """Three in a row win: 1 and -1; a full board is 0 for both."""

    def __init__(self) -> None:
        self.board = EMPTY * 9
        self.to_move = 0

    def rules(self, player: int) -> str:
        return f"Tic-tac-toe. You are {MARKS[player]}. Answer with the number of a free square."

    def news(self, player: int) -> str:
        squares = [str(place + 1) if mark == EMPTY else mark for place, mark in enumerate(self.board)]
        rows = "\n".join(" ".join(squares[start : start + 3]) for start in (0, 3, 6))
        if self.to_move is not None:
            return rows
        won = self.results()[player]
        return f"{rows}\n" + ("You won." if won > 0 else "You lost." if won < 0 else "A draw.")

    def play(self, text: str) -> None:
        found = re.fullmatch(r"\W*([1-9])\W*", text)
        if not found or self.board[int(found.group(1)) - 1] != EMPTY:
            raise IllegalMove(f"{text[:50]!r} is not the number of a free square")
        assert self.to_move is not None, "the game is over"
        self.board = placed(self.board, int(found.group(1)) - 1)
        self.to_move = None if is_over(self.board) else 1 - self.to_move

    def results(self) -> list[float]:
        winner = winner_of(self.board)
        return [0.0, 0.0] if winner is None else [1.0 if player == winner else -1.0 for player in range(2)]

    def legal_moves(self) -> list[str]:
        return [str(place + 1) for place in free(self.board)]

    def best_moves(self) -> list[str]:
        values = {place: -value(placed(self.board, place)) for place in free(self.board)}
        return [str(place + 1) for place, found in values.items() if found == max(values.values())]


def tic_tac_toe_env(seed: int, *, opponent: Literal["perfect", "random"] = "perfect") -> AgainstOpponents:
    """Against a `perfect` or a `random` opponent; who begins depends on the seed."""
    game = TicTacToe()
    rng = random.Random(f"tic_tac_toe/{seed}")
    other: Opponent = Perfect(game, rng) if opponent == "perfect" else Random(game, rng)
    return AgainstOpponents(game, [None, other] if seed % 2 == 0 else [other, None], seed)


def free(board: str) -> list[int]:
    return [place for place, mark in enumerate(board) if mark == EMPTY]


def placed(board: str, place: int) -> str:
    mark = MARKS[(9 - board.count(EMPTY)) % 2]
    return board[:place] + mark + board[place + 1 :]


def winner_of(board: str) -> int | None:
    for a, b, c in LINES:
        if board[a] == board[b] == board[c] != EMPTY:
            return MARKS.index(board[a])
    return None


def is_over(board: str) -> bool:
    return winner_of(board) is not None or EMPTY not in board


@cache
def value(board: str) -> int:
    """What the player to move can reach: 1, 0 or -1."""
    if winner_of(board) is not None:
        return -1  # the other one has just won
    return max((-value(placed(board, place)) for place in free(board)), default=0)
