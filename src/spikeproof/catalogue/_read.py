"""Plain values (from TOML or JSON) into frozen dataclasses, by way of pydantic.

The dataclasses stay plain: for each one a pydantic model with the same fields is made, in which a
field of an abstract kind becomes the union of what the catalogue allows, told apart by ``kind``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from spikeproof.catalogue._kinds import KINDS
from spikeproof.errors import Refusal, nearest, short

T = TypeVar("T")


class _Mirror(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    source: ClassVar[Any]  # the dataclass that this is a mirror of


def from_values(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Returns an object of this dataclass; every error is one sentence that begins with where."""
    mirror = _mirror(cast("Any", cls))
    try:
        # In JSON mode, a list may become a tuple and nothing else. What JSON lacks, such as a
        # date, becomes a table that fits nowhere, so that the sentence names its key.
        text = json.dumps(values, default=lambda value: {type(value).__name__: str(value)})
        return _object(mirror.model_validate_json(text))
    except ValidationError as error:
        raise Refusal(f"{where}: {_sentence(error, mirror)}") from None
    except Refusal as error:
        raise Refusal(f"{where}: {error}") from None
    except (TypeError, ValueError, RecursionError):
        raise Refusal(
            f"{where}: it goes beyond JSON; keys are text, numbers short and tables few levels "
            "deep; write them so"
        ) from None


def to_values(thing: Any) -> Any:
    """Returns the plain values from which ``from_values`` makes the same object."""
    if dataclasses.is_dataclass(thing):
        return {f.name: to_values(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    return [to_values(item) for item in thing] if isinstance(thing, tuple) else thing


@functools.cache
def _mirror(cls: Any) -> type[_Mirror]:
    hints = get_type_hints(cls)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        # Which class was meant is known from its kind alone, so a kind has to be written.
        if field.name == "kind":
            fields["kind"] = (Literal[field.default], ...)
            continue
        required = field.default is field.default_factory is dataclasses.MISSING
        fields[field.name] = (_annotation(hints[field.name]), ... if required else None)
    mirror: type[_Mirror] = create_model(cls.__name__, __base__=_Mirror, **fields)
    mirror.source = cls
    return mirror


def _annotation(hint: Any) -> Any:
    if get_origin(hint) is tuple and Ellipsis in get_args(hint):
        return tuple[_annotation(get_args(hint)[0]), ...]  # type: ignore[misc]  # made at run time
    # A kind may itself be written as a union; any other union may have kinds among its arms.
    arms = get_args(hint) if isinstance(hint, UnionType) and hint not in KINDS else (hint,)
    if any(arm in KINDS for arm in arms):
        members = (member for arm in arms for member in KINDS.get(arm, (arm,)))
        mirrors = tuple(m if m is NoneType else _mirror(m) for m in members)
        if len(mirrors) == 1:  # nothing to tell apart
            return mirrors[0]
        return Annotated[Union[mirrors], Field(discriminator="kind")]  # noqa: UP007  made at run time
    if isinstance(hint, UnionType) and any(map(dataclasses.is_dataclass, arms)):
        return Union[tuple(map(_annotation, arms))]  # noqa: UP007  made at run time
    return _mirror(hint) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else hint


def _object(checked: _Mirror) -> Any:
    given = {name: getattr(checked, name) for name in checked.model_fields_set}
    return checked.source(**{name: _plain(value) for name, value in given.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return _object(value) if isinstance(value, _Mirror) else value


def _sentence(error: ValidationError, mirror: type[_Mirror]) -> str:
    first = error.errors(include_url=False)[0]
    tags = [m.source.kind for m in _mirrors(mirror) if hasattr(m.source, "kind")]
    path = [str(part) for part in first["loc"] if part not in tags]
    name, value, context = ".".join(path) or "it", first["input"], first.get("ctx", {})
    name = name if len(name) <= 60 else short(name)
    match first["type"]:
        case "extra_forbidden":
            return f"{name} is not known; {nearest(path[-1], _siblings(mirror, first['loc']))}"
        case "json_invalid":
            return "it is nested too deeply; tables and lists have few levels; write them flat"
        case "too_long":
            return f"{name} is {short(value)}, which is too long; leave out what is too much"
        case "missing" if isinstance(first["loc"][-1], int):
            return (
                f"{'.'.join(path[:-1])} is {short(value)}, which is too short; add what is missing"
            )
        case "missing":
            return f"{name} is missing; it has no default; add it"
        case "union_tag_not_found":
            return f"{name} has no kind; {nearest('', _members(mirror, first['loc']))}"
        case "union_tag_invalid":
            known = nearest(str(context["tag"]), _members(mirror, first["loc"]))
            return f"{name}.kind is {short(context['tag'])}, which is not known; {known}"
    rule = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{name} is {short(value)}; it must be {rule}; correct it"


def _members(mirror: type[_Mirror], location: tuple[int | str, ...]) -> list[str]:
    *path, name = (part for part in location if isinstance(part, str))
    return [m.source.kind for m in _choices(_at(mirror, path), name)]


def _siblings(mirror: type[_Mirror], location: tuple[int | str, ...]) -> list[str]:
    return list(_at(mirror, location[:-1]).model_fields)


def _at(mirror: type[_Mirror], location: Iterable[int | str]) -> type[_Mirror]:
    choices: list[type[_Mirror]] = [mirror]
    for part in location:
        if isinstance(part, int):  # a place in a list, all of whose places are alike
            continue
        tagged = [c for c in choices if getattr(c.source, "kind", None) == part]
        choices = tagged or [m for c in choices for m in _choices(c, part)]
    return choices[0]


def _choices(mirror: type[_Mirror], name: str) -> list[type[_Mirror]]:
    arms = [mirror.model_fields[name].annotation]
    while any(get_args(arm) for arm in arms):
        arms = [part for arm in arms for part in get_args(arm) or (arm,)]
    return [arm for arm in arms if isinstance(arm, type) and issubclass(arm, _Mirror)]


def _mirrors(mirror: type[_Mirror]) -> Iterator[type[_Mirror]]:
    for name in mirror.model_fields:
        for child in _choices(mirror, name):
            yield child
            yield from _mirrors(child)
