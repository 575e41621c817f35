"""For the documentation site: one line of a docstring may describe several arguments ("a, b: ...").

Griffe takes whatever follows a space as a type. A no-break space keeps the names together.
"""

import re

import griffe

_SEVERAL = re.compile(r"^(\s+\w+(?:, \w+)+)(?=: )", re.MULTILINE)


class SeveralNames(griffe.Extension):
    """Rewrites such lines before docstrings are parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = _SEVERAL.sub(lambda match: match[1].replace(", ", ",\u00a0"), text)
