"""Built-in plugins of the kind `source`, by name: one file each. Adding one is a file and a line here."""

from typing import Any

from hone.experiments.kinds.contract import Source
from hone.experiments.kinds.sources.csv_file import CsvFile
from hone.experiments.kinds.sources.harbor import Harbor
from hone.experiments.kinds.sources.huggingface import HuggingFace
from hone.experiments.kinds.sources.json_file import JsonFile
from hone.experiments.kinds.sources.jsonl import JsonLines
from hone.experiments.kinds.sources.parquet import Parquet
from hone.experiments.kinds.sources.rows import Rows
from hone.experiments.kinds.sources.traces import Traces

SOURCES: dict[str, type[Source[Any]]] = {
    "jsonl": JsonLines,
    "json": JsonFile,
    "csv": CsvFile,
    "parquet": Parquet,
    "huggingface": HuggingFace,
    "rows": Rows,
    "traces": Traces,
    "harbor": Harbor,
}
