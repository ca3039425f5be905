"""One book through a running `make up`: in over REST, out as a recorded event. Standard library only."""

import json
import shlex
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

settings = dict(word.split("=", 1) for word in shlex.split(Path(".local/up.env").read_text()) if "=" in word)
form = urllib.parse.urlencode(
    {
        "grant_type": "password",
        "username": settings["DEMO_USERNAME"],
        "password": settings["DEMO_PASSWORD"],
    }
)
with urllib.request.urlopen(f"{settings['API_URL']}/v1/auth/token", form.encode()) as answer:
    token = json.load(answer)["access_token"]
request = urllib.request.Request(
    f"{settings['API_URL']}/v1/books",
    json.dumps({"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}).encode(),
    {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as answer:
    book = json.load(answer)
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    command = [sys.executable, "-m", "grpc_reader", "events", "--book", str(book["id"])]
    events = subprocess.run(command, env=settings, check=True, capture_output=True, text=True).stdout
    if events.strip():
        sys.stdout.write(events)
        sys.exit(0)
    time.sleep(0.1)
sys.exit("The book's event was not recorded within 10 seconds.")
