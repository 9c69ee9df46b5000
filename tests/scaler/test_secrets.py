"""Plants secrets in every valid and invalid place, and searches all output for them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from scaler.cli import main
from scaler.config.daemon import JournalSpec as Settings
from scaler.journal.writer import JournalWriter
from scaler.masking import HIDDEN, mask
from tests.patience import PATIENCE_S
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.site import listening

ROOT = Path(__file__).parents[2]
NUMBERS = itertools.count(1)
WORKLOAD = """\
workload: chat
max_replicas: 8
sources:
  engines: SOURCE
policies:
  depth: {kind: queue_depth}
pools:
  gpus: POOL
"""
EMBEDDED = "{kind: embedded}"
PROM = "{kind: prometheus, url: 'http://prom:9090', preset: vllm, MORE}"
SCRAPE = "{kind: scrape, preset: vllm, MORE}"
BUS = "{kind: service_bus, namespace: jobs, queue: q, MORE}"
SQS = "{kind: sqs, queue_url: 'https://sqs.us-east-1.amazonaws.com/123456789012/q', MORE}"
WRONG_SOURCES = {
    "userinfo of a URL": "{kind: prometheus, url: 'http://user:SECRET@prom:9090', preset: vllm}",
    "userinfo with a slash": "{kind: prometheus, url: 'http://user:SECRET/x@prom:9090', preset: vllm}",
    "userinfo without a scheme": "{kind: prometheus, url: 'user:SECRET@prom:9090', preset: vllm}",
    "a URL's query": "{kind: prometheus, url: 'http://prom:9090?token=SECRET', preset: vllm}",
    "the URL itself": "{kind: prometheus, url: 'SECRET', preset: vllm}",
    "a list of URLs": SCRAPE.replace("MORE", "urls: ['ftp://user:SECRET@vllm:8000/metrics']"),
    "a service": SCRAPE.replace("MORE", "service: 'http://user:SECRET@vllm:8000/metrics'"),
    "a queue's URL": "{kind: sqs, queue_url: 'https://u:SECRET@sqs.us-east-1.amazonaws.com/123456789012/q'}",
    "an endpoint": SQS.replace("MORE", "account: {endpoint_url: 'https://u:SECRET@localhost:1'}"),
    "a token as text": PROM.replace("MORE", "access: {bearer_token: 'SECRET'}"),
    "a token as a number": PROM.replace("MORE", "access: {bearer_token: 73829105}"),
    "a token under value": PROM.replace("MORE", "access: {bearer_token: {value: 'SECRET'}}"),
    "a token as a variable's name": PROM.replace("MORE", "access: {bearer_token: {env: 'SECRET'}}"),
    "a token as a file's name": PROM.replace("MORE", "access: {bearer_token: {file: 'SECRET'}}"),
    "a token as a key": PROM.replace("MORE", "access: {bearer_token: {'SECRET': }}"),
    "a token without a space": PROM.replace("MORE", "access: {bearer_token: {env:SECRET}}"),
    "a list of tokens": PROM.replace("MORE", "access: {bearer_token: ['SECRET']}"),
    "a token and a file": PROM.replace("MORE", "access: {bearer_token: {env: 'SECRET', file: '/SECRET'}}"),
    "a password": PROM.replace("MORE", "access: {username: u, password: 'SECRET'}"),
    "a misspelled password": PROM.replace("MORE", "access: {username: u, pasword: 'SECRET'}"),
    "a password one level up": PROM.replace("MORE", "password: 'SECRET'"),
    "a password under a mapping of its own": PROM.replace("MORE", "access: {basic: {user: u, pass: 'SECRET'}}"),
    "access as text": PROM.replace("MORE", "access: 'SECRET'"),
    "access as a list": PROM.replace("MORE", "access: ['SECRET', 1]"),
    "an Authorization header": PROM.replace("MORE", "access: {headers: {Authorization: 'Bearer SECRET'}}"),
    "an X-Api-Key header": PROM.replace("MORE", "access: {headers: {X-Api-Key: 'SECRET'}}"),
    "a Proxy-Authorization header": PROM.replace("MORE", "access: {headers: {Proxy-Authorization: 'Basic SECRET'}}"),
    "a Cookie header": PROM.replace("MORE", "access: {headers: {Cookie: 'session=SECRET'}}"),
    "a header of two lines": PROM.replace("MORE", 'access: {headers: {X-Route: "a\\nSECRET"}}'),
    "a header as a number": PROM.replace("MORE", "access: {headers: {X-Auth: [SECRET]}}"),
    "a secret header as text": PROM.replace("MORE", "access: {secret_headers: {X-Api-Key: 'SECRET'}}"),
    "headers as text": PROM.replace("MORE", "access: {headers: 'X-Api-Key: SECRET'}"),
    "a connection string": BUS.replace(
        "MORE",
        "connection_string: 'Endpoint=sb://jobs.servicebus.windows.net/;SharedAccessKeyName=root;SharedAccessKey=SECRET='",
    ),
    "a misspelled connection string": BUS.replace("MORE", "conection_string: 'SharedAccessKey=SECRET='"),
    "a client's secret": BUS.replace("MORE", "account: {client_secret: 'SECRET'}"),
    "an identity that is none": BUS.replace("MORE", "account: {client_id: 'SECRET'}"),
    "a secret access key": SQS.replace("MORE", "account: {secret_access_key: 'SECRET'}"),
    "an account as text": SQS.replace("MORE", "account: 'AKIAIOSFODNN7EXAMPLE/SECRET'"),
    "a reference in text": PROM.replace("MORE", "access: {username: 'a${X}SECRET', password: 'b${X}SECRET'}"),
    "a quantity's place": PROM.replace("MORE", "window_s: 'SECRET'"),
    "a source's kind": "{kind: 'SECRET'}",
    "a source as text": "'SECRET'",
    "an alias": PROM.replace("MORE", "access: {password: *SECRET}"),
    "a tag": PROM.replace("MORE", "access: {password: !SECRET x}"),
    "a quote not closed": PROM.replace("MORE", "access: {password: 'SECRET}"),
    "a sign that YAML reserves": PROM.replace("MORE", "access: {password: @SECRET}"),
    "a tab": PROM.replace("MORE", "access: {password:\tSECRET: SECRET: x}"),
}
WRONG_POOLS = {
    "an events address": "{kind: vmss, name: v, resource_group: g, events_url: 'http://u:SECRET@h/x'}",
    "a resource manager": "{kind: vmss, name: v, resource_group: g, account: {arm_url: 'https://u:SECRET@h'}}",
    "a metadata address": "{kind: asg, name: a, notices: {metadata_url: 'http://u:SECRET@h'}}",
    "a kubeconfig pasted": "{kind: kubernetes, name: d, cluster: {token: 'SECRET'}}",
    "a sleeping engine": "{kind: vllm_sleep, urls: ['http://u:SECRET@h:1']}",
}


def secret() -> str:
    """Return a typical secret that occurs in no other text."""
    return f"hunter{next(NUMBERS)}Zq7x"


def workload(source: str, pool: str, planted: str) -> str:
    return WORKLOAD.replace("SOURCE", source).replace("POOL", pool).replace("SECRET", planted)


def captured_text(captured: pytest.CaptureFixture[str]) -> str:
    return "".join(captured.readouterr())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "pool"),
    [
        *(pytest.param(s, EMBEDDED, id=name) for name, s in WRONG_SOURCES.items()),
        *(pytest.param(EMBEDDED, p, id=name) for name, p in WRONG_POOLS.items()),
    ],
)
def test_configuration_errors_contain_no_secret(
    source: str, pool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = secret()
    file = tmp_path / "chat.yaml"
    file.write_text(workload(source, pool, planted))
    for arguments in (["check", str(file)], ["check", "--json", str(file)], ["run", "--once", str(file)]):
        assert main(arguments) == 2
        out = captured_text(capsys)
        assert "chat.yaml" in out
        assert planted not in out
        assert "73829105" not in out


@pytest.mark.parametrize(
    "planted",
    [
        "connect to http://user:SECRET@prom:9090/x failed",
        "connect to http://user:a/bSECRET@prom:9090/x failed",
        "GET http://prom/metrics?a=1&api_key=SECRET&b=2",
        "Endpoint=sb://x/;SharedAccessKey=SECRET=;EntityPath=q",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=SECRET==",
        "headers: {'Authorization': 'Bearer SECRET', 'Accept': 'x'}",
        'body: {"client_secret": "SECRET", "grant": 1}',
        'body: {\\"password\\": \\"SECRET\\"}',
        "Cookie: a=1; session=SECRET",
        "X-Api-Key: SECRET",
        "Proxy-Authorization: Basic SECRET",
        "aws_secret_access_key=SECRET",
        "environment: a=password=SECRET",
        "it said {'a': {'b': [{'token': 'SECRET'}]}}",
        "password: SECRET",
        "the key AKIAIOSFODNNSECRET",
        "-----BEGIN RSA PRIVATE KEY-----\nSECRET\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_mask_removes_secrets_from_messages(planted: str) -> None:
    word = "HUNTER2ZQ7X" if "AKIA" in planted else secret()
    masked = mask(planted.replace("SECRET", word))
    assert word not in masked
    assert HIDDEN in masked
    assert mask(masked) == masked


@pytest.mark.parametrize(
    "harmless",
    [
        "sources.engines.access.bearer_token: must be a mapping",
        "Prometheus at http://prom:9090/a@b: HTTP 401: Bearer token was refused",
        "prompt_tokens: 12, max_tokens=5; generation_tokens_per_s 3e4",
        "no series of vllm:prompt_tokens_total with {'model_name': 'llama'}",
        "the token was rejected; the next call requests a new one",
    ],
)
def test_mask_keeps_messages_without_secrets(harmless: str) -> None:
    assert mask(harmless) == harmless


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """A server whose errors repeat the request, as proxies and debug modes do."""

    async def echo(request: web.Request) -> web.Response:
        body = json.dumps({"headers": dict(request.headers), "url": str(request.url), "body": await request.text()})
        credentials = [v.split(" ")[-1] for v in request.headers.values()]
        return web.Response(status=401, text=f"not {credentials[-1]} {credentials} {body}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    async with listening(app) as port:
        yield port


def planted_workload(port: int, planted: Mapping[str, str], folder: Path) -> str:
    (folder / "token").write_text(planted["token in a file"])
    page = f"http://127.0.0.1:{port}/metrics?token={planted['query of a page']}"
    prom = {"kind": "prometheus", "url": f"http://127.0.0.1:{port}", "preset": "vllm"}
    routed = {"headers": {"X-Route": planted["unknown header"]}, "secret_headers": {"X-Api-Key": {"env": "API_KEY"}}}
    basic = {"username": "u", "password": {"env": "PASSWORD"}}
    sources = {
        "queue": {"kind": "embedded"},
        "page": {"kind": "scrape", "preset": "vllm", "urls": [page]},
        "token": {**prom, "access": {"bearer_token": {"file": str(folder / "token")}}},
        "keyed": {**prom, "access": routed},
        "basic": {**prom, "access": basic},
        "spoiled": {**prom, "access": {"bearer_token": {"env": "SPOILED"}}},
    }
    policies = {"depth": {"kind": "queue_depth", "source": "queue"}}
    pools = {"gpus": {"kind": "embedded"}}
    return yaml.safe_dump(
        {"workload": "chat", "interval_s": 1, "deadline_s": 0.9, "max_replicas": 8, "sources": sources,
         "policies": policies, "pools": pools}
    )  # fmt: skip


@pytest.mark.slow
def test_daemon_and_command_output_contains_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("token in a file", "query of a page", "unknown header", "API key", "password", "spoiled", "reload")
    planted = {name: secret() for name in names}
    monkeypatch.setenv("API_KEY", planted["API key"])
    monkeypatch.setenv("PASSWORD", planted["password"])
    monkeypatch.setenv("SPOILED", os.fsdecode(planted["spoiled"].encode() + b"\xff\xfe"))
    outputs = asyncio.run(daemon_outputs(tmp_path, planted))
    outputs |= {path.name: path.read_text() for path in (tmp_path / "journal").glob("*.jsonl")}
    outputs |= dict(command_outputs(tmp_path, capsys))
    assert "401" in outputs["log"], "the servers' errors are logged"
    assert "is not UTF-8" in outputs["log"]
    assert '"stalled": {}' in outputs["/healthz"], "no loop ended"
    assert "Traceback" not in "".join(outputs.values())
    every = [*planted.values(), base64.b64encode(f"u:{planted['password']}".encode()).decode().rstrip("=")]
    leaks = {(where, word) for where, text in outputs.items() for word in every if word in text}
    assert not leaks


async def daemon_outputs(folder: Path, planted: Mapping[str, str]) -> dict[str, str]:
    """Return a daemon's whole output while servers repeat its secrets and its configuration is invalid."""
    config = folder / "config"
    config.mkdir()
    settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}, "config_poll_s": 0.1}
    (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
    async with echo_server() as port:
        (config / "chat.yaml").write_text(planted_workload(port, planted, folder))
        async with daemon(str(config), journal=folder / "journal") as d:
            await until(lambda: len(d.ticks()) >= 4, d)
            wrong = workload(WRONG_SOURCES["a token as text"], EMBEDDED, planted["reload"])
            (config / "chat.yaml").write_text(wrong)
            await until(lambda: any(e["event"] == "reload" and "error" in e for e in d.events()), d)
            outputs = await responses(d)
            (config / "chat.yaml").write_text(planted_workload(port, planted, folder))
            assert await d.stop() == 0
            assert d.process.stdout is not None
            return {**outputs, "log": "\n".join(d.lines), "stdout": (await d.process.stdout.read()).decode()}


async def responses(d: Daemon) -> dict[str, str]:
    """Return the responses of all the daemon's paths."""
    paths = ("", "metrics", "healthz", "readyz", "api/workloads", "api/workloads/chat", "api/fleet")
    return {f"/{path}": (await d.get(path))[1] for path in paths}


def command_outputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str]]:
    """Yield the output of the verbs on the configuration and its journal."""
    config, journal, page = str(folder / "config"), str(folder / "journal"), folder / "report.html"
    for arguments in (
        ("check", config), ("check", "--live", config), ("check", "--live", "--json", config), ("doctor", config),
        ("doctor", "--json", config), ("explain", journal), ("explain", "--json", journal), ("replay", journal),
        ("replay", "--json", journal), ("report", journal, "--record-only", "--html", str(page)),
        ("schema",), ("schema", "--example"),
    ):  # fmt: skip
        code = main(list(arguments))
        out = captured_text(capsys)
        assert code in {0, 1}, f"{arguments}: {out}"
        yield " ".join(arguments), out
    yield page.name, page.read_text()


MANIFEST = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat, annotations: {token: 'SECRET0;'}}
spec:
  scaleTargetRef: {name: chat}
  maxReplicaCount: 5
  pasword: 'SECRET1;'
  triggers:
  - type: prometheus
    metadata:
      serverAddress: 'http://u:SECRET2;@prom:9090'
      query: 'up{k="v"}'
      threshold: 'SECRET3;'
      customHeaders: 'X-Api-Key=SECRET4;'
  - type: aws-sqs-queue
    metadata:
      queueURL: 'https://u:SECRET5;@sqs.us-east-1.amazonaws.com/123456789012/q'
      awsSecretAccessKey: 'SECRET6;'
"""


def test_import_output_contains_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = [secret() for _ in range(7)]
    manifest = MANIFEST
    for i, word in enumerate(planted):
        manifest = manifest.replace(f"SECRET{i};", word)
    (tmp_path / "object.yaml").write_text(manifest)
    for arguments in ([], ["--json"], ["--native"]):
        main(["import", str(tmp_path / "object.yaml"), *arguments])
        out = captured_text(capsys)
        assert "object.yaml" in out
        assert not [word for word in planted if word in out]


def test_traceback_contains_no_secret() -> None:
    planted = secret()
    script = (
        "import sys; from scaler.cli import hide_secrets; hide_secrets();"
        "raise RuntimeError('http://u:' + sys.argv[1] + '@prom')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, planted],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=PATIENCE_S,
    )
    assert "RuntimeError" in result.stderr
    assert planted not in result.stderr


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_journal_is_private_to_its_user(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "journal"
    JournalWriter(Settings(directory=str(folder)), 0.0, "1").close()
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_existing_journal_becomes_private_to_its_user(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o755)
    for name in (".lock", "00000001.jsonl"):
        (folder / name).touch(mode=0o644)
    JournalWriter(Settings(directory=str(folder)), 0.0, "1").close()
    assert mode(folder) == 0o700
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_shared_journal_folder_keeps_its_mode(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "notes.txt").touch(mode=0o644)
    JournalWriter(Settings(directory=str(folder)), 0.0, "1").close()
    assert mode(folder) == 0o755
    assert mode(folder / "notes.txt") == 0o644
    assert mode(folder / "00000001.jsonl") == 0o600
