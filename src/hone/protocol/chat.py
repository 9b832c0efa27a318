"""What the OpenAI- and the Anthropic-compatible bodies share. Unlike the protocol's own, they refuse unknown fields:
a setting without effect would be taken for one that works."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from hone.protocol.model_input import decode_base64, image_chunk
from hone.protocol.requests import Body, Finite
from hone.protocol.types import Image

Content = str | list[str | Image]
"""What a message says: text, or text and images."""

MAX_SAMPLES = 128
MAX_TOP_LOGPROBS = 20


class Strict(Body):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


def only(*allowed: object) -> AfterValidator:
    """For a field that exists for clients that always send it: nothing but `allowed` and null can be served."""

    def check(value: object) -> object:
        if value is not None and value not in allowed:
            shown = " or ".join(map(repr, allowed)) or "null"
            raise ValueError(f"is not supported by this server; leave it out or send {shown}")
        return value

    return AfterValidator(check)


def joined_text(content: object) -> object:
    """Content in parts as one text, nothing added between them; parts that are not text are refused."""
    if not isinstance(content, list):
        return content
    return "".join(part_text(part) for part in content)


def part_text(part: object) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        found = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise ValueError(f"content holds a part of type {found!r}; this server's models read text only")
    check_keys(part, ("type", "text", "cache_control", "citations"))
    return str(part["text"])


def picture(data: str, media_type: str) -> Image:
    """An image in a message; `data` is base64."""
    format = media_type.removeprefix("image/")
    chunk = image_chunk(decode_base64(data, "image"), "jpeg" if format == "jpg" else format, None, "image")
    return chunk.image


def mixed(parts: Iterable[str | Image]) -> Content:
    """One text if there are no images, else texts and images in their order."""
    joined: list[str | Image] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    if any(isinstance(part, Image) for part in joined):
        return joined
    return "".join(part for part in joined if isinstance(part, str))


def to_template(content: Content) -> str | list[dict[str, str]]:
    """As the templates of models that see expect it; where an image is they write one token."""
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in content]


def images_in(content: Content | None) -> list[Image]:
    return [part for part in content if isinstance(part, Image)] if isinstance(content, list) else []


def check_keys(fields: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse fields without effect in objects that are not a `Strict` of their own."""
    for name in fields:
        if name not in known:
            raise ValueError(f"field {name!r} is not supported by this server; leave it out")


Text = Annotated[str, BeforeValidator(joined_text)]
Temperature = Annotated[Finite, Field(ge=0)]
TopP = Annotated[float, Field(gt=0, le=1)]
Tokens = Annotated[int, Field(ge=1, lt=2**31)]
StopStrings = list[Annotated[str, Field(min_length=1)]]
