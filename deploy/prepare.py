"""Bring database and static files up to this version. With --demo, an empty database gets the demo project.

Over plain http, on one's own machine, the one-time links by which the demo's people sign in are then printed, one
`role<TAB>address` a line. Behind https they are not: anybody who reads the service's log could come in as a site admin.
"""

import argparse
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent
# Fixed by `manage.py create_demo_project`. People of other projects get no link here: theirs are personal.
DEMO_PEOPLE = {
    "site admin": "admin@roundtable.example",
    "reviewer": "reviewer@roundtable.example",
    "annotator": "annotator@roundtable.example",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--demo", action="store_true")
    options = arguments.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    # Beside the migrations, since somebody waits for the first page.
    collect = [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity", "0"]
    static_files = subprocess.Popen(collect, cwd=ROOT)
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    call_command("createcachetable", verbosity=0)
    if options.demo:
        offer_demo()
        if not settings.IS_HTTPS:
            print_links()
    sys.exit(static_files.wait())


def offer_demo() -> None:
    from annotate.models import Project

    if not Project.objects.exists():
        try:
            call_command("create_demo_project", verbosity=0, stdout=StringIO())
        except Exception as error:  # whatever it is, it is no reason not to start
            print(f"The demo project could not be created: {error}", file=sys.stderr)


def print_links() -> None:
    from annotate.models import User

    for role, email in DEMO_PEOPLE.items():
        if User.objects.filter(email=email, is_active=True).exists():
            link = StringIO()
            call_command("sign_in_link", email, stdout=link)
            print(f"{role}\t{link.getvalue().strip()}")


if __name__ == "__main__":
    main()
