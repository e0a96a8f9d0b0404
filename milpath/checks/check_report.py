"""What checks found, as printed lines and as files: `data_check.json`, `pairs.csv` and `groups.csv`."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from milpath.checks.check_slides import DataChecks
from milpath.checks.findings import LEVELS, Finding, pairs_table
from milpath.checks.near_duplicates import connected
from milpath.records.atomic_files import write_json, write_text
from milpath.records.error_text import counted, visible

RECORD, PAIRS, GROUPS = "data_check.json", "pairs.csv", "groups.csv"


def printed_lines(checks: DataChecks, output: Path) -> list[str]:
    """Return the lines that the command prints: findings by their weight with examples, then files and seconds."""
    lines = [checks.slides.summary(), ""]
    for finding in by_level(checks.findings):
        lines.append(finding.line())
        lines += [f"            {visible(example)}" for example in finding.examples]
    counts = Counter(finding.level for finding in checks.findings)
    lines += ["", ", ".join(f"{counts[level]} {level}" for level in LEVELS if counts[level])]
    if checks.pairs:
        together = f"data.groups={output / GROUPS} keeps them in one split"
        lines.append(f"{counted(len(checks.pairs), 'pair')} in {output / PAIRS}; {together}")
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in checks.seconds.items() if seconds >= 0.05)
    return [*lines, f"record: {output / RECORD}" + (f" ({took})" if took else "")]


def by_level(findings: list[Finding]) -> list[Finding]:
    """Return findings with the gravest first."""
    order = list(LEVELS)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def write_checks(checks: DataChecks, output: Path, said: dict[str, Any]) -> None:
    """Write the record, the pairs, and the groups that keep pairs and patients together.

    Args:
        checks: What was found.
        output: An existing folder.
        said: What was asked, for the record; plain values.
    """
    record = said | {
        "slides": len(checks.slides.names),
        "group_column": checks.slides.group_column,
        "findings": [asdict(finding) for finding in by_level(checks.findings)],
        "associations": [asdict(each) for each in checks.associations],
        "probes": [asdict(probe) for probe in checks.probes],
        "num_pairs": len(checks.pairs),
        "seconds": checks.seconds,
    }
    write_json(output / RECORD, record)
    write_text(output / PAIRS, pairs_table(checks.pairs, checks.slides).to_csv(index=False, lineterminator="\n"))
    if checks.pairs:
        write_text(output / GROUPS, groups_table(checks).to_csv(index=False, lineterminator="\n"))
    else:
        (output / GROUPS).unlink(missing_ok=True)  # of an earlier check


def groups_table(checks: DataChecks) -> pd.DataFrame:
    """Return `image_id, group` of every slide: slides of one patient or one pair are in one group."""
    slides, place = checks.slides, {name: row for row, name in enumerate(checks.slides.names)}
    links = [(place[pair.first], place[pair.second]) for pair in checks.pairs]
    first: dict[str, int] = {}
    for row, group in enumerate([] if slides.groups is None else slides.groups.tolist()):
        links.append((first.setdefault(group, row), row))
    codes = connected(len(place), links)
    names: dict[int, str] = {}
    for row, code in enumerate(codes.tolist()):
        names.setdefault(code, slides.names[row] if slides.groups is None else str(slides.groups[row]))
    return pd.DataFrame({"image_id": slides.names, "group": [names[code] for code in codes.tolist()]})
