"""`python -m protos.generate` writes the stubs beside the .proto files; `--check` only compares.

`--image` prints what the files say, for tests/contract/protos.json, against which `make proto-check` looks
for breaking changes.
"""

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToJson
from grpc_tools import protoc  # type: ignore[import-untyped]  # it has no types

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = Path("protos/bookstore/v1")
_GOOGLE = Path(protoc.__file__).parent / "_proto"


def generate(target: Path) -> None:
    """Write the stubs of all .proto files below `target`, in the same folders as their sources."""
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    _run(*outputs)


def image() -> str:
    """All the files and what they import, as a google.protobuf.FileDescriptorSet in JSON, which buf reads."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "image.binpb"
        _run("--include_imports", f"--descriptor_set_out={written}")
        described = FileDescriptorSet.FromString(written.read_bytes())
    return MessageToJson(described, indent=1, preserving_proto_field_name=True)


def _run(*arguments: str) -> None:
    sources = sorted(str(path.relative_to(_ROOT)) for path in (_ROOT / _SOURCES).glob("*.proto"))
    # From the repository root, so that the stubs import each other as `protos.bookstore.v1`.
    if protoc.main(["protoc", f"-I{_ROOT}", f"-I{_GOOGLE}", *arguments, *sources]) != 0:
        sys.exit("protoc did not accept the .proto files; its own message stands above.")


def _stubs(root: Path) -> set[str]:
    return {path.name for path in (root / _SOURCES).glob("*_pb2*") if path.suffix in {".py", ".pyi"}}


def differences() -> list[str]:
    """Names of the committed stubs that are not what the .proto files give today."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = sorted(_stubs(fresh) | _stubs(_ROOT))
        _, changed, missing = filecmp.cmpfiles(fresh / _SOURCES, _ROOT / _SOURCES, names, shallow=False)
        return sorted(changed + missing)


def main() -> None:
    """Generate, print, or compare and exit 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m protos.generate", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--check", action="store_true", help="exit 1 if the committed stubs are out of date")
    only.add_argument("--image", action="store_true", help="print the descriptors in JSON")
    arguments = parser.parse_args()
    if arguments.image:
        sys.stdout.write(image() + "\n")
    elif not arguments.check:
        generate(_ROOT)
    elif found := differences():
        sys.exit(f"Out of date: {', '.join(found)}. Run `python -m protos.generate` and commit the result.")


if __name__ == "__main__":
    main()
