"""What of a description's changes breaks clients that were built from the older one.

The rule is one: all that a client may send must still be taken, and all that it may be answered must be what
it knows. Answers may have more members than before; a member that clients may read must not go.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

# What says nothing of the values that a schema takes. `format` is compared, `default` is the server's affair.
_ANNOTATIONS = {"title", "description", "examples", "example", "default", "deprecated"}
_LOWEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_HIGHEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME = ("format", "pattern", "multipleOf", "uniqueItems")
_STRUCTURE = {"type", "enum", "const", "anyOf", "properties", "required", "items", "additionalProperties"}
_KNOWN = {*_ANNOTATIONS, *_LOWEST, *_HIGHEST, *_SAME, *_STRUCTURE}


def breaking(old: Schema, new: Schema) -> list[str]:
    """A sentence for each change that breaks a client; a keyword that is not understood counts as one."""
    return sorted(set(_operations(_inlined(old, old), _inlined(new, new))))


def _inlined(node: Any, document: Schema) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(node, list):
        return [_inlined(each, document) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        found: Any = document
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return _inlined(found, document)
    return {
        key: _inlined(value, document) for key, value in node.items() if key not in {"examples", "example"}
    }


def _operations(old: Schema, new: Schema) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method, before in methods.items():
            name = f"{method.upper()} {path}"
            after = new["paths"].get(path, {}).get(method)
            if after is None:
                yield f"{name}: is gone"
                continue
            if after.get("operationId") != before.get("operationId"):
                yield f"{name}: operationId was {before.get('operationId')}"
            yield from _security(name, before.get("security", []), after.get("security", []))
            yield from _parameters(name, before.get("parameters", []), after.get("parameters", []))
            yield from _request(name, before.get("requestBody"), after.get("requestBody"))
            for status, response in before["responses"].items():
                yield from _response(f"{name} {status}", response, after["responses"].get(status))


def _security(name: str, old: list[Schema], new: list[Schema]) -> Iterator[str]:
    """Each way in that was enough must still be enough."""
    for way in old or [{}]:
        if not any(
            all(set(needed[it]) <= set(way.get(it, ())) and it in way for it in needed)
            for needed in new or [{}]
        ):
            yield f"{name}: the login or scope that was enough is not"


def _parameters(name: str, old: list[Schema], new: list[Schema]) -> Iterator[str]:
    before, after = ({(it["in"], it["name"]): it for it in each} for each in (old, new))
    for key, parameter in before.items():
        where = f"{name} {'.'.join(key)}"
        if key not in after:
            yield f"{where}: is gone"
        else:
            yield from _fits(parameter["schema"], after[key]["schema"], where)
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{name} {'.'.join(key)}: is required now"


def _request(name: str, old: Schema | None, new: Schema | None) -> Iterator[str]:
    if new and new.get("required") and not (old and old.get("required")):
        yield f"{name}: a body is required now"
    for media_type, content in (old or {"content": {}})["content"].items():
        if new is None or media_type not in new["content"]:
            yield f"{name} {media_type}: is not taken any more"
        else:
            yield from _fits(content["schema"], new["content"][media_type]["schema"], f"{name} {media_type}")


def _response(name: str, old: Schema, new: Schema | None) -> Iterator[str]:
    if new is None:
        if name.rsplit(maxsplit=1)[-1] < "4":
            yield f"{name}: is gone"
        return
    for header, before in old.get("headers", {}).items():
        after = new.get("headers", {}).get(header)
        if after is None or (before.get("required", True) and not after.get("required", True)):
            yield f"{name} {header}: the header is gone"
    for media_type, content in old.get("content", {}).items():
        if media_type not in new.get("content", {}):
            yield f"{name} {media_type}: is gone"
            continue
        after = new["content"][media_type]["schema"]
        yield from _fits(after, content["schema"], f"{name} {media_type}", answered=True)


def _fits(inner: Schema, outer: Schema, where: str, *, answered: bool = False) -> Iterator[str]:
    """Why a value that `inner` takes may be one that `outer` does not.

    What is sent must fit from the old schema into the new one, what is answered from the new into the old.
    """
    for schema in (inner, outer):
        if unknown := set(schema) - _KNOWN:
            yield f"{where}: cannot be compared, because of {', '.join(sorted(unknown))}"
            return
    if "anyOf" in inner or "anyOf" in outer:
        choices = outer.get("anyOf", [outer])
        for each in inner.get("anyOf", [inner]):
            reasons = [list(_fits(each, choice, where, answered=answered)) for choice in choices]
            if all(reasons):
                yield from min(reasons, key=len)
        return
    yield from _plain(inner, outer, where)
    if "items" in outer:
        yield from _fits(inner.get("items", {}), outer["items"], f"{where}[]", answered=answered)
    yield from _members(inner, outer, where, answered=answered)


def _plain(inner: Schema, outer: Schema, where: str) -> Iterator[str]:
    if not _types(inner) <= _types(outer):
        yield f"{where}: type {inner.get('type')} against {outer.get('type')}"
    values, allowed = _values(inner), _values(outer)
    if allowed is not None and (values is None or not values <= allowed):
        yield f"{where}: values {sorted(values or ())} against {sorted(allowed)}"
    for keyword in _LOWEST:
        if keyword in outer and inner.get(keyword, float("-inf")) < outer[keyword]:
            yield f"{where}: {keyword} {inner.get(keyword)} against {outer[keyword]}"
    for keyword in _HIGHEST:
        if keyword in outer and inner.get(keyword, float("inf")) > outer[keyword]:
            yield f"{where}: {keyword} {inner.get(keyword)} against {outer[keyword]}"
    for keyword in _SAME:
        if keyword in outer and inner.get(keyword) != outer[keyword]:
            yield f"{where}: {keyword} {inner.get(keyword)} against {outer[keyword]}"


def _types(schema: Schema) -> set[str]:
    every = ["string", "number", "integer", "boolean", "null", "array", "object"]
    found = schema.get("type", every)
    types = {found} if isinstance(found, str) else set(found)
    return types | ({"integer"} if "number" in types else set())


def _values(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(value) for value in schema["enum"]} if "enum" in schema else None


def _members(inner: Schema, outer: Schema, where: str, *, answered: bool) -> Iterator[str]:
    ours, theirs = inner.get("properties", {}), outer.get("properties", {})
    for name in set(outer.get("required", ())) - set(inner.get("required", ())):
        yield f"{where}.{name}: {'is not always there' if answered else 'is required now'}"
    for name in set(ours) & set(theirs):
        yield from _fits(ours[name], theirs[name], f"{where}.{name}", answered=answered)
    if answered:
        yield from (f"{where}.{name}: is gone" for name in set(theirs) - set(ours))
    elif outer.get("additionalProperties", True) is False:
        if inner.get("additionalProperties", True) is not False and inner.get("type") == "object":
            yield f"{where}: other members are refused now"
        yield from (f"{where}.{name}: is refused now" for name in set(ours) - set(theirs))
