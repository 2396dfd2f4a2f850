"""The printed table: each measurement, its goal, and whether the goal is met."""

import statistics
import sys

COLUMNS = ("sidecar", "floor", "loop", "HAProxy", "nginx", "Varnish")


class Table:
    def __init__(self):
        self.rows = []

    def row(self, what, values, *goals, digits=1, own="sidecar"):
        """Adds a row with the median of each column's rounds.

        A goal is a sign, a factor and the column that `own` is compared with: the median of the ratios within the rounds
        has to be at most (or at least) the factor.
        """
        self.rows.append({"what": what, "values": values, "digits": digits, "goals": []})
        for sign, factor, column in goals:
            ratios = sorted(mine / other for mine, other in zip(values[own], values[column]))
            ratio = statistics.median(ratios)
            met = ratio <= factor if sign == "≤" else ratio >= factor
            self.goal(f"{sign} {factor:.2f} × {column}", f"{ratio:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})", met)

    def goal(self, goal, found, met):
        """Adds a goal to the last row."""
        self.rows[-1]["goals"].append((goal, found, met))
        print(f"{self.rows[-1]['what']}: {found}, goal {goal}: {'met' if met else 'NOT met'}", file=sys.stderr)

    def at_most(self, most, unit=""):
        """Adds a goal to the last row: the median of the sidecar's rounds is at most so much."""
        found = statistics.median(self.rows[-1]["values"]["sidecar"])
        self.goal(f"≤ {most}{unit}", f"{found:.{self.rows[-1]['digits']}f}{unit}", found <= most)

    def print(self):
        print(f"\n| | {' | '.join(COLUMNS)} | others | goal for the sidecar | found, median (and range) of rounds | met |")
        print("|---" * (len(COLUMNS) + 5) + "|")
        for row in self.rows:
            shown = {name: f"{statistics.median(all):.{row['digits']}f}" for name, all in row["values"].items()}
            others = ", ".join(f"{name} {value}" for name, value in shown.items() if name not in COLUMNS)
            cells = [row["what"], *(shown.get(column, "") for column in COLUMNS), others]
            for goal, found, met in row["goals"] or [("", "", None)]:
                print("|", " | ".join([*cells, goal, found, {True: "yes", False: "**no**", None: ""}[met]]), "|")
                cells = [""] * len(cells)
        self.print_missed()

    def print_missed(self):
        """Names each goal that was missed, by its row."""
        goals = [(row["what"], *goal) for row in self.rows for goal in row["goals"]]
        missed = [goal for goal in goals if not goal[-1]]
        if goals:
            print(f"\n{len(missed)} of {len(goals)} goals missed{':' if missed else '.'}")
        for what, goal, found, _ in missed:
            print(f"- {what}: {found}, goal {goal}")
