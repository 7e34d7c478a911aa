"""Put measured tables where README and the model card keep them, and the packaged model's fingerprint into the card.

usage: python scripts/fill_tables.py REPORT.md    (what a command above the tables saves with --output)

A table stands below a comment `<!-- quality table: COMMAND -->` or `source table` (codecs; filled from a report that has the originals) or `stream
table` (the tokenizer whole and with a stream changed; filled from a report that has both). One report may fill all; words are left to people.
"""

import re
import sys
from pathlib import Path

from unitoken import Tokenizer
from unitoken.files import replacing
from unitoken.hub import DEFAULT_MODEL

ROOT = Path(__file__).parents[1]
CARD = ROOT / "src" / "unitoken" / "weights" / DEFAULT_MODEL / "README.md"


def tables(path):
    """Return the tables of a Markdown file, each a list of lines."""
    found, inside = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            found = [*found[:-1], [*found[-1], line]] if inside else [*found, [line]]
        inside = line.startswith("|")
    return found


def filled(text, kinds):
    """Return a text with the table below each marker replaced."""
    lines, skipping = [], False
    for line in text.splitlines():
        if skipping and line.startswith("|"):
            continue
        lines.append(line)
        marker = re.match(r"<!-- (\w+) table", line)
        if skipping := bool(marker and marker[1] in kinds):
            lines.extend(kinds[marker[1]])
    return "\n".join(lines) + "\n"


def rows(table, wanted):
    """Return a table with the rows of some codecs only, and without columns that none of them fills."""
    cells = [line.strip("| ").split(" | ") for line in table]
    kept = cells[:2] + [row for row in cells[2:] if wanted(row[0])]
    columns = [index for index in range(len(kept[0])) if any(row[index] != "-" for row in kept[2:])]
    return ["| " + " | ".join(row[index] for index in columns) + " |" for row in kept]


def is_codec(name):
    return not is_tokenizer(name) or name == "unitoken S+G+P"


def is_tokenizer(name):
    return name.startswith("unitoken ")


figures, sources = tables(Path(sys.argv[1]))[:2]
names, kinds = [line.strip("| ").split(" | ")[0] for line in figures[2:]], {}
if "original" in names:
    kinds |= {"quality": rows(figures, is_codec), "source": rows(sources, is_codec)}
if "unitoken S+G+P" in names and sum(map(is_tokenizer, names)) > 1:
    kinds["stream"] = rows(figures, is_tokenizer)
fingerprint = Tokenizer.from_pretrained().fingerprint
for path in (ROOT / "README.md", CARD):
    text = filled(path.read_text(encoding="utf-8"), kinds)
    text = re.sub(r"\| fingerprint \| `\w+` \|", f"| fingerprint | `{fingerprint}` |", text)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(path.relative_to(ROOT))
