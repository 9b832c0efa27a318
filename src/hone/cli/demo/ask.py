"""Leaves a small script beside the adapters that asks one of them a question: about the shortest client there is."""

from pathlib import Path

from hone.paths import DataDirectory

SCRIPT = '''\
"""Asks the adapter that `hone demo` trained. Start the server first: hone serve --data-dir {data_dir}"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the tokenizer is on this machine

import tinker

client = tinker.ServiceClient(
    base_url=os.environ.get("TINKER_BASE_URL", "http://127.0.0.1:8000"),
    api_key=os.environ.get("TINKER_API_KEY") or Path({api_key!r}).read_text().strip(),
)
with client:
    sampler = client.create_sampling_client(model_path={checkpoint!r}).result()
    tokenizer = sampler.get_tokenizer()
    turn = [{{"role": "user", "content": " ".join(sys.argv[1:])}}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    tokens = tinker.ModelInput.from_ints(tokenizer.encode(prompt, add_special_tokens=False))
    params = tinker.SamplingParams(max_tokens=24, temperature=0.0, stop=[tokenizer.eos_token_id])
    answer = sampler.sample(tokens, num_samples=1, sampling_params=params).result().sequences[0]
    print(tokenizer.decode(answer.tokens, skip_special_tokens=True))
'''


def write(data_dir: Path, checkpoint: str) -> Path:
    path = data_dir / "ask.py"
    key = str(DataDirectory(data_dir).api_key)
    path.write_text(SCRIPT.format(data_dir=data_dir, api_key=key, checkpoint=checkpoint), encoding="utf-8")
    return path
