"""Asking the machine's Docker, above all whether services are healthy."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
import time
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import quote

from .failure import Failure, Json

DOCKER_SOCKET = "/var/run/docker.sock"
HEALTH_EVENTS = ["create", "start", "die", "oom", "destroy", "health_status", "restart", "pause", "unpause", "rename"]
MAX_KEPT = 16


class Look:
    """What was seen of services, and the stream of events that was opened before: while that is silent, it is so still.

    It is kept from one question to the next. So a machine that was restored from a snapshot says how its services are
    before its Docker has run at all, which takes a quarter of a second under emulation.
    """

    def __init__(self, connection: HTTPConnection, events: HTTPResponse, services: dict[str, Json]) -> None:
        self._connection, self._events = connection, events
        self._news = select.poll()
        self._news.register(events.fileno(), select.POLLIN)
        self.services = services

    def is_current(self) -> bool:
        """Whether Docker has said nothing since, and has not gone away."""
        return not self._news.poll(0)

    def close(self) -> None:
        self._events.close()
        self._connection.close()


_kept: dict[str, Look] = {}  # by the question


def connect_docker(request: Json, timeout_s: float) -> HTTPConnection:
    connection = http.client.HTTPConnection("docker", timeout=timeout_s)
    connection.auto_open = 0
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(request.get("socket") or DOCKER_SOCKET)
    except OSError as error:
        connection.close()
        raise Failure(f"the machine's Docker does not answer: {error}") from None
    return connection


def get_json(connection: HTTPConnection, path: str, filters: Json | None = None) -> Any:
    connection.request("GET", path + (f"filters={quote(json.dumps(filters))}" if filters else ""))
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise Failure(f"Docker answered {answer.status} to {path}", body.decode(errors="replace")[:2000])
    return json.loads(body)


def wait_health(request: Json, cancelled: threading.Event) -> Json:
    """Wait until each of `services` (of compose `project`) is running and, if it has a health check, healthy, or has
    ended with 0; return early when one failed. Answer: {ready, services: {name: {state, health, exit_code, log}}}."""
    question = json.dumps([request.get("socket"), request.get("project"), sorted(request["services"])])
    if before := _kept.pop(question, None):  # nobody else may have it meanwhile
        if before.is_current():
            return _keep(question, before)
        before.close()
    look = None
    deadline = time.monotonic() + float(request.get("timeout_s") or 60)
    labels = [f"com.docker.compose.project={request['project']}"] if request.get("project") else []
    events_filter = {"type": ["container"], "label": labels, "event": HEALTH_EVENTS}
    while True:
        left = deadline - time.monotonic()
        # Ask for events before looking, so that no change falls in between; look again at the latest after 2 s.
        with_events = connect_docker(request, max(0.05, min(left, 2.0)))
        try:
            events = open_events(with_events, events_filter)
            while True:
                services = look_at_services(request, labels)
                states = [judge(services[name]) for name in request["services"]]
                if all(states):
                    look = Look(with_events, events, services)
                    return _keep(question, look)
                if False in states or cancelled.is_set() or time.monotonic() >= deadline:
                    return {"ready": False, "failed": False in states, "services": services}
                try:
                    if not events.readline():
                        break
                except OSError:  # no event within the socket's time-out
                    break
        finally:
            if look is None:
                with_events.close()


def _keep(question: str, look: Look) -> Json:
    """The answer that all is well; the look is kept for the next who asks the same."""
    if old := _kept.pop(question, None):
        old.close()
    while len(_kept) >= MAX_KEPT:
        _kept.pop(next(iter(_kept))).close()
    _kept[question] = look
    return {"ready": True, "failed": False, "services": look.services}


def open_events(connection: HTTPConnection, filters: Json) -> HTTPResponse:
    connection.request("GET", f"/events?filters={quote(json.dumps(filters))}")
    return connection.getresponse()


def look_at_services(request: Json, labels: list[str]) -> dict[str, Json]:
    missing = {"state": "missing", "health": None, "exit_code": None, "log": "", "container": None}
    services = {name: dict(missing) for name in request["services"]}
    connection = connect_docker(request, 10)
    try:
        for container in get_json(connection, "/containers/json?all=1&", {"label": labels}) or []:
            name = container.get("Labels", {}).get("com.docker.compose.service")
            if name not in services:
                continue
            details = get_json(connection, f"/containers/{container['Id']}/json")
            if details is None:
                continue  # removed just now
            state = details["State"]
            health = state.get("Health") or {}
            log = (health.get("Log") or [{}])[-1]
            services[name] = {
                "state": state["Status"],
                "health": health.get("Status") if health.get("Status") != "none" else None,
                "exit_code": state.get("ExitCode"),
                "log": str(log.get("Output", ""))[-2000:] or str(state.get("Error", "")),
                "container": details.get("Name", "").lstrip("/"),
            }
    finally:
        connection.close()
    return services


def judge(service: Json) -> bool | None:
    """True: ready. False: failed. None: wait."""
    state, health = service["state"], service["health"]
    if state == "running":
        return True if health in (None, "healthy") else False if health == "unhealthy" else None
    if state == "exited":
        return bool(service["exit_code"] == 0)
    return False if state == "dead" else None
