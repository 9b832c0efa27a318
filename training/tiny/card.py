"""The model card, with measured numbers filled in."""

import textwrap
from collections.abc import Sequence

_CARD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---

# hone/tiny

A chat model of 0.92 million parameters that answers in milliseconds on one CPU core. It is here to try things out on:
sampling, fine-tuning, reinforcement learning, serving. It knows how to follow a chat turn and does many small things
right; a few small things it does right only sometimes, on purpose, so that training has something to improve.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
chat = [{{"role": "user", "content": "Sort from smallest to largest: 42, 7, 19"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=32)[0]))
```

## Form

Qwen3 architecture: 4 layers, width 128, 4 heads of 32 with 2 key-value heads, feed-forward width 384, tied embeddings.
Byte-level BPE with 1024 tokens, digits one by one. ChatML turns that end with `<|im_end|>`; roles system, user,
assistant and tool. Tools are written into the system prompt as `Tools: name(argument, argument)`, calls come back as
JSON between `<tool_call>` tags. With "Think first." after a sum it works it out between `<think>` tags.

## What it can do

Measured on {problems} problems for each task, none of them trained on: greedy, and {samples} answers each at
temperature 1. A problem is right when the whole answer is. `small_talk` is a fixed list, so it is measured on what was
trained; facts (capitals, opposites, ...) are measured in phrasings that were not trained for that fact;
`write_opinion`, `story` and `animal_line` have no single answer and count when they are about what was asked. The
longest right answer is given in tokens.

{table}

{headroom}

## How it was trained

From random weights, on one CPU thread, by `python -m training.tiny.train` in Hone's repository: 20 minutes, and 35 more
after the shares of the tasks had been balanced anew. Muon for the matrices, AdamW for the rest, about 25 million
tokens, loss on answers and on a twentieth of the prompt tokens. Everything it read was generated from our own templates
and word lists; there is no third-party text and there are no third-party weights. A tenth of all problems, chosen by a
hash of what has to be worked out, was kept out. Four tasks were to stay half learned: they leave the mix whenever a
probe on training problems reaches their target.

## Limits

It knows nothing beyond its tasks, in English, in phrasings close to those it was trained on; anything else gets a
confident wrong answer. Asked what colour, who, where or how many, it names something of the right kind from the text,
but hardly more often the right one than chance; whether a word is in a list it can only guess. Conversations were at
most 512 tokens long in training, most under 60, though 2048 positions are allowed. Numbers have at most three digits,
lists at most seven items. It is not meant for any use where an answer matters.

## Licence

Apache-2.0, weights and tokenizer.
"""


def render(table: str, headroom: Sequence[str], problems: int, samples: int) -> str:
    starred = (
        "Tasks with a star suit reinforcement learning: a short answer that can be checked and not be guessed, right a "
        "quarter to half of the time at temperature 1. These are " + ", ".join(f"`{name}`" for name in headroom) + "."
    )
    wrapped = textwrap.fill(starred, width=118, break_on_hyphens=False)
    return _CARD.format(table=table, headroom=wrapped, problems=problems, samples=samples)
