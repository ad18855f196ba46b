"""Text files from Jinja2 templates: strict, so that a name which a template misspells is an error and not a gap."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import Environment


def render(package: str, template: str, *, filters: Mapping[str, Callable[..., str]], **values: object) -> str:
    """The template of that name in the folder ``templates`` of ``package``, filled in; it ends with one newline.

    ``filters`` are the words of the language that it writes.
    """
    environment = _environment(package)
    environment.filters.update(filters)
    return environment.get_template(template).render(**values).rstrip() + "\n"


@cache
def _environment(package: str) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  # 30 ms that other commands do without

    return Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # code and Markdown, no HTML
    )
