"""Prints constraints.txt: the version of everything installed, each with the Pythons that version supports."""

from __future__ import annotations

from importlib.metadata import distributions

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
LEFT_OUT = {"labelsmooth", "pip", "setuptools"}


def main() -> None:
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    print("# One set of versions that was tested together (Python 3.11), for developers and CI.")
    print("# The package's own ranges are in pyproject.toml. Made by `make constraints`.")
    for dist in sorted(distributions(), key=lambda dist: canonicalize_name(dist.name)):
        name = canonicalize_name(dist.name)
        if name in LEFT_OUT:
            continue
        # A local part such as +cpu names a build, not a version.
        pin = f"{name}=={Version(dist.version).public}"
        python = SpecifierSet(dist.metadata.get("Requires-Python", ""))
        oldest = next(version for version in SUPPORTED if python.contains(f"{version}.99"))
        print(pin if oldest == SUPPORTED[0] else f'{pin} ; python_version >= "{oldest}"')


if __name__ == "__main__":
    main()
