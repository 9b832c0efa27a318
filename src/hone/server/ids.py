"""How things are named. Clients compute some of these names themselves, so none of them is ours to change."""


def model_id(session_id: str, model_seq_id: int) -> str:
    return f"{session_id}:train:{model_seq_id}"


def sampler_id(session_id: str, sampling_session_seq_id: int) -> str:
    return f"{session_id}:sample:{sampling_session_seq_id}"


def session_of(lane: str) -> str:
    """The session of a model or a sampler."""
    return lane.rsplit(":", 2)[0]


def request_id(lane: str, seq_id: int) -> str:
    return f"{lane}:{seq_id}"


def sequence_ids(request: str, count: int) -> list[str]:
    """The names of a sample's sequences: fixed by the request, so that asking again names the same."""
    return [f"{request}:{i}" for i in range(count)]
