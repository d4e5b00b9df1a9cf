"""Measures page latency while PPO trains on the same cores.

Uses its own installation of the demo project with one finished round. While PPO of the second round trains, annotators
use the web pages (home, rank, think two seconds, submit) and an admin follows the round. Prints one JSON line:
latencies by page, and the cadence, which is the time from the last ranking that the round needed to the next sets of
answers. Loopback only; ends with the round.

    python benchmarks/pages.py --annotators 8 --think 2
"""

import argparse
import json
import re
import sys
import threading
import time
import uuid
from collections import defaultdict
from http.client import HTTPConnection, HTTPResponse, RemoteDisconnected
from http.cookies import SimpleCookie
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.tiny import annotators, preset
from training.tiny.annotators import Behaviour
from training.tiny.demo import ADMIN, PROJECT, Demo
from training.tiny.installation import Installation

WATCH_S = 2.0  # between two looks of the admin at the round: what the page itself does
LONGEST_S = 900

Latencies = dict[str, list[float]]


class Browser:
    """One person signed in by a one-time link: one connection, its cookies, and how long each page took."""

    def __init__(self, place: Installation, email: str, latencies: Latencies) -> None:
        self.connection = HTTPConnection("127.0.0.1", place.port, timeout=60)
        self.host = urlsplit(place.url).netloc
        self.cookies: dict[str, str] = {}
        self.latencies = latencies
        link = urlsplit(place.manage("sign_in_link", email).strip()).path
        page = self.get("sign in", link)
        self.post("signed in", link, {"csrfmiddlewaretoken": field(page, "csrfmiddlewaretoken")})

    def get(self, name: str, path: str, *, htmx: bool = False) -> str:
        return self._send(name, "GET", path, None, {"HX-Request": "true"} if htmx else {})

    def post(self, name: str, path: str, fields: dict[str, str], *, htmx: bool = False) -> str:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | ({"HX-Request": "true"} if htmx else {})
        return self._send(name, "POST", path, urlencode(fields), headers)

    def _send(self, name: str, method: str, path: str, body: str | None, headers: dict[str, str]) -> str:
        cookies = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        began = time.perf_counter()
        answer, text = self._exchange(method, path, body, {"Host": self.host, "Cookie": cookies, **headers})
        self.latencies[name].append(time.perf_counter() - began)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path} was answered {answer.status}")
        for line in answer.headers.get_all("Set-Cookie") or []:
            self.cookies |= {key: morsel.value for key, morsel in SimpleCookie(line).items()}
        return text

    def _exchange(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[HTTPResponse, str]:
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
        except (RemoteDisconnected, BrokenPipeError):  # the server had closed it for being idle
            self.connection.close()
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
        return answer, answer.read().decode()


def field(page: str, name: str) -> str:
    """The value of the hidden input called `name`."""
    tag = re.search(rf'<input[^>]*name="{name}"[^>]*>', page)
    value = re.search(r'value="([^"]*)"', tag.group()) if tag else None
    if value is None:
        raise RuntimeError(f"the page has no {name}")
    return value.group(1)


def label(browser: Browser, think_s: float, over: threading.Event) -> None:
    """Open home, claim a set, think, submit; until PPO ends or there is nothing left to rank."""
    while not over.is_set():
        browser.get("home", "/")
        page = browser.get("rank", f"/projects/{PROJECT}/rank/")
        action = re.search(r'hx-post="(/assignments/\d+/submit/)"', page)
        if action is None:
            return
        over.wait(think_s)
        names = list(dict.fromkeys(re.findall(r'name="(place-\d+)"', page)))
        fields = {name: str(place) for place, name in enumerate(reversed(names), 1)}
        fields |= {"submission_id": str(uuid.uuid4()), "csrfmiddlewaretoken": field(page, "csrfmiddlewaretoken")}
        browser.post("submit", action.group(1), {**fields, "note": "", "is_confirmed": "on"}, htmx=True)


def watch(browser: Browser, number: int, over: threading.Event) -> None:
    """The requests of a browser that shows a running round."""
    browser.get("round", f"/projects/{PROJECT}/rounds/{number}/")
    while not over.wait(WATCH_S):
        browser.get("round, live", f"/projects/{PROJECT}/rounds/{number}/live/", htmx=True)


def measure(place: Installation, people: int, think_s: float) -> dict[str, Any]:
    demo = Demo(place, seed=10, people=people, shuffle=Behaviour.shuffle, say=lambda line: print(line, file=sys.stderr))
    demo.prepare()
    annotators.work(demo.team, "demonstration", wanted=preset.DEMONSTRATIONS)
    demo.round(1)
    annotators.work(
        demo.team, "ranking", wanted=preset.SLATES_PER_ROUND // 2
    )  # the others wait to be ranked under load
    last_label = time.monotonic()
    demo.open_round()
    latencies: Latencies = defaultdict(list)
    ppo_s, failures = under_load(demo, latencies, people, think_s)
    demo.wait("round 2", LONGEST_S, lambda: status(demo)["status"] == "succeeded")
    cadence_s = time.monotonic() - last_label
    return {
        "pages": {name: figures(seconds) for name, seconds in sorted(latencies.items())},
        "ppo_s": round(ppo_s, 1),
        "cadence_s": round(cadence_s, 1),
        "failures": failures,
    }


def under_load(demo: Demo, latencies: Latencies, people: int, think_s: float) -> tuple[float, int]:
    """Label and watch for as long as PPO trains; returns for how long, and how many people got an error."""
    place, over = demo.installation, threading.Event()
    labellers = [Browser(place, f"simulated-{n}@{PROJECT}.example", defaultdict(list)) for n in range(1, people + 1)]
    admin = Browser(place, ADMIN, defaultdict(list))
    for browser in (*labellers, admin):  # to sign in is not what is measured
        browser.latencies = latencies
    demo.wait("PPO", LONGEST_S, lambda: stage(demo, "ppo") == "running")
    began = time.monotonic()
    failures: list[BaseException] = []

    def do(work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as failure:
            failures.append(failure)
            print(failure, file=sys.stderr)

    threads = [threading.Thread(target=do, args=[label, browser, think_s, over]) for browser in labellers]
    threads.append(threading.Thread(target=do, args=[watch, admin, 2, over]))
    for thread in threads:
        thread.start()
    demo.wait("the end of PPO", LONGEST_S, lambda: stage(demo, "ppo") != "running")
    over.set()
    ppo_s = time.monotonic() - began
    for thread in threads:
        thread.join()
    return ppo_s, len(failures)


def status(demo: Demo) -> dict[str, Any]:
    found: dict[str, Any] = demo.admin.get(f"projects/{PROJECT}/rounds/2/")
    return found


def stage(demo: Demo, name: str) -> str:
    """The status of the newest run of this stage of round 2; empty before there is one."""
    runs = [one["run"] for one in status(demo)["stages"] if one["stage"] == name and one["run"]]
    return runs[-1]["status"] if runs else ""


def figures(seconds: list[float]) -> dict[str, float]:
    p95 = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    return {"n": len(seconds), "p50_ms": round(1000 * median(seconds)), "p95_ms": round(1000 * p95)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotators", type=int, default=8)
    parser.add_argument("--think", type=float, default=2.0, help="seconds between a page and its submission")
    options = parser.parse_args()
    with Installation() as place:
        print(json.dumps(vars(options) | measure(place, options.annotators, options.think)))


if __name__ == "__main__":
    main()
