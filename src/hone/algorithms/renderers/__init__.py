"""Chat messages to tokens and back, for each model family. `renderer.py` says what a renderer promises."""

import re
from collections.abc import Callable
from typing import Any

from hone.algorithms.renderers.chat_template import ChatTemplate
from hone.algorithms.renderers.deepseekv3 import DeepSeekV3, DeepSeekV3Thinking
from hone.algorithms.renderers.encoding import Tokenizer
from hone.algorithms.renderers.glm import Glm, GlmDisableThinking
from hone.algorithms.renderers.gpt_oss import GptOss, GptOssHigh, GptOssLow, GptOssMedium
from hone.algorithms.renderers.images import ImageProcessor
from hone.algorithms.renderers.kimi_k2 import KimiK2
from hone.algorithms.renderers.llama3 import Llama3
from hone.algorithms.renderers.qwen2_5_vl import Qwen2_5VL
from hone.algorithms.renderers.qwen3 import Qwen3, Qwen3DisableThinking, Qwen3Instruct, Qwen3PreserveThinking
from hone.algorithms.renderers.qwen3_5 import Qwen3_5, Qwen3_5DisableThinking, Qwen3_5PreserveThinking
from hone.algorithms.renderers.qwen3_vl import Qwen3VL, Qwen3VLInstruct
from hone.algorithms.renderers.renderer import Renderer, RendererError, SupervisedExample, Termination, TrainOnWhat
from hone.algorithms.renderers.role_colon import RoleColon

__all__ = [
    "RENDERERS",
    "Renderer",
    "RendererError",
    "SupervisedExample",
    "Termination",
    "TrainOnWhat",
    "get_renderer",
    "recommended_renderer",
    "register_renderer",
]

RendererFactory = Callable[[Tokenizer, ImageProcessor | None], Renderer]

RENDERERS: dict[str, RendererFactory] = {
    "chat_template": ChatTemplate,
    "role_colon": RoleColon,
    "llama3": Llama3,
    "qwen2_5_vl": Qwen2_5VL,
    "qwen3": Qwen3,
    "qwen3_disable_thinking": Qwen3DisableThinking,
    "qwen3_preserve_thinking": Qwen3PreserveThinking,
    "qwen3_instruct": Qwen3Instruct,
    "qwen3_vl": Qwen3VL,
    "qwen3_vl_instruct": Qwen3VLInstruct,
    "qwen3_5": Qwen3_5,
    "qwen3_5_disable_thinking": Qwen3_5DisableThinking,
    "qwen3_5_preserve_thinking": Qwen3_5PreserveThinking,
    "deepseekv3": DeepSeekV3,
    "deepseekv3_disable_thinking": DeepSeekV3,
    "deepseekv3_thinking": DeepSeekV3Thinking,
    "kimi_k2": KimiK2,
    "gpt_oss_no_sysprompt": GptOss,
    "gpt_oss_low_reasoning": GptOssLow,
    "gpt_oss_medium_reasoning": GptOssMedium,
    "gpt_oss_high_reasoning": GptOssHigh,
    "glm4_5": Glm,
    "glm4_5_disable_thinking": GlmDisableThinking,
    "glm4_6": Glm,
    "glm4_6_disable_thinking": GlmDisableThinking,
}
"""By name; where tinker-cookbook has the family, by its name for it."""

RECOMMENDED: list[tuple[str, str]] = [
    (r"-base$|/(meta-)?llama-3[^/]*b$|deepseek-v3\.1-base", "role_colon"),
    (r"/(meta-)?llama-3.*-instruct", "llama3"),
    (r"/qwen2\.5-vl", "qwen2_5_vl"),
    (r"/qwen3-vl.*-instruct", "qwen3_vl_instruct"),
    (r"/qwen3-vl", "qwen3_vl"),
    (r"/qwen3-.*-instruct", "qwen3_instruct"),
    (r"/qwen3-", "qwen3"),
    (r"/qwen3\.[56]-", "qwen3_5"),
    (r"/deepseek-v3\.1", "deepseekv3"),
    (r"/kimi-k2-thinking", "kimi_k2"),
    (r"/gpt-oss-", "gpt_oss_no_sysprompt"),
    (r"/glm-4\.5", "glm4_5"),
    (r"/glm-4\.6", "glm4_6"),
]
"""The first pattern that is found in a model's name, in lower case, decides."""


def get_renderer(name: str, tokenizer: Any, image_processor: ImageProcessor | None = None) -> Renderer:
    """`tokenizer` is a Hugging Face one. Names are those of `RENDERERS`."""
    if name not in RENDERERS:
        raise RendererError(f"there is no renderer {name!r}; there are {', '.join(sorted(RENDERERS))}")
    return RENDERERS[name](tokenizer, image_processor)


def recommended_renderer(model_name: str, tokenizer: Any) -> str:
    """By the model's name if its family is known, else by whether its tokenizer has a chat template."""
    name = f"/{model_name.lower().partition(':')[0]}"
    for pattern, renderer in RECOMMENDED:
        if re.search(pattern, name):
            return renderer
    return "chat_template" if getattr(tokenizer, "chat_template", None) else "role_colon"


def register_renderer(name: str) -> Callable[[RendererFactory], RendererFactory]:
    """Decorates a class, or a function of tokenizer and image processor, that makes a renderer of one's own."""

    def register(factory: RendererFactory) -> RendererFactory:
        if name in RENDERERS:
            raise RendererError(f"there is a renderer {name!r} already; choose another name")
        RENDERERS[name] = factory
        return factory

    return register
