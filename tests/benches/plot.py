#!/usr/bin/env python3
"""Draw what peers.py measured, or print it as a table.

    plot.py RESULTS.json OUT.svg     a bar chart
    plot.py --table RESULTS.json     the same as a Markdown table
    plot.py --into PAGE.md RESULTS.json
                                     puts that table between the two `<!-- table -->` lines of a page

RESULTS.json is what `peers.py --json` writes: {work: {tool: {wall, cpu, wire}}}. Every figure is a ratio to the best
rsync of the same run: the fastest for the wall time, the one with the fewest bytes for the wire. The same input gives
the same bytes. Where `peers.py --floor` measured the bare act, a line over the bars says how low they could be.
"""
import argparse, json, sys
from pathlib import Path
from xml.sax.saxutils import escape

DRAWN = ("syncfiles", "unison")
ROWS = (("wall", "wall time"), ("wire", "bytes on the wire"))
MARK = "<!-- table -->"

# Pixels. A bar above the ratio TOP is cut off there, and its figure gets an arrow.
LEFT, RIGHT, GROUP, BAR, HEIGHT, ROW, HEAD, TOP = 44, 16, 92, 38, 150, 240, 64, 1.5

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; } .title { font-size: 14px; font-weight: 600; } .small { font-size: 11px; }
.value { paint-order: stroke; stroke: #ffffff; stroke-width: 3; }
.syncfiles { fill: #0969da; } .unison { fill: #9a6700; } .grid { stroke: #d1d9e0; } .floor { stroke: #1f2328; stroke-width: 2; } .one { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 5 3; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; } .page { fill: #0d1117; } .value { stroke: #0d1117; }
.syncfiles { fill: #4493f8; } .unison { fill: #d29922; } .grid { stroke: #3d444d; } .floor { stroke: #f0f6fc; } .one { stroke: #f85149; }
}
"""


def best(tools, what):
    """The smallest figure of all rsyncs; None if none was measured."""
    return min((figures[what] for tool, figures in tools.items() if tool.startswith("rsync")), default=None)


def ratio(tools, tool, what):
    """The tool's figure to the best rsync's; None if one of the two was not measured."""
    least = best(tools, what)
    return tools[tool][what] / least if tool in tools and least else None


def shown(value):
    """Two or three digits that count."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}" if value >= 0.01 else f"{value:.4f}" if value >= 0.0001 else "<0.0001"


# ---------------------------------------------------------------- the chart

def chart(results):
    drawn = [tool for tool in DRAWN if any(ratio(tools, tool, "wall") is not None for tools in results.values())]
    width = LEFT + max(6, len(results)) * GROUP + RIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEAD + len(ROWS) * ROW}" '
           f'viewBox="0 0 {width} {HEAD + len(ROWS) * ROW}" role="img">',
           "<title>syncfiles beside the best rsync of the same run</title>", f"<style>{STYLE}</style>",
           f'<rect class="page" width="{width}" height="{HEAD + len(ROWS) * ROW}"/>',
           f'<text class="title" x="{LEFT}" y="24">Ratio to the best rsync of the same run: shorter is better</text>']
    for at, tool in enumerate(drawn):
        x = LEFT + at * 100
        out += [f'<rect class="{tool}" x="{x}" y="36" width="12" height="12"/>', f'<text x="{x + 18}" y="47">{tool}</text>']
    if any("floor" in tools for tools in results.values()):
        x = LEFT + len(drawn) * 100
        out += [f'<line class="floor" x1="{x}" x2="{x + 12}" y1="42" y2="42"/>', f'<text x="{x + 18}" y="47">the bare act</text>']
    for at, (what, title) in enumerate(ROWS):
        out += row(results, drawn, what, title, HEAD + at * ROW, width)
    return "\n".join(out + ["</svg>", ""])


def row(results, drawn, what, title, top, width):
    """One row of bars: its title, a grid, the bars of each workload, and the line at 1."""
    floor = top + 40 + HEIGHT
    level = lambda value: round(floor - min(value, TOP) / TOP * HEIGHT, 1)
    out = [f'<text class="title" x="{LEFT}" y="{top + 14}">{title}</text>']
    for step in (0, 0.5, 1.5):
        out += [f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{level(step)}" y2="{level(step)}"/>']
    for step in (0, 0.5, 1, 1.5):
        out += [f'<text class="small" x="{LEFT - 6}" y="{level(step) + 4}" text-anchor="end">{step:g}</text>']
    figures = []
    for at, (work, tools) in enumerate(results.items()):
        middle = LEFT + at * GROUP + GROUP / 2
        out += [f'<text x="{middle:g}" y="{floor + 18}" text-anchor="middle">{escape(work)}</text>']
        here = [(tool, value) for tool in drawn if (value := ratio(tools, tool, what)) is not None]
        for place, (tool, value) in enumerate(here):
            x, y, figure = middle + (place - len(here) / 2) * BAR, level(value), escape(shown(value))
            out += [f'<rect class="bar {tool}" x="{x + 2:g}" y="{y}" width="{BAR - 4}" height="{round(floor - y, 1)}">'
                    f"<title>{escape(work)}, {tool}, {title}: {figure}</title></rect>"]
            figures += [f'<text class="small value" x="{x + BAR / 2:g}" y="{y - 4}" text-anchor="middle">'
                        f'{figure}{"↑" if value > TOP else ""}</text>']
        if (least := ratio(tools, "floor", what)) is not None:
            y, wide = level(least), max(1, len(here)) * BAR / 2
            figures += [f'<line class="floor" x1="{middle - wide:g}" x2="{middle + wide:g}" y1="{y}" y2="{y}">'
                        f"<title>{escape(work)}, the bare act, {title}: {escape(shown(least))}</title></line>"]
    one = f'<line class="one" x1="{LEFT}" x2="{width - RIGHT}" y1="{level(1)}" y2="{level(1)}"/>'
    return out + [one] + figures


# ---------------------------------------------------------------- the table

def table(results):
    rows = [["work", "rsync, fastest: s", "syncfiles: s", "wall ratio", "the bare act: wall ratio",
             "Unison: wall ratio", "rsync, least: MB", "syncfiles: MB", "wire ratio"], ["---"] + ["---:"] * 8]
    for work, tools in results.items():
        own = tools.get("syncfiles", {})
        cells = [(best(tools, "wall"), seconds), (own.get("wall"), seconds), (ratio(tools, "syncfiles", "wall"), shown),
                 (ratio(tools, "floor", "wall"), shown), (ratio(tools, "unison", "wall"), shown), (best(tools, "wire"), megabytes), (own.get("wire"), megabytes),
                 (ratio(tools, "syncfiles", "wire"), shown)]
        rows.append([work] + ["–" if value is None else form(value) for value, form in cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def seconds(value):
    return f"{value:.2f}"


def megabytes(value):
    return f"{value / 1e6:.3f}" if value < 1e7 else f"{value / 1e6:.1f}"


def put_into(page, text):
    """The page with `text` between its two marks."""
    before, _, after = page.split(MARK)
    return f"{before}{MARK}\n{text}{MARK}{after}"


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("results"); ap.add_argument("svg", nargs="?")
    ap.add_argument("--table", action="store_true", help="print the Markdown table")
    ap.add_argument("--into", metavar="PAGE.md", help="put the table between the marks of this page")
    args = ap.parse_args()
    if not (args.svg or args.table or args.into):
        ap.error("nothing to do: name an SVG to write, or ask for the table")
    results = json.loads(Path(args.results).read_text())
    if args.svg:
        Path(args.svg).write_text(chart(results), encoding="utf-8")
    if args.table:
        sys.stdout.write(table(results))
    if args.into:
        page = Path(args.into)
        page.write_text(put_into(page.read_text(), table(results)))


if __name__ == "__main__":
    main()
