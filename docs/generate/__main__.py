"""`python -m docs.generate [--check]`, from the repository's root."""

import argparse
import sys

from docs.generate.pages import stale, write

parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Write the reference pages.")
parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
if parser.parse_args().check:
    found = stale()
    print("\n".join(f"docs/reference/{path} is stale; run `make docs`" for path in found) or "all pages are true")
    sys.exit(bool(found))
print("\n".join(f"wrote docs/reference/{path}" for path in write()) or "all pages are true already")
