"""Data inside the script elements of pages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup


def embed(content: Mapping[str, Any] | Sequence[Any]) -> Markup:
    r"""Return data as JSON for a script element; no text in it can close the element or open another.

    Example:
        >>> str(embed(["</script><b>"]))
        '["\\u003c/script\\u003e\\u003cb\\u003e"]'
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    # These are JSON escapes, so JSON.parse returns the original text.
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704
