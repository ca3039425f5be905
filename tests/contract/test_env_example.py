"""`.env.example` lists what is read from the environment: all of it, nothing else, with its defaults."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import SecretStr, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from tests.fixtures.schema import ROOT

PACKAGES = ("api", "common", "devstack", "grpc_reader", "outbox_relay")
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
LISTED = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
# What the system itself gives every program.
OF_THE_SYSTEM = {"PATH"}


def settings_classes(parent: type[BaseSettings] = BaseSettings) -> Iterator[type[BaseSettings]]:
    for child in parent.__subclasses__():
        yield from settings_classes(child)
        if child.__module__.split(".")[0] in PACKAGES:
            yield child


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """(variable, field) for every field of every settings class there is."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            importlib.import_module(module.name)
    for found in settings_classes():
        for name, field in found.model_fields.items():
            yield name.upper(), field


def read_directly() -> Iterator[tuple[str, int | None]]:
    """(variable, default port) for what is asked of the environment without a settings class."""
    for file in (file for package in (*PACKAGES, "alembic") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(
                    ast.Name("port_from_environment"), [ast.Constant(str(name)), ast.Constant(port)]
                ):
                    assert isinstance(port, int)
                    yield name, port
                case ast.Call(ast.Name("map"), [function, ast.Tuple(names)]) if is_environment(function):
                    yield from ((ast.literal_eval(name), None) for name in names)
                case ast.Call(function, [ast.Constant(str(name)), *_]) if is_environment(function):
                    yield name, None
                case ast.Subscript(function, ast.Constant(str(name))) if is_environment(function):
                    yield name, None


def is_environment(node: ast.expr) -> bool:
    return ast.unparse(node) in {"os.environ", "os.environ.get", "os.environ.pop", "os.getenv"}


FIELDS = list(fields())
DIRECTLY = [(name, port) for name, port in read_directly() if name not in OF_THE_SYSTEM]


def test_all_that_is_read_is_listed_and_nothing_else() -> None:
    assert set(LISTED) == {name for name, _ in FIELDS} | {name for name, _ in DIRECTLY}


def test_the_search_finds_what_is_known_to_be_read() -> None:
    assert {"DATABASE_URL", "RELAY_WINDOW", "GRPC_ADDRESS"} <= {name for name, _ in FIELDS}
    assert {("CACHE_PORT", 36379), ("DEVSTACK_MYSQLD_ROOT", None)} <= set(DIRECTLY)
    assert {"BROKER_URL", "API_PORT", "GRPC_REFLECTION"} <= {name for name, _ in DIRECTLY}


def test_every_variable_stands_once_under_a_line_that_says_what_it_is() -> None:
    names = re.findall(r"^([A-Z_]+)=", EXAMPLE, re.MULTILINE)
    assert len(names) == len(set(names))
    assert len(re.findall(r"^# (?!--).+\n[A-Z_]+=", EXAMPLE, re.MULTILINE)) == len(names)


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[name for name, _ in FIELDS])
def test_the_default_shown_is_that_of_the_code(name: str, field: FieldInfo) -> None:
    shown, default = LISTED[name], field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        assert shown, "what has no default is shown with a placeholder"
    elif default is None:
        assert shown == "" or name == "CACHE_URL"  # the relay can do without what others need
    else:
        assert parsed(field, shown) == parsed(field, default)


def parsed(field: FieldInfo, value: Any) -> Any:  # noqa: ANN401  a default is of any type
    kind: Any = field.annotation
    for constraint in field.metadata:
        kind = Annotated[kind, constraint]
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(("name", "port"), [it for it in DIRECTLY if it[1] is not None])
def test_the_port_shown_is_that_of_make_up(name: str, port: int) -> None:
    assert LISTED[name] == str(port)


def test_no_secret_has_a_default() -> None:
    for name, field in FIELDS:
        if SecretStr in getattr(field.annotation, "__args__", (field.annotation,)):
            assert field.default in (PydanticUndefined, None), name
