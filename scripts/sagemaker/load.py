"""Load test of a server: rate, latencies, errors and memory over some minutes.

usage: python scripts/sagemaker/load.py [--minutes 10] [--clients 8]
"""

import argparse
import io
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import numpy as np
from served import memory_mb, served, write_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    words = parser.parse_args()
    random_state = np.random.default_rng(0)
    bodies = []
    for _ in range(8):
        body = io.BytesIO()
        np.save(body, random_state.integers(0, 256, (16, 128, 128, 3), dtype=np.uint8))
        bodies.append(body.getvalue())
    seconds: list[float] = []
    outcomes: Counter[str] = Counter()
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        write_network(Path(folder))
        with served(Path(folder)) as (address, pid):
            end = time.monotonic() + 60 * words.minutes

            def client(number: int) -> None:
                position = number
                while time.monotonic() < end:
                    started = time.perf_counter()
                    outcome = ask(address, bodies[position % len(bodies)])
                    seconds.append(time.perf_counter() - started)
                    outcomes[outcome] += 1
                    position += 1

            threads = [threading.Thread(target=client, args=(number,)) for number in range(words.clients)]
            started = time.monotonic()
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                memory.append(memory_mb(pid))
                time.sleep(5)
            elapsed = time.monotonic() - started
    p50, p95, p99 = 1000 * np.percentile(seconds, [50, 95, 99])
    tenth = max(1, len(memory) // 10)
    early, late = np.mean(memory[tenth : 2 * tenth]), np.mean(memory[-tenth:])
    print(
        f"{len(seconds)} requests, a bag of 16 tiles of 128 px each, in {elapsed:.0f} s from {words.clients} clients: "
        f"{len(seconds) / elapsed:.1f} requests/s, p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, {dict(outcomes)}; "
        f"resident memory {memory[0]:.0f} MB at the start, {early:.0f} MB in the second tenth, {late:.0f} MB in the last "
        f"(largest {max(memory):.0f} MB)"
    )


def ask(address: str, body: bytes) -> str:
    """Return the status, or the connection error."""
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/x-npy"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = json.loads(answer.read())
            return "200" if len(content["predictions"][0]["attention"]) == 16 else "200 but wrong"
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__


if __name__ == "__main__":
    main()
