"""Calling a tool as JSON between tool_call tags, and reading what it returned.

The system prompt is the one that the chat template writes for `tools=[...]`: "Tools: name(argument, argument), ...".
"""

import json
import random

from training.tiny.problem import Message, Problem, Task, assistant, fill, registry, user
from training.tiny.tasks.knowledge import CAPITALS
from training.tiny.words import NAMES, word

CITIES = tuple(CAPITALS.values())
SIGNATURES = {
    "get_weather": "get_weather(city)",
    "get_time": "get_time(city)",
    "search": "search(query)",
    "add": "add(a, b)",
    "multiply": "multiply(a, b)",
    "send_message": "send_message(name, text)",
    "lookup": "lookup(word)",
}


def tools_prompt(names: list[str]) -> Message:
    return {"role": "system", "content": "Tools: " + ", ".join(SIGNATURES[name] for name in names)}


def call_text(name: str, arguments: dict[str, object]) -> str:
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def _request(rng: random.Random, tool: str) -> tuple[str, dict[str, object]]:
    """A question that needs the tool, and the arguments of the call."""
    if tool in ("get_weather", "get_time"):
        city = rng.choice(CITIES)
        weather = (
            "What is the weather in {city}?",
            "How is the weather in {city}?",
            "Weather in {city}?",
            "Will it rain in {city}?",
        )
        time = (
            "What time is it in {city}?",
            "Tell me the time in {city}.",
            "Time in {city}?",
            "How late is it in {city}?",
        )
        return fill(rng, weather if tool == "get_weather" else time, city=city), {"city": city}
    if tool in ("search", "lookup"):
        text = word(rng)
        search = (
            "Search for {text}.",
            "Find {text} on the web.",
            "Search the web for {text}.",
            "Google {text} for me.",
        )
        look = ("Look up {text}.", "Look up the word {text}.", "What does {text} mean?", "Find the meaning of {text}.")
        key = "query" if tool == "search" else "word"
        return fill(rng, search if tool == "search" else look, text=text), {key: text}
    if tool == "send_message":
        name, text = rng.choice(NAMES), " ".join(word(rng) for _ in range(rng.randint(1, 3)))
        asks = (
            "Send {name} the message: {text}",
            "Write to {name}: {text}",
            "Message {name}: {text}",
            "Tell {name}: {text}",
        )
        return fill(rng, asks, name=name, text=text), {"name": name, "text": text}
    a, b = rng.randint(1000, 9999), rng.randint(1000, 9999)
    add = ("What is {a} + {b}?", "Add {a} and {b}.", "{a} + {b}", "Use the tool to add {a} and {b}.")
    multiply = ("What is {a} * {b}?", "Multiply {a} by {b}.", "{a} * {b}", "Use the tool to multiply {a} and {b}.")
    return fill(rng, add if tool == "add" else multiply, a=a, b=b), {"a": a, "b": b}


def tool_call(rng: random.Random) -> Problem:
    names = rng.sample(list(SIGNATURES), rng.randint(1, 3))
    tool = rng.choice(names)
    question, arguments = _request(rng, tool)
    return Problem((tools_prompt(names), user(question)), call_text(tool, arguments), (f"call {tool} {arguments}",))


def tool_result(rng: random.Random) -> Problem:
    """The answer comes from the tool's reply, one line further up."""
    tool = rng.choice(("get_weather", "get_time", "add", "multiply", "lookup"))
    question, arguments = _request(rng, tool)
    weather = f"{rng.choice(('sunny', 'rain', 'snow', 'windy', 'cloudy', 'foggy'))}, {rng.randint(0, 35)} degrees"
    time = f"{rng.randint(0, 23)}:{rng.randint(10, 59)}"
    result = {"get_weather": weather, "get_time": time, "lookup": f"a kind of {word(rng)}"}.get(
        tool, str(rng.randint(10000, 999999))
    )
    reply: Message = {"role": "tool", "content": result}
    messages = (tools_prompt([tool]), user(question), assistant(call_text(tool, arguments)), reply)
    return Problem(messages, result, (f"result {tool} {result}",))


TASKS = registry(
    Task("tool_call", tool_call, weight=1, max_tokens=64),
    Task("tool_result", tool_result, weight=0.5),
)
