"""How things are named. Clients compute some of these names themselves, so none of them is ours to change."""

CLONE_NUMBERS = 1_000_000_000
"""How many sequence numbers each client of a sampling session has for itself."""


def model_id(session_id: str, model_seq_id: int) -> str:
    return f"{session_id}:train:{model_seq_id}"


def sampler_id(session_id: str, sampling_session_seq_id: int) -> str:
    return f"{session_id}:sample:{sampling_session_seq_id}"


def losses_lane(session_id: str) -> str:
    """Where the custom losses of a session are numbered."""
    return f"{session_id}:custom:loss"


def unloading_lane(model_id: str) -> str:
    """Where the end of a model is written down."""
    return f"{session_of(model_id)}:unload:{model_id.rpartition(':')[2]}"


def session_of(lane: str) -> str:
    """The session of a model or a sampler."""
    return lane.rsplit(":", 2)[0]


def request_id(lane: str, seq_id: int) -> str:
    return f"{lane}:{seq_id}"


def lane_of(request: str) -> str:
    return request.rpartition(":")[0]


def clone_range(clone: int) -> tuple[int, int]:
    """The sequence numbers of one client of a sampling session: `first` <= n < `end`. The clone 0 made the session."""
    return clone * CLONE_NUMBERS, (clone + 1) * CLONE_NUMBERS


def sequence_ids(request: str, count: int) -> list[str]:
    """The names of a sample's sequences: fixed by the request, so that asking again names the same."""
    return [f"{request}:{i}" for i in range(count)]
