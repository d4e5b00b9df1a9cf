"""Measures how fast exports are, how much memory they need, and whether other requests are delayed meanwhile.

Uses its own installation, filled with rankings of four answers each. Each kind of file is written by the command,
downloaded from the web process, and downloaded again while another user writes to the database and requests a page
every few milliseconds. Prints one JSON line for each: seconds, CPU seconds, lines, bytes, the peak memory of the
process that made the file, and how long the other requests took. Loopback only.

    python benchmarks/export.py --rankings 100000
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple
from urllib.request import Request, urlopen
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from training.tiny.installation import ROOT, Installation

SLUG = "everyday-questions"
PER_SLATE, COMPLETIONS = 2, 4  # rankings of a slate, and answers in it
BATCH = 5_000  # rankings stored at once
PAUSE_S = 0.02  # between two things that others do
FILES = [("rankings", "jsonl"), ("rankings", "csv"), ("comparisons", "jsonl"), ("completions", "jsonl")]


def text(seed: object, words: int) -> str:
    """A text of that many words, always the same for one seed."""
    digest = hashlib.sha256(str(seed).encode()).hexdigest()
    return " ".join(digest[index % 60 : index % 60 + 4] for index in range(words))


def fill(rankings: int) -> None:
    """A project with that many rankings, stored directly: only what an export reads matters."""
    from annotate.models import Member, Project, Role, User

    project = Project.objects.create(name="Everyday questions", slug=SLUG)
    people = [User.objects.create_user(f"person{number}@example.org") for number in range(PER_SLATE)]
    members = [Member.objects.create(project=project, user=person, role=Role.ADMIN) for person in people]
    numbers = iter(range(rankings // PER_SLATE))
    while batch := list(islice(numbers, BATCH // PER_SLATE)):
        fill_batch(project, members, batch)


def fill_batch(project: Any, members: list[Any], numbers: list[int]) -> None:
    from annotate import models as m

    prompts = m.Prompt.objects.bulk_create(
        m.Prompt(
            project=project,
            messages=[{"role": "user", "content": text(number, 20)}],
            text_hash=f"{number:064}",
            folded_hash=f"{number:064}",
            group=str(number),
            split="train" if number % 10 else "heldout",
            metadata={"source": "benchmark"},
        )
        for number in numbers
    )
    slates = m.Slate.objects.bulk_create(m.Slate(project=project, prompt=prompt) for prompt in prompts)
    items = m.WorkItem.objects.bulk_create(
        m.WorkItem(project=project, kind="ranking", slate=slate, seats=PER_SLATE, position=slate.pk, status="open")
        for slate in slates
    )
    answers = m.Completion.objects.bulk_create(
        m.Completion(slate=slate, text=text((slate.pk, index), 60)) for slate in slates for index in range(COMPLETIONS)
    )
    by_slate = [answers[start : start + COMPLETIONS] for start in range(0, len(answers), COMPLETIONS)]
    rank_all(project, members, items, by_slate)


def rank_all(project: Any, members: list[Any], items: list[Any], by_slate: list[list[Any]]) -> None:
    """A ranking of each slate by each member, every one in another order."""
    from django.utils import timezone

    from annotate import models as m

    held = m.Assignment.objects.bulk_create(
        m.Assignment(
            item=item,
            annotator=member,
            project=project,
            kind="ranking",
            status="submitted",
            seat=seat,
            lease_until=timezone.now(),
            card_order=[answer.pk for answer in shown],
        )
        for item, shown in zip(items, by_slate, strict=True)
        for seat, member in enumerate(members)
    )
    judged = m.Ranking.objects.bulk_create(
        m.Ranking(
            project=project,
            annotator=assignment.annotator,
            assignment=assignment,
            submission_id=uuid4(),
            slate=assignment.item.slate,
        )
        for assignment in held
    )
    m.Placement.objects.bulk_create(
        m.Placement(ranking=ranking, completion_id=pk, place=(place + index) % COMPLETIONS + 1, rating=place + 1)
        for index, (ranking, assignment) in enumerate(zip(judged, held, strict=True))
        for place, pk in enumerate(assignment.card_order)
    )


@contextmanager
def others(url: str) -> Iterator[dict[str, list[float]]]:
    """Repeated writes to the database and page requests; how long each took, in seconds."""
    waited: dict[str, list[float]] = {"store": [], "page": []}
    over = threading.Event()

    def repeat(name: str, act: Callable[[], Any]) -> None:
        while not over.wait(PAUSE_S):
            began = time.perf_counter()
            act()
            waited[name].append(time.perf_counter() - began)

    def ask() -> None:
        with urlopen(f"{url}/account/login/", timeout=60) as page:
            page.read()

    threads = [threading.Thread(target=repeat, args=each) for each in (("store", store), ("page", ask))]
    for thread in threads:
        thread.start()
    try:
        yield waited
    finally:
        over.set()
        for thread in threads:
            thread.join()


def store() -> None:
    from annotate.models import Project

    Project.objects.filter(slug=SLUG).update(guidelines=str(time.time()))


def written(place: Installation, kind: str, form: str) -> dict[str, Any]:
    """By the command, into a file."""
    output = place.data_dir / "export"
    command = [sys.executable, "manage.py", "export", SLUG, kind, "--format", form, "--output", str(output)]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=place.environment, stderr=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if status:
        raise RuntimeError("the command failed")
    with output.open("rb") as file:
        lines = sum(1 for _ in file)
    return {
        "by": "command",
        "seconds": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "lines": lines,
        "bytes": output.stat().st_size,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def downloaded(place: Installation, token: str, kind: str, form: str) -> dict[str, Any]:
    """From the web process, by the API."""
    address = f"{place.url}/api/v1/projects/{SLUG}/export/{kind}/?format={form}"
    request = Request(address, headers={"Authorization": f"Bearer {token}"})
    began, computed, size, lines = time.perf_counter(), web_usage(place).cpu_s, 0, 0
    with urlopen(request, timeout=60) as answer:
        while block := answer.read(1 << 20):
            size, lines = size + len(block), lines + block.count(b"\n")
    seconds = time.perf_counter() - began
    used = web_usage(place)
    return {
        "by": "download",
        "seconds": seconds,
        "cpu_s": used.cpu_s - computed,
        "lines": lines,
        "bytes": size,
        "peak_mb": used.peak_mb,
    }


class Usage(NamedTuple):
    cpu_s: float
    peak_mb: float


def web_usage(place: Installation) -> Usage:
    """What the web server of `place` has computed so far, and the most memory that a process of it has held."""
    cpu_s, peak_mb = 0.0, 0.0
    for folder in Path("/proc").iterdir():
        with suppress(OSError, StopIteration):
            environment = (folder / "environ").read_bytes() if folder.name.isdigit() else b""
            if f"DATA_DIR={place.data_dir}".encode() in environment and b"granian" in (folder / "cmdline").read_bytes():
                status = (folder / "status").read_text().splitlines()
                peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
                times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
                cpu_s, peak_mb = cpu_s + sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), max(peak_mb, peak)
    return Usage(cpu_s, peak_mb)


def show(kind: str, form: str, result: dict[str, Any], waited: dict[str, list[float]]) -> None:
    for name, times in waited.items():
        result[f"{name}_ms_95"] = quantiles(times, n=20)[-1] * 1000
        result[f"{name}_ms_max"] = max(times) * 1000
    rounded = {name: round(value, 1) if isinstance(value, float) else value for name, value in result.items()}
    print(json.dumps({"kind": kind, "format": form, **rounded}), flush=True)


def until_it_answers(place: Installation) -> None:
    for _ in range(600):
        with suppress(OSError), urlopen(f"{place.url}/account/login/", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(place.log_tail())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rankings", type=int, default=100_000)
    arguments = parser.parse_args()
    with Installation() as place:
        place.prepare()
        os.environ |= place.environment | {"DJANGO_SETTINGS_MODULE": "config.settings"}
        import django

        django.setup()
        began = time.perf_counter()
        fill(arguments.rankings)
        filled_s = round(time.perf_counter() - began)
        token = place.manage("api_token", "person0@example.org", "--scopes", "read").strip()
        place.start()
        until_it_answers(place)
        machine = {"python": platform.python_version(), "django": django.__version__, "cores": os.cpu_count()}
        idle = {"filled_s": filled_s, "web_peak_mb": round(web_usage(place).peak_mb, 1)}
        print(json.dumps({**machine, "rankings": arguments.rankings, **idle}), flush=True)
        for kind, form in FILES:
            show(kind, form, written(place, kind, form), {})
            show(kind, form, downloaded(place, token, kind, form), {})
            with others(place.url) as waited:
                result = downloaded(place, token, kind, form)
            show(kind, form, result, waited)


if __name__ == "__main__":
    main()
