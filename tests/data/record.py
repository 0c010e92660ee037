#!/usr/bin/env python3
"""Records docs/run.svg: two real terminals (tmux), a real server and a real client, drawn as they were.

    cargo build --release && tests/data/record.py target/release/syncfiles docs/run.svg

Needs Python 3.9, tmux and ssh-keygen; uses port 2222 of this machine, and nothing outside of a temporary folder.
"""

import html
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS, LARGE = 104, 400 << 20
CELL, LINE, SIZE, PAD, BAR = 8.0, 18, 13, 14, 28
COLOURS = ["#3b4252", "#bf616a", "#a3be8c", "#ebcb8b", "#81a1c1", "#b48ead", "#88c0d0", "#e5e9f0"]
TEXT, BACK, HEAD, DIM = "#d8dee9", "#242933", "#2e3440", "#8b95a7"


class Terminal:
    """A shell of one system, seen through a tmux of its own."""

    def __init__(self, name, home, binaries):
        self.name, self.socket = name, str(home / "tmux")
        env = {"HOME": str(home), "USER": "ann", "PATH": f"{binaries}:{os.environ['PATH']}", "PS1": f"{name}$ ",
               "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"}
        shell = ["env", "-i", *(f"{key}={value}" for key, value in env.items()), "sh"]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", "50", "-c", str(home), *shell)
        self.wait(r"\$ ?$")

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, *args], check=True, capture_output=True, text=True).stdout

    def type(self, text):
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def lines(self):
        """What stands on the screen, with its colours."""
        shown = self.tmux("capture-pane", "-e", "-p").split("\n")
        while shown and not plain(shown[-1]).strip():
            shown.pop()
        return shown

    def wait(self, pattern, seconds=60):
        """The screen as soon as it shows what is looked for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            lines = self.lines()
            if re.search(pattern, "\n".join(map(plain, lines))):
                return lines
            time.sleep(0.02)
        sys.exit(f"{self.name} never showed {pattern}:\n" + "\n".join(self.lines()))

    def run(self, command, answers=()):
        """Types a command, answers what it asks, and waits for the prompt."""
        before = len(self.prompts())
        self.type(command)
        for question, answer in answers:
            self.wait(question)
            self.type(answer)
        while len(self.prompts()) <= before or not self.prompts()[-1].endswith("$"):
            time.sleep(0.02)

    def prompts(self):
        lines = [plain(line).rstrip() for line in self.lines()]
        return [line for line in lines if line.startswith(f"{self.name}$")]

    def end(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True)


def plain(line):
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def spans(line):
    """The runs of one line that look alike: text, colour, bold."""
    colour, bold = TEXT, False
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if not part.startswith("\x1b"):
            if part:
                yield part, colour, bold
            continue
        codes = [int(code or 0) for code in part[2:-1].split(";")]
        for code in codes:
            if code == 0:
                colour, bold = TEXT, False
            elif code == 1:
                bold = True
            elif code == 39:
                colour = TEXT
            elif code // 10 in (3, 9) and code % 10 < 8:
                colour = COLOURS[code % 10]


def drawn(panels):
    """The panels, one below the other, as SVG."""
    width, y, out = COLUMNS * CELL + 2 * PAD, 0, []
    for title, lines in panels:
        height = BAR + len(lines) * LINE + PAD
        out.append(f'<rect y="{y}" width="{width:g}" height="{height}" rx="8" fill="{BACK}"/>'
                   f'<rect y="{y}" width="{width:g}" height="{BAR - 6}" rx="8" fill="{HEAD}"/>'
                   f'<text x="{PAD}" y="{y + 16}" fill="{DIM}">{html.escape(title)}</text>')
        for row, line in enumerate(lines):
            at, base = 0, y + BAR + row * LINE + SIZE
            for text, colour, bold in spans(line):
                if text.strip():
                    weight = ' font-weight="bold"' if bold else ""
                    out.append(f'<text x="{PAD + at * CELL:g}" y="{base}" fill="{colour}"{weight} '
                               f'textLength="{len(text) * CELL:g}">{html.escape(text)}</text>')
                at += len(text)
        y += height + 10
    style = "text{white-space:pre;font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y - 10}" width="{width:g}" '
            f'height="{y - 10}" role="img" aria-label="A recorded run of syncfiles">'
            f"<style>{style}</style>\n" + "\n".join(out) + "\n</svg>\n")


def fill(nas, laptop):
    """What the two folders hold before."""
    now = time.time()

    def put(home, name, content, age):
        path = home / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (now - age, now - age))

    put(nas, "2026/lake/p0112.raw", os.urandom(LARGE), 86400)
    put(nas, "2026/lake/p0113.raw", os.urandom(LARGE // 2), 86000)
    put(nas, "2025/blurred.raw", os.urandom(1 << 20), 9e6)
    put(nas, "captions.md", b"Lake, at noon\n", 7200)
    put(laptop, "captions.md", b"Lake, at noon, before the rain\n", 600)
    put(laptop, "2026/hill.raw", os.urandom(8 << 20), 3600)


def main(binary, picture):
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder, name) for name in ("nas", "laptop")]
        binaries = Path(folder, "bin")
        for path in [binaries, *(home / ".ssh" for home in homes)]:
            path.mkdir(parents=True, mode=0o700)
        (binaries / "syncfiles").symlink_to(Path(binary).resolve())
        fill(*homes)
        key = homes[1] / ".ssh/id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann@laptop", "-f", key], check=True)
        allowed = homes[0] / ".ssh/authorized_keys"
        allowed.write_bytes(key.with_suffix(".pub").read_bytes())
        allowed.chmod(0o600)
        terminals = []
        try:
            for name, home in zip(("nas", "laptop"), homes):
                terminals.append(Terminal(name, home, binaries))
            panels = play(*terminals)
        finally:
            for terminal in terminals:
                terminal.end()
    Path(picture).write_text(drawn(panels))


def play(nas, laptop):
    nas.type("syncfiles serve ~/photos")
    serving = nas.wait(r"export name=photos")
    laptop.run("syncfiles -n ann@localhost:photos ~/photos", [(r"\?", "yes")])
    laptop.type("syncfiles -v ann@localhost:photos ~/photos")
    moving = laptop.wait(r"[2-8]\d%  \d/5 files")
    laptop.wait(r"in sync.*\n(.*\n)*laptop\$ ?$")
    laptop.run("rm ~/photos/2025/blurred.raw; echo 'Hill, at dawn' >> ~/photos/captions.md")
    laptop.run("syncfiles -v --delete ann@localhost:photos ~/photos")
    laptop.run("syncfiles --delete ann@localhost:photos ~/photos")
    done = laptop.lines()[:-1]
    # What stood there before the bars is in the last picture as well.
    began = max(at for at, line in enumerate(moving) if "syncfiles -v" in plain(line))
    return [
        ("nas", serving),
        ("laptop", done),
        ("laptop, while the files of the first sync travel", moving[began:]),
        ("nas, where the deleted photo is kept", kept(nas)),
    ]


def kept(nas):
    """The server is stopped, and its history looked at."""
    nas.tmux("send-keys", "C-c")
    nas.wait(r"syncfiles: stopped\n.*nas\$$")
    nas.run("syncfiles history ~/photos")
    shown = nas.lines()
    return shown[max(at for at, line in enumerate(shown) if "syncfiles history" in plain(line)) : -1]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
