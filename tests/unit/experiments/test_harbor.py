"""Tasks in Harbor's layout: read, run in the sandbox, and refused where they need a container."""

import asyncio
from pathlib import Path

import pytest

from hone.algorithms.sandbox import run_python
from hone.errors import UserError
from hone.experiments.data.parse import parse
from hone.experiments.harbor import judge, read_tasks
from hone.experiments.kinds import plugins

TEST = """#!/bin/bash
mkdir -p /logs/verifier
if [ "$(cat /app/hello.txt)" = "$(cat /tests/expected.txt)" ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi
"""
TEMPLATE = """#!/bin/bash
apt-get update
apt-get install -y curl
curl -LsSf https://astral.sh/uv/0.9.7/install.sh | sh
source $HOME/.local/bin/env
uvx -p 3.13 -w pytest==8.4.1 pytest --ctrf /logs/verifier/ctrf.json /tests/test_outputs.py -rA
if [ $? -eq 0 ]; then
  echo 1 > /logs/verifier/reward.txt
else
  echo 0 > /logs/verifier/reward.txt
fi
"""
PYTEST = """
from pathlib import Path

def test_hello():
    assert Path("/app/hello.txt").read_text().strip() == "hello"
"""


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def task(home: Path, name: str = "hello", **files: str) -> Path:
    return write(
        home / name,
        **{
            "task_dot_toml": '[metadata]\ndifficulty = "easy"\n[verifier]\ntimeout_sec = 60.0\n',
            "instruction_dot_md": "Write hello into /app/hello.txt.\n",
            "environment__Dockerfile": "FROM python:3.11-slim\n# plain\nWORKDIR /app\n",
            "tests__test_dot_sh": TEST,
            "tests__expected_dot_txt": "hello\n",
            "solution__solve_dot_sh": "echo hello > /app/hello.txt\n",
        }
        | files,
    )


@pytest.fixture(scope="module")
def isolated():
    outcome = asyncio.run(run_python("pass"))
    if not (outcome.isolation.processes and outcome.isolation.files):
        pytest.skip("the sandbox cannot run programs on this kernel")


def reward(directory, answer, **how):
    return asyncio.run(judge(next(read_tasks(directory)), answer, **how)).value


def test_a_task_is_read_with_its_solution_and_a_digest_of_everything(tmp_path):
    (one,) = read_tasks(task(tmp_path))
    assert (one.name, one.instruction) == ("hello", "Write hello into /app/hello.txt.")
    assert (one.solution, one.test_seconds, one.obstacle()) == ("echo hello > /app/hello.txt\n", 60.0, None)
    (tmp_path / "hello/tests/expected.txt").write_text("hello!\n")
    assert next(read_tasks(tmp_path / "hello")).digest != one.digest


def test_the_source_reads_all_tasks_of_a_directory_and_names_them_by_content(tmp_path):
    task(tmp_path / "a", "one")
    task(tmp_path / "a", "two", task_dot_toml='[task]\nname = "org/two"\n')
    (tmp_path / "a/notes").mkdir()
    rows = list(plugins.sources.make("harbor", {"path": "a"}).read(tmp_path))
    assert [(row.place, row.value["task_id"]) for row in rows] == [("a/one", "one"), ("a/two", "org/two")]
    first = parse(rows[0], "task")
    assert first.gold == "```bash\necho hello > /app/hello.txt\n```"
    assert first.facts["metadata"] == {"difficulty": "easy"}
    task(tmp_path / "elsewhere", "one")
    moved = next(plugins.sources.make("harbor", {"path": "elsewhere"}).read(tmp_path))
    assert parse(moved, "task").id == first.id
    for wrong, problem in (("a/notes", "has no tasks"), ("none", "cannot be read")):
        with pytest.raises(UserError, match=problem):
            list(plugins.sources.make("harbor", {"path": wrong}).read(tmp_path))


def test_the_oracle_passes_and_other_answers_fail(tmp_path, isolated):
    directory = task(tmp_path)
    assert reward(directory, "I run:\n```bash\necho hello > /app/hello.txt\n```\n") == 1.0
    assert reward(directory, "```python\nopen('/app/hello.txt', 'w').write('hello')\n```") == 1.0
    assert reward(directory, "```bash\necho goodbye > hello.txt\n```") == 0.0
    assert reward(directory, "") == 0.0
    assert reward(directory, "hello\n", form="file", file="hello.txt") == 1.0


def test_tests_are_not_there_while_the_answer_works_and_nothing_of_it_stays_but_files(tmp_path, isolated):
    directory = task(tmp_path)
    assert reward(directory, "```bash\ncp /tests/expected.txt /app/hello.txt\n```") == 0.0
    waits = "(sleep 2; echo 1 > /logs/verifier/reward.txt; echo hello > /app/hello.txt) & disown"
    assert reward(directory, f"```bash\n{waits}\n```") == 0.0
    assert reward(directory, "```bash\necho 1 > /logs/verifier/reward.txt\n```") == 0.0


def test_the_template_of_harbor_runs_with_the_pytest_that_is_here(tmp_path, isolated):
    directory = task(tmp_path, tests__test_dot_sh=TEMPLATE, tests__test_outputs_dot_py=PYTEST)
    assert next(read_tasks(directory)).obstacle() is None
    assert reward(directory, "```bash\necho hello > /app/hello.txt\n```") == 1.0
    assert reward(directory, "") == 0.0


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("echo 0.25 > /logs/verifier/reward.txt", 0.25),
        ("echo 7 > /logs/verifier/reward.txt", 1.0),
        ("""echo '{"reward": 0.5}' > /logs/verifier/reward.json""", 0.5),
        ("""echo '{"a": 1, "b": 0}' > /logs/verifier/reward.json""", 0.5),
        ("echo nan > /logs/verifier/reward.txt", 0.0),
        ("true", 0.0),
        ("exit 3", 0.0),
    ],
)
def test_the_reward_is_what_the_tests_write(tmp_path, isolated, test, expected):
    assert reward(task(tmp_path, tests__test_dot_sh=test), "") == expected


def test_tests_that_take_too_long_do_not_pass(tmp_path, isolated):
    slow = task(
        tmp_path,
        task_dot_toml="[verifier]\ntimeout_sec = 1.0\n",
        tests__test_dot_sh="sleep 30; echo 1 > /logs/verifier/reward.txt",
    )
    assert reward(slow, "") == 0.0


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"environment__Dockerfile": "FROM python:3.11\nRUN pip install \\\n  x\n"}, r"Dockerfile: RUN pip install +x"),
        ({"environment__Dockerfile": "FROM python:3.11\nCOPY . /app\n"}, "more than a plain one"),
        ({"environment__docker-compose_dot_yaml": ""}, "several containers"),
        ({"tests__test_dot_sh": "cd /tests && pip install x\n"}, "uses pip"),
        ({"tests__test_dot_sh": "apt-get install -y gcc\n"}, "uses apt-get"),
        ({"tests__test_dot_sh": "curl https://example.com/data\n"}, "uses curl"),
    ],
)
def test_what_needs_a_container_is_refused_with_the_reason(tmp_path, files, why):
    directory = task(tmp_path, **files)
    with pytest.raises(UserError, match=f"the tests of the task hello cannot run in the sandbox: .*{why}"):
        reward(directory, "")
    (directory / "tests/test.sh").unlink()
    assert next(read_tasks(directory)).obstacle()


def test_broken_tasks_are_named(tmp_path):
    for files in ({"task_dot_toml": "= 1"}, {"instruction_dot_md": " \n"}):
        with pytest.raises(UserError, match=r"the task .*hello"):
            list(read_tasks(task(tmp_path, **files)))


def test_the_verifier_grades_by_the_tests(tmp_path, isolated):
    from hone.algorithms.graders import GradingError, Task

    directory = task(tmp_path)
    grader = plugins.verifiers.make("harbor", {"directory": str(directory)}).grader()
    assert asyncio.run(grader(Task("q"), "```bash\necho hello > hello.txt\n```")).right
    (directory / "tests/test.sh").write_text("pip install x")
    with pytest.raises(GradingError, match="uses pip"):
        asyncio.run(grader(Task("q"), ""))
