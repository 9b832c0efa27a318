"""Built-in plugins of the kind `transform`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Transform
from hone.experiments.kinds.transforms.columns import Columns
from hone.experiments.kinds.transforms.dedupe import Dedupe
from hone.experiments.kinds.transforms.filter import Filter
from hone.experiments.kinds.transforms.limit import Limit
from hone.experiments.kinds.transforms.map_values import MapValues
from hone.experiments.kinds.transforms.sample import Sample
from hone.experiments.kinds.transforms.system_prompt import SystemPrompt
from hone.experiments.kinds.transforms.template import FromTemplate
from hone.experiments.kinds.transforms.to_chat import ToChat
from hone.experiments.kinds.transforms.to_preference import ToPreference
from hone.experiments.kinds.transforms.to_task import ToTask

TRANSFORMS: dict[str, type[Transform[Any]]] = {
    "columns": Columns,
    "template": FromTemplate,
    "map_values": MapValues,
    "system_prompt": SystemPrompt,
    "filter": Filter,
    "dedupe": Dedupe,
    "limit": Limit,
    "sample": Sample,
    "to_chat": ToChat,
    "to_task": ToTask,
    "to_preference": ToPreference,
}
