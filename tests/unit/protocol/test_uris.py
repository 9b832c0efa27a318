import pytest
from tinker.types.checkpoint import ParsedCheckpointTinkerPath

from hone.errors import UserError
from hone.protocol.uris import CheckpointPath, check_name, parse_path

RUN = "0b1c:train:0"


@pytest.mark.parametrize(
    ("kind", "checkpoint_type"),
    [("weights", "training"), ("sampler_weights", "sampler"), ("external_weights", "external")],
)
def test_a_path_reads_as_the_client_reads_it(kind: str, checkpoint_type: str) -> None:
    text = f"tinker://{RUN}/{kind}/000020"
    path, theirs = parse_path(text), ParsedCheckpointTinkerPath.from_tinker_path(text)
    assert path == CheckpointPath(RUN, kind, "000020")
    assert str(path) == text
    assert (path.run_id, path.checkpoint_id, path.checkpoint_type) == (
        theirs.training_run_id,
        theirs.checkpoint_id,
        theirs.checkpoint_type,
    )
    assert path.checkpoint_type == checkpoint_type


@pytest.mark.parametrize(
    "text",
    ["", "weights/a", "tinker://a/weights", "tinker://a/weights/b/c", "tinker://a/other/b", "tinker:///weights/b",
     "http://a/weights/b", "tinker://a/weights/"],
)  # fmt: skip
def test_anything_else_is_refused_with_the_form_that_is_expected(text: str) -> None:
    with pytest.raises(UserError, match="tinker://<training run>/<weights"):
        parse_path(text)


@pytest.mark.parametrize("name", ["000020", "final", "step-3_best.v2", "a" * 200])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "a b", "a\n", "ä", "a" * 201, "a\\b", "a%2f"]
)
def test_names_that_could_leave_their_directory_or_break_a_url_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="not a checkpoint name"):
        check_name(name)
