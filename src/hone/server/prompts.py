"""Prompts as clients send them: chunks of text and images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hone.engine.contract import CountImageTokens
from hone.protocol import requests
from hone.protocol.model_input import ImageChunk, ModelInput, decode_base64, image_chunk, join_chunks, unreadable
from hone.server.recovery import EngineKeeper

Chunks = Sequence[np.ndarray | ImageChunk]


def read_chunks(prompt: requests.ModelInput) -> Chunks:
    chunks: list[np.ndarray | ImageChunk] = []
    for i, chunk in enumerate(prompt.chunks):
        where = f"prompt.chunks[{i}]"
        if chunk.type == "encoded_text":
            chunks.append(np.asarray(chunk.tokens, np.int32))
        elif chunk.type == "image":
            data = decode_base64(chunk.data, where)
            chunks.append(image_chunk(data, chunk.format, chunk.expected_tokens, where))
        else:
            raise unreadable(where, chunk.type)
    return chunks


async def join_prompt(chunks: Chunks, base_model: str, keeper: EngineKeeper) -> ModelInput:
    """The chunks one after another. A client may leave it to us how many positions an image takes."""
    unknown = [c.image for c in chunks if isinstance(c, ImageChunk) and c.expected_tokens is None]
    if unknown:
        counts = iter(await keeper.ask(CountImageTokens(base_model, tuple(unknown))))
        chunks = [
            replace(c, expected_tokens=next(counts)) if isinstance(c, ImageChunk) and c.expected_tokens is None else c
            for c in chunks
        ]
    return join_chunks(chunks, "prompt")
