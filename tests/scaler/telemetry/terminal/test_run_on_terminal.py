"""`forescale run` on a real pseudo-terminal: the live view, its end, and terminals without one."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.scaler.test_daemon import configuration, forescale
from tests.servers.daemon import until
from tests.servers.terminal import COLOR, CURSOR, Terminal, forescale_on_terminal

pytestmark = pytest.mark.slow

RUNNING = re.compile(r"dashboard at (http://127\.0\.0\.1:\d+/)")


async def address_of(terminal: Terminal) -> str:
    await until(lambda: RUNNING.search(terminal.output) is not None)
    match = RUNNING.search(terminal.output)
    assert match
    return match[1]


async def test_address_remains_on_the_screen_and_the_terminal_is_restored(tmp_path: Path) -> None:
    config = str(configuration(tmp_path))
    async with forescale_on_terminal("run", config, cwd=tmp_path, rows=12) as terminal:
        address = await address_of(terminal)
        await until(lambda: terminal.shows("llm"))
        await asyncio.sleep(5)  # the log lines of 20 ticks would fill the screen
        assert address in terminal.screen.text().splitlines()[0]
        assert terminal.screen.is_alternate
        assert not terminal.screen.has_cursor
        assert "late_s" not in terminal.output  # a field of a tick's log line
        terminal.resize(60, 12)
        await until(lambda: terminal.shows("Forescale") and terminal.shows("ready"))
        assert max(map(len, terminal.screen.text().splitlines())) <= 60
        assert address in terminal.screen.text()
        terminal.press(b"\x1a")
        await until(lambda: terminal.screen.has_cursor and not terminal.screen.is_alternate)
        terminal.process.send_signal(signal.SIGCONT)
        await until(lambda: terminal.screen.is_alternate and terminal.shows(address))
        terminal.press(b"\x03")
        assert await terminal.ended() == 0
        await until(lambda: "interrupted" in terminal.output)
        assert terminal.screen.has_cursor
        assert not terminal.screen.is_alternate


async def test_warnings_show_in_the_view_and_are_printed_after_it(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    async with forescale_on_terminal("run", str(config), cwd=tmp_path) as terminal:
        await until(lambda: terminal.shows("llm"))
        (config / "llm.yaml").write_text("workload: llm\nmax_replicas: lots\n")
        await until(lambda: "error reload" in terminal.screen.text())
        terminal.press(b"\x03")
        assert await terminal.ended() == 0
        await until(lambda: "interrupted" in terminal.output)
        after = terminal.output.rpartition("\x1b[?1049l")[2]
        assert "max_replicas" in after
        assert "reload" in after.partition("interrupted")[0]


@pytest.mark.parametrize(
    ("env", "args", "has_cursor_control", "has_colors"),
    [
        ({}, [], True, True),
        ({"NO_COLOR": "1"}, [], True, False),
        ({"NO_COLOR": "1"}, ["--log", "console"], False, False),
        ({"TERM": "dumb"}, [], False, False),
        ({"CI": "true"}, [], False, True),
        ({}, ["--log", "console"], False, True),
        ({}, ["--log", "json"], False, False),
    ],
    ids=["live", "no color", "no color console", "dumb", "ci", "console", "json"],
)
async def test_terminal_settings_decide_cursor_control_and_colors(
    tmp_path: Path, env: dict[str, str], args: list[str], has_cursor_control: bool, has_colors: bool
) -> None:
    config = str(configuration(tmp_path))
    async with forescale_on_terminal("run", config, "--for", "2", *args, cwd=tmp_path, env=env) as terminal:
        assert await terminal.ended() == 0
        await until(lambda: "interrupted" in terminal.output)
        assert bool(CURSOR.search(terminal.output)) == has_cursor_control
        assert bool(COLOR.search(terminal.output)) == has_colors
        assert ("late_s" in terminal.output) == (not has_cursor_control)  # a field of a tick's log line


def test_output_into_pipes_is_json_without_control_codes(tmp_path: Path) -> None:
    result = forescale("run", str(configuration(tmp_path)), "--for", "2", cwd=tmp_path)
    assert result.returncode == 0
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Forescale is running")]
    assert {json.loads(line)["event"] for line in lines} >= {"tick"}
    assert "\x1b" not in result.stdout + result.stderr


def test_live_view_without_a_terminal_is_refused(tmp_path: Path) -> None:
    result = forescale("run", str(configuration(tmp_path)), "--log", "live", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        "forescale: --log live: standard error is no terminal with cursor control. Use --log console or json\n"
    )


async def test_log_setting_of_the_daemon_applies_without_the_option(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    text = (config / "daemon.yaml").read_text()
    (config / "daemon.yaml").write_text(text + "  log: console\n")
    async with forescale_on_terminal("run", str(config), "--for", "2", cwd=tmp_path) as terminal:
        assert await terminal.ended() == 0
        assert not CURSOR.search(terminal.output)
        assert "late_s" in terminal.output
    result = await asyncio.to_thread(forescale, "run", str(config), "--for", "2", cwd=tmp_path)
    assert "workload=llm" in result.stderr
    result = await asyncio.to_thread(forescale, "run", str(config), "--for", "2", "--log", "json", cwd=tmp_path)
    assert '"workload": "llm"' in result.stderr


# --- addresses


def test_next_free_port_is_used_where_the_default_one_is_in_use(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    text = (config / "daemon.yaml").read_text()
    (config / "daemon.yaml").write_text(text.replace("listen: 127.0.0.1:0", "history_s: 3600"))
    with socket.socket() as occupied:
        occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            occupied.bind(("127.0.0.1", 8080))
            occupied.listen()
        except OSError:
            pass  # another process has it already
        result = forescale("run", str(config), "--for", "1", cwd=tmp_path)
        explicit = forescale("run", str(config), "--for", "1", "--listen", "127.0.0.1:8080", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    address = RUNNING.search(result.stderr)
    assert address
    port = int(address[1].rstrip("/").rpartition(":")[2])
    assert 8080 < port <= 8100
    assert f"listening on port {port} instead" in result.stderr
    assert explicit.returncode == 2
    assert "--listen: cannot listen on 127.0.0.1:8080" in explicit.stderr


# --- times


def test_printed_time_of_a_tick_finds_it(tmp_path: Path) -> None:
    result = forescale("run", str(configuration(tmp_path)), "--for", "3", cwd=tmp_path)
    ticks = [json.loads(line) for line in result.stderr.splitlines() if '"event": "tick"' in line]
    for line in ticks[1:4]:
        for form in (line["time"], line["time"][11:], line["time"][11:23]):
            explained = forescale("explain", str(tmp_path / "journal"), "--at", form, "--json", cwd=tmp_path)
            (record,) = json.loads(explained.stdout)
            assert round(record["took_s"], 3) == line["took_s"]
            assert round(record["decision"]["demand"], 3) == line["demand"]
