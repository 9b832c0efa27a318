"""`hone checkpoint`: adapters of other tools taken in, and exports brought into the form that plain PEFT loads."""

import argparse
import asyncio
import json
import secrets
import time
import uuid
from pathlib import Path

from hone.cli.serve import EMBEDDED_MODEL, model_sources, only_server
from hone.errors import UserError
from hone.paths import DataDirectory, default_data_dir
from hone.protocol.uris import CheckpointPath, check_name
from hone.settings import Settings, load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="import | convert")
    taking = verbs.add_parser("import", help="make a PEFT adapter a training checkpoint; no server may be running")
    taking.add_argument("directory", type=Path, help="holds adapter_config.json and adapter_model.safetensors")
    taking.add_argument("--base-model", default=EMBEDDED_MODEL, help="its base model's name (default: %(default)s)")
    taking.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="the served model directories, as for `hone serve`",
    )
    taking.add_argument("--name", default="imported", help="the checkpoint's name (default: %(default)s)")
    taking.add_argument("--data-dir", type=Path, help="the server's data directory (default: ~/.local/share/hone)")
    taking.add_argument("--json", action="store_true", help="print one JSON object")
    converting = verbs.add_parser("convert", help="rewrite a downloaded export so that plain PEFT loads it")
    converting.add_argument("directory", type=Path, help="what `tinker checkpoint download` wrote")
    converting.add_argument("target", type=Path, help="the directory to make")


def run(args: argparse.Namespace) -> int:
    return _import(args) if args.verb == "import" else _convert(args)


def _convert(args: argparse.Namespace) -> int:
    from hone.engine.exports import rewrite_for_peft

    rewrite_for_peft(args.directory, args.target)
    print(f"wrote {args.target}; load it with peft.PeftModel.from_pretrained(model, {str(args.target)!r})")
    return 0


def _import(args: argparse.Namespace) -> int:
    check_name(args.name)
    settings = load_settings()
    data = DataDirectory((args.data_dir or settings.data_dir or default_data_dir()).expanduser().resolve())
    data.make()
    with only_server(data):
        path = asyncio.run(_take_in(args, settings, data))
    if args.json:
        print(json.dumps({"tinker_path": str(path)}))
    else:
        print(f"{path}\nTrain from it with ServiceClient().create_training_client_from_state(path).")
    return 0


async def _take_in(args: argparse.Namespace, settings: Settings, data: DataDirectory) -> CheckpointPath:
    from hone.engine.checkpoints import capture, write_image
    from hone.engine.imports import read_peft
    from hone.engine.models.load import read_shape
    from hone.identity.accounts import DEFAULT_PROJECT
    from hone.server import ids
    from hone.server.store import Checkpoint, Run, Store
    from hone.storage.blobs import Blobs
    from hone.storage.database import Database

    sources = {source.name: source.directory for source in model_sources(args.model)}
    if args.base_model not in sources:
        raise UserError(
            f"--base-model {args.base_model!r} is not among the models given ({', '.join(sources)}); "
            f"add --model {args.base_model}=DIR"
        )
    state = read_peft(args.directory, read_shape(sources[args.base_model]))
    session_id = str(uuid.uuid4())
    path = CheckpointPath(ids.model_id(session_id, 0), "weights", args.name)
    directory = f"checkpoints/{path.run_id}/{path.kind}/{path.name}@{secrets.token_hex(4)}"
    blobs = Blobs(data.root, settings.blobs_url)
    size = write_image(capture(state, with_optimizer=False), args.base_model, blobs.path(directory))
    now, origin = time.time(), f"PEFT adapter {args.directory.resolve().name}"
    run = Run(path.run_id, session_id, args.base_model, state.lora, None, now, -1, None, origin)
    checkpoint = Checkpoint(path, now, directory, size, False, None, None, args.base_model, state.lora)
    database = Database(settings.database_url or f"sqlite:///{data.database}", settings.sqlite_synchronous)
    try:
        await blobs.keep(directory)
        return await Store(database).insert_copy(run, checkpoint, None, DEFAULT_PROJECT, None)
    except BaseException:
        await blobs.remove(directory)
        raise
    finally:
        await blobs.close()
        database.close()
