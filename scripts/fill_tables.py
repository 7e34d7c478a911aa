"""Put measured tables where README and the model card keep them, and the packaged model's fingerprint into the card.

usage: python scripts/fill_tables.py QUALITY.md STREAMS.md    (reports of the commands that stand above the tables)

A table stands below a comment `<!-- quality table: COMMAND -->`, `stream table` or `source table`; the words around it are left to people.
"""

import re
import sys
from pathlib import Path

from unitoken import Tokenizer
from unitoken.files import replacing

ROOT = Path(__file__).parents[1]
CARD = ROOT / "src" / "unitoken" / "weights" / "small-1" / "README.md"


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


quality, streams = (tables(Path(name)) for name in sys.argv[1:3])
fingerprint = Tokenizer.from_pretrained().fingerprint
for path in (ROOT / "README.md", CARD):
    text = filled(path.read_text(encoding="utf-8"), {"quality": quality[0], "stream": streams[0], "source": quality[1]})
    text = re.sub(r"\| fingerprint \| `\w+` \|", f"| fingerprint | `{fingerprint}` |", text)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(path.relative_to(ROOT))
