"""Read XML from strangers: no document type, so no entities of its own and nothing from elsewhere.

Only the five entities of XML and character references are read. Sources: XML 1.0 (W3C); the attacks
that this refuses are listed in Python's documentation of its XML modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from core.errors import ExplainedError

MAX_DEPTH = 32


@dataclass(slots=True)
class Element:
    name: str
    """As written, with its prefix if it has one."""
    attributes: Mapping[str, str]
    line: int
    """Of its beginning, from 1, like `column`."""
    column: int
    children: list[Element | str] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"line {self.line}, column {self.column}"

    @property
    def text(self) -> str:
        """The text in it and in the elements in it."""
        return "".join(one if isinstance(one, str) else one.text for one in self.children)


def parse(data: str | bytes) -> Element:
    """Return the root element. Raises ExplainedError with the place of what is wrong."""
    builder = _Builder(expat.ParserCreate("utf-8" if isinstance(data, str) else None))
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as exc:
        place = f"line {exc.lineno}, column {exc.offset + 1}"
        raise ExplainedError(f"{place}: {expat.ErrorString(exc.code)}") from exc
    except (UnicodeError, LookupError) as exc:
        raise ExplainedError(f"line 1, column 1: it cannot be decoded: {exc}") from exc
    return builder.root


class _Builder:
    """Builds the tree while expat reads."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.parser = parser
        self._top = Element("", {}, 1, 1)
        self._open = [self._top]
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._begin, self._end
        parser.CharacterDataHandler = self._add
        parser.StartDoctypeDeclHandler = self._refuse

    @property
    def root(self) -> Element:
        found = self._top.children[0]
        assert isinstance(found, Element)  # noqa: S101 - expat refuses a document without one
        return found

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        element = Element(name, attributes, line, column)
        if len(self._open) > MAX_DEPTH:
            raise ExplainedError(f"{element.place}: elements are nested too deeply")
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, name: str) -> None:
        self._open.pop()

    def _add(self, text: str) -> None:
        self._open[-1].children.append(text)

    def _refuse(self, *_: object) -> None:
        line, column = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        raise ExplainedError(f"line {line}, column {column}: a document type is not allowed")
