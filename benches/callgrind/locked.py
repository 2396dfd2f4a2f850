"""Counts the instructions with a lock prefix that an answer takes, by function.

Each takes about 4 ns, as long as thirty others, even if no other core wants the same cache line. Callgrind counts every
instruction by its address, and objdump tells which of them lock.
"""

import re
import subprocess
from collections import Counter

# Positions and names in full, so that each line of the profile can be read by itself.
OPTIONS = ["--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]


def addresses(binary):
    """The addresses of the instructions that lock. An exchange with memory locks without the prefix."""
    listing = subprocess.check_output(["objdump", "--disassemble", "--no-show-raw-insn", binary], text=True)
    found = re.findall(r"^\s*([0-9a-f]+):\s+(?:lock\b|xchg .*\()", listing, re.MULTILINE)
    return {int(address, 16) for address in found}


def executed(profile, binary, wanted):
    """How often the wanted instructions of a binary ran, by function."""
    counts, function, ours, is_call = Counter(), None, False, False
    for line in profile.read_text().splitlines():
        if line.startswith("ob="):
            ours = line[3:] == str(binary)
        elif line.startswith("fn="):
            function = re.sub(r"::h[0-9a-f]{16}", "", line[3:])
        elif line.startswith("calls="):
            # The next line has the cost of the called function.
            is_call = True
        elif line.startswith("0x"):
            address, _, count = line.split()
            if ours and not is_call and int(address, 16) in wanted:
                counts[function] += int(count)
            is_call = False
    return counts


def by_function(binary, few, many, answers):
    """Locking instructions of one answer, by function, most first: the difference of two profiles."""
    binary = binary.resolve()
    wanted = addresses(binary)
    counts = executed(many, binary, wanted)
    counts.subtract(executed(few, binary, wanted))
    return [(function, count / answers) for function, count in counts.most_common() if count * 100 > answers]
