"""The two lock files are complete: they are installed without their dependencies being resolved again."""

import re
from importlib import metadata

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fixtures.schema import ROOT


def pinned(file_name: str) -> dict[str, str]:
    """The version of each package that the file pins for this platform."""
    lines = re.findall(
        r"^([\w.-]+)==([\w.+!]+)(?: ; ([^\\\n]+))?", (ROOT / file_name).read_text(), re.MULTILINE
    )
    return {
        canonicalize_name(name): version
        for name, version, marker in lines
        if not marker or Marker(marker.strip()).evaluate()
    }


def dependencies(name: str, extra: str) -> list[Requirement]:
    """What the installed package wants on this platform, and for the extra if one is named."""
    found = [Requirement(line) for line in metadata.requires(name) or []]
    return [each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})]


@pytest.mark.parametrize("file_name", ["requirements.txt", "requirements-dev.txt"])
def test_everything_that_a_locked_package_wants_is_locked(file_name: str) -> None:
    versions = pinned(file_name)
    assert len(versions) > 40
    wanted = [Requirement(line) for line in versions]
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{file_name} lacks {requirement}"
        assert requirement.specifier.contains(versions[name], prereleases=True), requirement
        assert metadata.version(name) == versions[name]
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                wanted += dependencies(name, extra)
    assert {name for name, _ in seen} == set(versions)
