"""The smallest honest renderer: ChatML over bytes, with two control tokens that no text can spell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import tinker

from hone.algorithms.messages import Message, text_of
from hone.algorithms.renderers import Termination

START, END = 256, 257
OPEN, CLOSE = "<tool_call>", "</tool_call>"


class ByteChatMl:
    has_extension_property = True

    def build_generation_prompt(
        self, messages: Sequence[Any], *, tools: Sequence[Any] = (), prefill: str = ""
    ) -> tinker.ModelInput:
        names = [tool["function"]["name"] for tool in tools]
        shown = [{"role": "system", "content": f"Tools: {', '.join(names)}"}, *messages] if names else messages
        tokens = [token for message in shown for token in self.message_tokens(message)]
        return tinker.ModelInput.from_ints([*tokens, START, *b"assistant\n", *prefill.encode()])

    def message_tokens(self, message: Any) -> list[int]:
        return [START, *f"{message['role']}\n".encode(), *self.answer_tokens(message), *b"\n"]

    def answer_tokens(self, message: Any) -> list[int]:
        """What a model samples that says this message."""
        calls = ""
        for call in message.get("tool_calls", []):
            name, arguments = json.dumps(call["function"]["name"]), call["function"]["arguments"]
            calls += f'{OPEN}{{"name": {name}, "arguments": {arguments}}}{CLOSE}'
        return [*f"{text_of(message)}{calls}".encode(), END]

    def parse_response(self, response: Sequence[int], *, tools: Sequence[Any] = ()) -> tuple[Message, Termination]:
        clean = list(response).count(END) == 1 and response[-1] == END
        text = bytes(token for token in response if token < 256).decode("utf-8", errors="replace")
        message: Message = {"role": "assistant", "content": text}
        if clean and OPEN in text:
            said, _, call = text.partition(OPEN)
            message["content"] = said
            try:
                found = json.loads(call.removesuffix(CLOSE))
                function = {"name": found["name"], "arguments": json.dumps(found["arguments"])}
                message["tool_calls"] = [{"type": "function", "function": function}]  # type: ignore[typeddict-item]
            except (ValueError, LookupError, TypeError) as error:
                message["unparsed_tool_calls"] = [{"raw_text": call, "error": str(error)}]
        return message, Termination.STOP_SEQUENCE if clean else Termination.MALFORMED

    def get_stop_sequences(self) -> list[int]:
        return [END]
