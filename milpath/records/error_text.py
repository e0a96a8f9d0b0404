"""Error messages of other libraries for the user: one line, no advice to disable a protection, no control codes."""

import re
import unicodedata

_LONGEST_REASON = 300
_OBJECTS = "it holds Python objects, which are never loaded"
# Messages of loaders about files that would run code, including the advice that follows.
_KNOWN = (
    (re.compile(r"(Object arrays cannot be loaded|Cannot load file .*?pickled data) when allow_pickle=False"), _OBJECTS),
    (re.compile(r"This file contains pickled \(object\) data\. If you trust .*?pickle\.load\(\)`\.?", re.S), _OBJECTS),
    (re.compile(r"Array can't be memory-mapped: Python objects in dtype\.?"), _OBJECTS),
    (
        re.compile(r"Header info length \((\d+)\) is large and may not be safe .*?allow_pickle=True`\.?", re.S),
        r"its header has \1 bytes, more than an array needs",
    ),
    (
        re.compile(r"Target ('[^']*') is blocklisted because it .*?HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE\.?", re.S),
        r"\1 can run any code, which no configuration may do",
    ),
)  # fmt: skip
_TORCH = re.compile(r"Weights only load failed\b.*", re.S)
_FORBIDDEN = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")
_SWITCHES = (
    "weights_only", "allow_pickle", "trust_remote_code", "safe_globals", "MAX_IMAGE_PIXELS", "LOAD_TRUNCATED_IMAGES",
    "max_header_size", "trust the source", "trust the file", "trusted source", "unsafe_load", "ALLOWLIST_OVERRIDE",
)  # fmt: skip
_NAMES_A_SWITCH = re.compile("|".join(_SWITCHES))
_BETWEEN_CLAUSES = re.compile(r"((?<=\.) |[;()\n])")


def reason_of(error: BaseException) -> str:
    """Return why a library refused a file: one line of at most 300 characters, without its advice.

    Loaders tell the user how to load the file anyway, with the protection disabled. Users of this library load files
    from elsewhere and must not be given this advice.

    Example:
        >>> reason_of(ValueError("Object arrays cannot be loaded when allow_pickle=False"))
        'it holds Python objects, which are never loaded'
    """
    text = one_line_of(str(error))
    return text[:_LONGEST_REASON] or type(error).__name__


def one_line_of(text: str) -> str:
    """Return a text on one line, without advice to disable a protection and with control characters escaped."""
    text = _TORCH.sub(lambda match: _reason_of_torch(match.group()), text)
    for pattern, plain in _KNOWN:
        text = pattern.sub(plain, text)
    return visible(" ".join(_without_switches(text).split()))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "slide"), counted(1200, "slide")
        ('1 slide', '1,200 slides')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _without_switches(text: str) -> str:
    """Return a text without clauses that name such a setting; clauses end at a full stop, semicolon, bracket or newline."""
    if not _NAMES_A_SWITCH.search(text):
        return text
    clauses = _BETWEEN_CLAUSES.split(text)
    kept = "".join("" if _NAMES_A_SWITCH.search(clause) else clause for clause in clauses)
    return kept.replace(" ()", "").replace("()", "")


def visible(text: str) -> str:
    r"""Return a text with control and direction characters escaped, so that a name cannot control a terminal.

    Example:
        >>> visible("slide\x1b[2J")
        'slide\\x1b[2J'
    """
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNSEEN else character
        for character in text
    )


# Control, format (direction overrides, zero width), surrogate, private use, line and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _reason_of_torch(text: str) -> str:
    """Return the reason in the message of `torch.load`, which is mostly advice."""
    named = _FORBIDDEN.search(text)
    if named is not None:
        return f"it holds code ({named.group(1)}), which is never run"
    return "it holds something other than tensors and plain values"
