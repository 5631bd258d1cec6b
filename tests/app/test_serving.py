"""The app as its users meet it: the API, and many clients at once."""

import json
import re
import shutil
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the app's tests need gradio: pip install 'metaprompts[app]'")

import gradio_client
import httpx

from metaprompts.app import page

DOC = Path(__file__).resolve().parents[2] / "docs/app.md"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def client(address):
    return gradio_client.Client(address, verbose=False)


@pytest.mark.parametrize("task", ["depth", "segmentation", "pose"])
def test_the_api_gives_the_files_of_predict(client, photo, predicted, task):
    files, facts = client.predict(gradio_client.handle_file(str(photo)), api_name=f"/{task}")
    assert {Path(path).name: Path(path).read_bytes() for path in files} == predicted[task]
    assert (facts["height"], facts["width"]) == (96, 144)
    if task == "segmentation":
        assert sum(each["share"] for each in facts["classes"]) == pytest.approx(1)
    if task == "pose":
        stored = json.loads(predicted["pose"]["poses.json"])["annotations"]
        assert [person["score"] for person in facts["people"]] == [person["score"] for person in stored] != []


def test_the_documented_call(address, photo, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    shutil.copy(photo, photo.with_name("photo.png"))
    monkeypatch.chdir(photo.parent)
    exec(compile(block.replace("http://127.0.0.1:7860", address), str(DOC), "exec"), {})
    assert re.search(r"image_depth\.png.*image_depth_color\.png", capsys.readouterr().out)


def test_files_of_the_server_and_addresses_are_not_read(client, address, tmp_path):
    """A client could name any file of the server, or make it fetch an address, in the place of an upload."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (32, 32)).save(secret)
    for path in (str(secret), f"{address}/favicon.ico", "/etc/passwd"):
        outcome = ask(address, function_number(address, "depth"), path)
        assert outcome.startswith("error"), outcome
        assert "image_depth" not in outcome


def test_bad_uploads_are_one_line(client, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    Image.new("RGB", (1025, 8)).save(tmp_path / "large.png")
    for name, line in (("text", "The uploaded file is not an image"), ("large", "got 1025 x 8")):
        with pytest.raises(gradio_client.exceptions.AppError, match=line) as caught:
            client.predict(gradio_client.handle_file(str(tmp_path / f"{name}.png")), api_name="/depth")
        assert "Traceback" not in str(caught.value)


def test_too_large_uploads_are_rejected(address):
    """The limit holds for clients that do not ask for it, too."""
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": ("a.png", bytes(1_000_001))}, timeout=600)
    assert answer.status_code == 413


def test_every_answer_forbids_other_hosts(address):
    for path in ("/", "/config", "/theme.css"):
        answer = httpx.get(address + path, timeout=600)
        assert answer.headers["content-security-policy"].startswith("default-src 'self' data: blob:;")
        others = set(re.findall(r"(?:src|href)=[\"'](https?://[^\"']+)", answer.text))
        assert not {other for other in others if not other.startswith(address)}


def test_gradio_writes_no_stub_files():
    """Gradio writes a file next to every module that defines a component, which a read-only installation forbids."""
    assert not list(Path(page.__file__).parent.glob("*.pyi"))


@pytest.mark.slow
def test_twelve_clients_at_once(address, photo):
    check_clients(address, photo, 12)


@pytest.mark.full
def test_hundred_clients_at_once(address, photo):
    """Each gets its prediction or a message, and memory stays bounded."""
    before = held_bytes()
    check_clients(address, photo, 100)
    assert held_bytes() - before < 500e6


def check_clients(address, photo, count):
    path = upload(address, photo)
    number = function_number(address, "depth")
    with ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(lambda _: ask(address, number, path), range(count)))
    full = [outcome for outcome in outcomes if "Queue is full" in outcome]
    assert len(full) + sum("image_depth.png" in outcome for outcome in outcomes) == count, outcomes


def held_bytes():
    """Of this process, which serves, and its children, which run the models."""
    own = threading.get_native_id()
    pids = ["self", *Path(f"/proc/self/task/{own}/children").read_text().split()]
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(1024 * int(found[1]) for text in texts if (found := re.search(r"VmRSS:\s+(\d+)", text)))


def upload(address, path):
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}, timeout=600)
    return answer.json()[0]


def function_number(address, api_name):
    functions = httpx.get(f"{address}/config", timeout=600).json()["dependencies"]
    return next(each["id"] for each in functions if each["api_name"] == api_name)


def ask(address, number, path):
    """Predict as the page does; gives the files or the error as text."""
    session = urllib.parse.quote(f"test-{threading.get_ident()}")
    with httpx.Client(base_url=f"{address}/gradio_api", timeout=PATIENCE_S) as http:
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
        joined = http.post("/queue/join", json={"data": data, "fn_index": number, "session_hash": session})
        if joined.status_code != 200:
            return f"error: {joined.text}"
        with http.stream("GET", f"/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    return json.dumps(message["output"]) if message["success"] else f"error: {message['output']}"
    return "error: no answer"
