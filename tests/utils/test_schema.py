from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest

from metaprompts.errors import InputError
from metaprompts.models.config import Lora, ModelConfig, Prompts, Refinement
from metaprompts.recipes.recipe import section_types
from metaprompts.tasks import TASKS
from metaprompts.utils.schema import Range, check_ranges, convert, from_dict, to_dict, type_hints


@dataclass(frozen=True, kw_only=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    rate: float = 0.5
    name: str = "a"
    on: bool = False
    path: Path = Path("here")
    kind: Literal["round", "square"] = "round"
    size: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)
    facts: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("count", "3", 3),
        ("count", 3.0, 3),
        ("rate", 1, 1.0),
        ("rate", "1e-3", 1e-3),
        ("on", "yes", True),
        ("on", "False", False),
        ("path", "there", Path("there")),
        ("kind", "square", "square"),
        ("size", "192,256", (192, 256)),
        ("size", "[192, 256]", (192, 256)),
        ("size", [192, 256], (192, 256)),
        ("size", "none", None),
        ("names", "a, b", ("a", "b")),
        ("names", '["a", "b,c"]', ("a", "b,c")),
        ("names", "", ()),
        ("edges", [[0, 1], [1, 2]], ((0, 1), (1, 2))),
        ("limit", "off", None),
        ("limit", "2", 2.0),
        ("inner", {"depth": "4"}, Inner(depth=4)),
        ("facts", {"x": [1]}, {"x": [1]}),
    ],
)
def test_a_value_is_read_as_its_field_wants(key, given, expected):
    value = getattr(from_dict(Outer, {"count": 1} | {key: given}), key)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing part.count: give a value"),
        ({"cuont": 1}, "unknown key part.cuont: did you mean part.count?"),
        ({"count": 1, "inner": {"dpeth": 1}}, "unknown key part.inner.dpeth: did you mean part.inner.depth?"),
        ({"count": "many"}, "part.count is 'many'; expected a whole number"),
        ({"count": 1.5}, "part.count is 1.5; expected a whole number"),
        ({"count": True}, "part.count is True; expected a whole number"),
        ({"count": None}, "part.count is None; expected a whole number"),
        ({"count": 1, "rate": "fast"}, "part.rate is 'fast'; expected a number"),
        ({"count": 1, "name": 3}, "part.name is 3; expected text"),
        ({"count": 1, "on": 1}, "part.on is 1; expected true or false"),
        ({"count": 1, "on": "maybe"}, "part.on is 'maybe'; expected true or false"),
        ({"count": 1, "kind": "oval"}, "part.kind is 'oval'; expected one of round, square"),
        ({"count": 1, "size": "1,2,3"}, "part.size is '1,2,3'; expected 2 values or none"),
        ({"count": 1, "size": 7}, "part.size is 7; expected 2 values or none"),
        ({"count": 1, "names": [1]}, "part.names is 1; expected text"),
        ({"count": 1, "inner": 5}, "part.inner is 5; expected a section of keys"),
        ({"count": 1, "facts": 5}, "part.facts is 5"),
    ],
)
def test_a_wrong_value_is_reported_in_one_line(values, message):
    with pytest.raises(InputError) as caught:
        from_dict(Outer, values, "part")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_section_is_reported():
    with pytest.raises(InputError, match="part is 5; expected a section of keys"):
        from_dict(Outer, 5, "part")


def test_plain_and_build_undo_each_other():
    value = Outer(count=2, size=(1, 2), edges=((0, 1),), path=Path("x/y"), inner=Inner(depth=3), facts={"a": [None]})
    assert to_dict(value)["edges"] == [[0, 1]]
    assert to_dict(value)["path"] == "x/y"
    assert from_dict(Outer, to_dict(value)) == value


def test_a_single_value_converts():
    assert convert(tuple[int, int] | None, [1, 2], "size") == (1, 2)
    with pytest.raises(InputError, match="size is 'abc'"):
        convert(tuple[int, int] | None, "abc", "size")


@dataclass(frozen=True, kw_only=True)
class Ranged:
    count: Annotated[int, Range(1, 64)] = 1
    share: Annotated[float, Range(0, 1, below=True)] | None = None
    sizes: tuple[Annotated[int, Range(8, 100)], ...] = ()
    pair: tuple[Annotated[float, Range(0, 2, above=True)], Annotated[float, Range(0, 2)]] | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "part")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 10**18}, "part.count is 1000000000000000000; expected 1 to 64"),
        ({"count": "0"}, "part.count is 0; expected 1 to 64"),
        ({"share": 1}, "part.share is 1.0; expected 0 to below 1"),
        ({"sizes": [8, 7]}, "part.sizes is 8,7; expected 8 to 100"),
        ({"sizes": [10**9] * 99}, "part.sizes is 1000000000,1000000000,"),
        ({"pair": [0, 0]}, "part.pair is 0.0,0.0; expected more than 0 to 2"),
        ({"count": "9" * 5000}, "part.count is '9999"),
    ],
)
def test_a_number_out_of_its_range_is_reported_with_the_range(values, message):
    """refinement.steps = 1e18 ran for ever."""
    with pytest.raises(InputError) as caught:
        from_dict(Ranged, values, "part")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 150


def test_the_ends_of_a_range_are_allowed():
    from_dict(Ranged, {"count": 64, "share": 0, "sizes": "8,100", "pair": [2, 0]})
    with pytest.raises(InputError, match=r"part\.share is nan"):
        Ranged(share=float("nan"))


def without_range(hint, name):
    if get_origin(hint) is Annotated and any(isinstance(part, Range) for part in get_args(hint)):
        return []
    return [name] if hint in (int, float) else [found for part in get_args(hint) for found in without_range(part, name)]


def test_every_number_of_recipes_and_config_json_has_a_range():
    """A count without a limit commands all memory, or time without end."""
    kinds = [ModelConfig, Prompts, Refinement, Lora, *TASKS.values()]
    kinds += [kind for task in TASKS for kind in section_types(task).values()]
    found = [
        bad
        for kind in kinds
        for name, hint in type_hints(kind).items()
        for bad in without_range(hint, f"{kind.__name__}.{name}")
    ]
    assert found == []
