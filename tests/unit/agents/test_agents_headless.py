"""One task without a terminal: the command, and what of an agent's output is its answer."""

from __future__ import annotations

import json

import pytest

from engine.agents import list_agents, load_agent
from engine.agents.headless import Answered, headless_command, read_answer, unsaid
from engine.errors import EngineError


def test_the_task_is_one_word_of_the_command() -> None:
    task = 'make "it" $(work); {{workspace}}'
    assert task in headless_command(load_agent("claude-code"), task)
    assert headless_command(load_agent("codex"), "x", ["-m", "small"])[-2:] == ["-m", "small"]


def test_arguments_stand_before_a_task_that_ends_the_options() -> None:
    command = headless_command(load_agent("pi"), "--help", ["--model", "x"])
    assert command[-4:] == ["--model", "x", "--", "--help"]
    assert headless_command(load_agent("codex"), "x", ["--model", "y"])[-2:] == ["--model", "y"]


def test_one_that_needs_a_terminal() -> None:
    with pytest.raises(EngineError, match="NanoClaw does nothing without a terminal") as caught:
        headless_command(load_agent("nanoclaw"), "x")
    assert caught.value.exit_code == 2


def test_an_answer_in_one_value() -> None:
    said = {"type": "result", "is_error": False, "result": "done", "session_id": "s1", "usage": {"output_tokens": 9}}
    commands = load_agent("claude-code").commands
    wanted = Answered("done", {"output_tokens": 9}, "s1")
    assert read_answer(commands, json.dumps(said)) == wanted
    assert read_answer(commands, f"a warning\n{json.dumps(said)}\nbye\n") == wanted
    assert read_answer(commands, json.dumps({**said, "is_error": True})).failed


def test_an_answer_among_lines() -> None:
    lines = [
        {"type": "thread.started", "thread_id": "t1"},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "first"}},
        {"type": "item.completed", "item": {"type": "command_execution", "text": "not this"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "last"}},
        {"type": "turn.completed", "usage": {"output_tokens": 3}},
        "a text",
        7,
    ]
    output = "no json\n" + "".join(f"{json.dumps(line)}\n" for line in lines)
    assert read_answer(load_agent("codex").commands, output) == Answered("last", {"output_tokens": 3}, "t1")


def test_an_answer_in_a_list() -> None:
    lines = [
        {"type": "session", "id": "s1"},
        {"type": "turn_end", "message": {"content": [{"type": "toolCall"}], "usage": {"input": 1}}},
        {"type": "turn_end", "message": {"content": [{"thinking": "?"}, {"text": "done"}], "usage": {"input": 2}}},
        {"type": "turn_end", "message": {"content": []}},
    ]
    output = "".join(f"{json.dumps(line)}\n" for line in lines)
    assert read_answer(load_agent("pi").commands, output) == Answered("done", {"input": 2}, "s1")


@pytest.mark.parametrize("output", ["", "plain words", "{", '{"other": 1}', "[1]", '{"result": null}'])
def test_output_that_says_nothing_known_is_the_answer(output: str) -> None:
    assert read_answer(load_agent("claude-code").commands, output) == Answered(output)
    assert read_answer(load_agent("kiro").commands, output) == Answered(output)


@pytest.mark.parametrize("name", ["claude-code", "codex"])
@pytest.mark.parametrize("value", ["[" * 5000, "[" * 300 + "]" * 300, "1e999", "NaN", "-Infinity", "9" * 5000])
def test_output_that_cannot_be_written_again_is_the_answer(name: str, value: str) -> None:
    """The program is the guest's: the machine, and what was done there, must not be lost to it."""
    output = f'{{"type": "result", "result": "done", "usage": {value}}}\n'
    assert read_answer(load_agent(name).commands, output) == Answered(output)


def test_an_answer_that_was_read_is_not_repeated_as_it_was_printed() -> None:
    commands = load_agent("claude-code").commands
    printed = json.dumps({"type": "result", "is_error": True, "result": "Not logged in"})
    assert unsaid(read_answer(commands, printed), printed, [printed]) == ()
    crash = "panic: at\nmain"
    assert unsaid(read_answer(commands, crash), crash, crash.split("\n")) == ("panic: at", "main")


def test_who_prints_json_says_where_the_answer_is() -> None:
    for agent in list_agents():
        if agent.commands.headless:
            assert (agent.commands.answer is None) == (agent.commands.output == "text"), agent.name
