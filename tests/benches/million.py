#!/usr/bin/env python3
"""What a tree of a million files costs syncfiles: seconds, and peak memory a file on each side.

    million.py [--bin PATH] [--dir DIR] [--files 1000000] [--option WORD ...]

Makes the files (24 bytes each, 100 a folder) below DIR, syncs them to an empty folder through `syncfiles serve` on
127.0.0.1, and runs again with nothing to do. The server is started anew for each run, so nothing is kept warm. Peak
memory is what the kernel counted for the process (ru_maxrss), the program itself included. It needs about 10 GB
below DIR for a million files, which are deleted at the end, and OpenSSH's ssh-keygen for a key.
"""
import argparse, os, shutil, subprocess, sys, tempfile, time
from pathlib import Path

from peers import free_port, wait_port

A_FOLDER = 100


def make(root, count):
    """`count` files of 24 bytes, an hour old."""
    hour_ago = time.time() - 3600
    for i in range(count):
        if i % A_FOLDER == 0:
            folder = root / f"d{i // 10_000:03d}" / f"e{i // A_FOLDER % 100:02d}"
            folder.mkdir(parents=True)
        name = f"{folder}/f{i:08d}"
        with open(name, "wb") as f:
            f.write(b"%024d" % (i * 7919))
        os.utime(name, (hour_ago, hour_ago))


def ended(process):
    """Waits for the process; its exit code and its peak of resident bytes."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_maxrss * 1024


def run(args, box):
    """One sync through a server of its own: seconds, and the peaks of server and client."""
    port, env = free_port(), dict(os.environ, HOME=str(box))
    log = open(box / "server.log", "ab")
    server = subprocess.Popen(
        [args.bin, "serve", "--listen", f"127.0.0.1:{port}", "--host-key", box / "host_key",
         "--authorized-keys", box / "id.pub", "--user", "bench", f"root={box}/one"],
        env=env, stdout=log, stderr=log)
    wait_port(port)
    start = time.perf_counter()
    client = subprocess.Popen(
        [args.bin, "-q", "--port", str(port), "--identity", box / "id", "--known-hosts", box / "known_hosts",
         "--accept-new", *args.option, "bench@127.0.0.1:root", box / "two"], env=env, stdin=subprocess.DEVNULL)
    code, client_peak = ended(client)
    seconds = time.perf_counter() - start
    server.terminate()
    _, server_peak = ended(server)
    if code != 0:
        raise SystemExit(f"syncfiles ended with {code}: {(box / 'server.log').read_text()[-400:]}")
    return seconds, server_peak, client_peak


def count(root):
    return sum(len(files) for folder, _, files in os.walk(root) if "/.syncfiles" not in folder)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--bin", default="target/release/syncfiles", type=lambda path: str(Path(path).resolve()))
    ap.add_argument("--dir"); ap.add_argument("--files", type=int, default=1_000_000)
    ap.add_argument("--option", action="append", default=[], help="handed to the client, as --option=--compress=never")
    args = ap.parse_args()
    box = Path(tempfile.mkdtemp(prefix="million-", dir=args.dir))
    try:
        (box / "two").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box / "id"], check=True)
        make(box / "one", args.files)
        # The second run lets both sides settle their records, as after any first sync.
        for what in ("first sync", "second run", "no change"):
            seconds, server, client = run(args, box)
            print(f"{what:10}  {seconds:7.1f} s   server {server / 2**20:6.0f} MiB ({server / args.files:5.0f} bytes a file)"
                  f"   client {client / 2**20:6.0f} MiB ({client / args.files:5.0f} bytes a file)", flush=True)
        if count(box / "two") != args.files:
            raise SystemExit("not every file arrived")
    finally:
        shutil.rmtree(box, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
