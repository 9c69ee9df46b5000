"""Delivery through Apprise's client to real servers: payloads, secrets, retries, slow destinations."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from policies.model import WorkloadName
from scaler import cli
from scaler.commands import notify
from scaler.config.secret import Secret
from scaler.masking import HIDDEN, mask
from scaler.ports import Misconfigured
from scaler.telemetry.notices import client
from scaler.telemetry.notices.conditions import Finding, NoticeTopic
from scaler.telemetry.notices.delivery import MAX_QUEUED, Destination
from scaler.telemetry.notices.message import Message
from scaler.telemetry.notices.tracker import Notice, Occasion
from tests.factories import NOW
from tests.scaler.test_supervision import wait_until
from tests.servers.certificate import self_signed
from tests.servers.in_thread import run_in_thread
from tests.servers.notice_services import mail_server, webhook
from tests.servers.tcp_fault import free_port

pytestmark = pytest.mark.slow  # Apprise takes seconds to import
MESSAGE = Message("Forescale: chat SLO", "SLO violated, since 08:00Z.\nburn rate 20", "failure")
TOKEN = "b1946ac92492d2347c6235b4d2611184"


def notice(workload: str = "chat") -> Notice:
    finding = Finding("SLO violated", "burn rate 20", "Hold back changes.", is_grave=True)
    return Notice(NoticeTopic(WorkloadName(workload), "slo", "SLO"), Occasion.START, finding, NOW, NOW)


def destination(monkeypatch: pytest.MonkeyPatch, url: str, problems: list[str] | None = None) -> Destination:
    monkeypatch.setenv("NOTICE_URL", url)
    report = problems.append if problems is not None else lambda _problem: None
    return Destination("oncall", Secret(env="NOTICE_URL"), None, report, client.send)


async def test_webhook_receives_title_text_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with webhook() as service:
        oncall = destination(monkeypatch, f"json://127.0.0.1:{service.port}/hook")
        assert await oncall.try_once(MESSAGE) == ""
    (body,) = service.bodies
    assert (body["title"], body["message"], body["type"]) == (MESSAGE.title, MESSAGE.body, "failure")


async def test_chat_like_slack_receives_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    async with webhook() as service:
        assert await destination(monkeypatch, f"mmost://127.0.0.1:{service.port}/{TOKEN}").try_once(MESSAGE) == ""
    assert MESSAGE.body in service.bodies[0]["text"]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
async def test_teams_receives_a_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)
    async with webhook(context) as service:
        url = f"workflows://127.0.0.1:{service.port}/workflow/{TOKEN}/?verify=no"
        assert await destination(monkeypatch, url).try_once(MESSAGE) == ""
    assert "SLO violated" in json.dumps(service.bodies[0]["attachments"])


async def test_mail_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mail_server() as (mailbox, port):
        url = f"mailto://127.0.0.1:{port}?from=forescale@example.com&to=oncall@example.com&format=text"
        assert await destination(monkeypatch, url).try_once(MESSAGE) == ""
    ((recipients, subject, text),) = mailbox.mails
    assert (recipients, subject) == (["oncall@example.com"], MESSAGE.title)
    assert text.replace("\r\n", "\n").strip() == MESSAGE.body


async def test_failure_is_named_without_the_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with webhook() as service:
        service.status = 500
        url = f"mmost://127.0.0.1:{service.port}/{TOKEN}"
        reason = await destination(monkeypatch, url).try_once(MESSAGE)
    assert "500" in reason
    assert TOKEN not in reason
    assert mask(f"see {TOKEN}") == f"see {HIDDEN}"
    assert TOKEN not in caplog.text


async def test_closed_port_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await destination(monkeypatch, f"json://127.0.0.1:{free_port()}").try_once(MESSAGE) != ""


@pytest.mark.parametrize("url", ["gopher://x/y", "json://[::", "not a url", "slack://"])
def test_url_of_no_service_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(Misconfigured) as error:
        client.check(url)
    assert "appriseit.com" in str(error.value)


async def test_notice_is_sent_again_until_it_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    async with webhook() as service:
        service.status = 503
        oncall = destination(monkeypatch, f"json://127.0.0.1:{service.port}", problems)
        oncall.offer(notice())
        running = asyncio.create_task(oncall.run())
        await wait_until(lambda: oncall.counts["failed"] == 1)
        service.status = 200
        await wait_until(lambda: oncall.counts["sent"] == 1, 6000)
        running.cancel()
    assert len(service.bodies) == 1
    assert oncall.counts == {"sent": 1, "failed": 1, "dropped": 0}
    assert "503" in problems[0]
    assert problems[-1] == ""


async def test_flood_is_one_message_and_the_queue_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with webhook() as service:
        oncall = destination(monkeypatch, f"json://127.0.0.1:{service.port}")
        for i in range(MAX_QUEUED + 50):
            oncall.offer(notice(f"chat-{i}"))
        assert oncall.counts["dropped"] == 50
        running = asyncio.create_task(oncall.run())
        await oncall.drained(60)
        running.cancel()
    assert [body["title"] for body in service.bodies] == [f"Forescale: {MAX_QUEUED} notices"]
    assert oncall.counts == {"sent": MAX_QUEUED, "failed": 0, "dropped": 50}


async def test_hanging_destination_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async with webhook() as service:
        service.hang = True
        oncall = destination(monkeypatch, f"json://127.0.0.1:{service.port}")
        oncall.offer(notice())
        running = asyncio.create_task(oncall.run())
        await wait_until(service.arrived.is_set)
        oncall.offer(notice())  # returns at once
        assert await oncall.try_once(MESSAGE) == "the attempt before this one has not ended"
        running.cancel()
    assert service.bodies == []


def test_command_sends_a_test_notice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_in_thread(mail_server()) as (mailbox, port):
        monkeypatch.setenv("MAIL_URL", f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com&format=text")
        monkeypatch.setenv("DEAD_URL", f"json://127.0.0.1:{free_port()}/{TOKEN}")
        file = tmp_path / "config.yaml"
        file.write_text(CONFIG)
        parser = cli.parser("notify")
        assert notify.command(parser.parse_args(["notify", str(file), "--to", "mail"])) == 0
        assert capsys.readouterr().out == "ok   mail: sent\n"
        assert notify.command(parser.parse_args(["notify", str(file), "--json"])) == 1
    mail, dead = json.loads(capsys.readouterr().out)
    assert mail == {"destination": "mail", "sent": True, "error": ""}
    assert dead["error"]
    assert TOKEN not in dead["error"]
    assert [subject for _, subject, _ in mailbox.mails] == ["Forescale: test"] * 2
    with pytest.raises(Misconfigured, match=r"'mial' is not a destination"):
        notify.command(parser.parse_args(["notify", str(file), "--to", "mial"]))


CONFIG = """\
daemon:
  notices:
    destinations:
      mail: {url: {env: MAIL_URL}}
      dead: {url: {env: DEAD_URL}, events: [slo]}
---
workload: chat
max_replicas: 2
policies: {size: {kind: static, replicas: 1}}
pools: {gpus: {kind: kubernetes, name: vllm, namespace: llm}}
"""
