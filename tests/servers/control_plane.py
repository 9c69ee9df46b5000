"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager, without a node.

The binaries come from $KUBEBUILDER_ASSETS (the envtest convention); etcd may also be on the PATH. Besides the admin it
has the user `scaler`, who has no permission until a Role is bound. Starting takes some seconds: `shared_plane()` is
one for the whole test process, and tests keep apart by namespaces.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.servers import pausing
from tests.servers.certificate import signed_pair
from tests.servers.tcp_fault import free_port

READY_S: Final = 90.0
STOP_S: Final = 10.0
ADMIN: Final = "admin-token"
SCALER: Final = "scaler-token"
WRITES: Final = 16
"""Maximum writes in flight besides the admin's; beyond it the server throttles."""
CONTROLLERS: Final = "deployment,replicaset,statefulset,garbagecollector,namespace"
FRONT_PROXY: Final = "front-proxy-client"
"""Name in the certificate that the API server shows to servers of aggregated APIs."""
SPAWNER: Final = ThreadPoolExecutor(1)
"""Starts processes: `--pdeathsig` ends one with the thread that started it, and an event loop's threads end with it."""
HPA_SYNC_S: Final = 1
HPA_STABILIZATION_S: Final = 2
AUDIT: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:masters"]},
        {"level": "Request", "verbs": ["patch"], "resources": [{"group": "ha.example.com"}]},
        {"level": "Request", "verbs": ["create", "patch"], "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "Metadata"},
    ],
}
"""Every call is logged except the admin's, with the sizes of the objects that daemons share, and their leases."""


def why_not() -> str:
    """Return why no control plane can be started here; empty where it can."""
    if not _binary("kube-apiserver").exists():
        return "no kube-apiserver: set KUBEBUILDER_ASSETS to a folder with kube-apiserver and kube-controller-manager"
    return "" if _etcd() else "no etcd in KUBEBUILDER_ASSETS or on the PATH"


class ControlPlane:
    """One control plane. Its methods block: they start, stop and signal processes.

    With `hpas`, it aggregates APIs, and the HPA controller runs, with short periods.
    """

    def __init__(self, *, hpas: bool = False) -> None:
        self.hpas = hpas
        self.users = 0
        self.folder = Path(tempfile.mkdtemp(prefix="control-plane-"))
        self.port = free_port()
        self.certificate = self.folder / "tls.crt"
        self._audit = self.folder / "audit.log"
        self.kubeconfig = self.write_kubeconfig("admin.json", ADMIN)
        self._etcd_port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._admin = ssl.create_default_context(cafile=str(self._certify()))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start all three, and wait until objects can be created."""
        try:
            self._start_etcd()
            self.start_apiserver()
            self._start_controllers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all three and delete their files."""
        for name in ("controllers", "apiserver", "etcd"):
            self._end(name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def audit_events(self) -> list[dict[str, Any]]:
        """Return the audit log, without a last line that the API server is still writing.

        The first audited request creates the log.
        """
        lines = self._audit.read_bytes().splitlines(keepends=True) if self._audit.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def freeze(self, name: str = "apiserver") -> None:
        """Stop responding, with connections left open."""
        pausing.pause(self._processes[name].pid)

    def thaw(self, name: str = "apiserver") -> None:
        os.kill(self._processes[name].pid, signal.SIGCONT)

    def pause(self) -> None:
        for name in self._processes:
            self.freeze(name)

    def resume(self) -> None:
        """Continue after `pause`, and wait until the API server answers."""
        for name in self._processes:
            self.thaw(name)
        self._wait("/readyz")

    def kill_apiserver(self) -> None:
        self._processes["apiserver"].kill()
        self._end("apiserver")

    def start_apiserver(self) -> None:
        """Start the API server, on the same etcd as before if there was one, and wait until it is ready."""
        key, users, policy = self.folder / "sa.key", self.folder / "users.csv", self.folder / "audit.json"
        if not key.exists():  # after a restart, the tokens of service accounts remain valid
            _openssl("genrsa", "-out", key, "2048")
        users.write_text(f'{ADMIN},admin,admin,"system:masters"\n{SCALER},scaler,scaler\n')
        policy.write_text(json.dumps(AUDIT))
        self._spawn(
            "apiserver",
            _binary("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self.folder / 'tls.key'}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--token-auth-file={users}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-policy-file={policy}",
            f"--audit-log-path={self._audit}",
            # A few unfinished writes of the scaler then make the server refuse the next one: 429.
            "--feature-gates=APIPriorityAndFairness=false",
            f"--max-mutating-requests-inflight={WRITES}",
            *(self._front_proxy() if self.hpas else ()),
        )
        for path in ("/readyz", "/api/v1/namespaces/default"):  # it reports ready before that namespace exists
            self._wait(path)

    def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json", token: str = ADMIN
    ) -> Any:
        """Send one call, by default the admin's. Raises `urllib.error.HTTPError` for a refusal."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, context=self._admin, timeout=60) as answer:
            return json.loads(answer.read())

    def write_kubeconfig(self, name: str, token: str, port: int | None = None, proxy_url: str = "") -> Path:
        """Write a kubeconfig for the bearer of `token`, perhaps to the `port` of a proxy, or by an HTTP proxy."""
        path = self.folder / name
        cluster = {
            "server": f"https://127.0.0.1:{port or self.port}",
            "certificate-authority": str(self.certificate),
            **({"proxy-url": proxy_url} if proxy_url else {}),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "here",
        }
        path.write_text(json.dumps(document))
        return path

    def logs(self) -> str:
        """Return the end of each process's log."""
        return "\n".join(f"--- {f.name}\n{f.read_text()[-3000:]}" for f in sorted(self.folder.glob("*.out")))

    # --- processes

    def _certify(self) -> Path:
        if not self.certificate.exists():
            names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
            where = ("-keyout", self.folder / "tls.key", "-out", self.certificate)
            _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *where)
        return self.certificate

    def _front_proxy(self) -> list[str]:
        """Create the authority and the certificate of the API server as a client, and return the flags for both."""
        authority, pair = signed_pair(self.folder, FRONT_PROXY)
        return [
            f"--requestheader-client-ca-file={authority}",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pair.certificate}",
            f"--proxy-client-key-file={pair.key}",
        ]

    def _start_etcd(self) -> None:
        self._spawn(
            "etcd",
            _etcd() or "etcd",
            "--data-dir",
            self.folder / "etcd",
            "--listen-client-urls",
            f"http://127.0.0.1:{self._etcd_port}",
            "--advertise-client-urls",
            f"http://127.0.0.1:{self._etcd_port}",
            "--listen-peer-urls",
            f"http://127.0.0.1:{free_port()}",
            "--unsafe-no-fsync",
            "--log-level",
            "error",
        )

    def _start_controllers(self) -> None:
        names = f"{CONTROLLERS},horizontalpodautoscaling" if self.hpas else CONTROLLERS
        self._spawn(
            "controllers",
            _binary("kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            f"--controllers={names}",
            f"--horizontal-pod-autoscaler-sync-period={HPA_SYNC_S}s",
            f"--horizontal-pod-autoscaler-downscale-stabilization={HPA_STABILIZATION_S}s",
            "--bind-address=127.0.0.1",
            "--secure-port=0",
            "--port=0",
        )

    def _spawn(self, name: str, *command: object) -> None:
        dies_with_us = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        with (self.folder / f"{name}.out").open("ab") as log:
            arguments = [*dies_with_us, *map(str, command)]
            started = SPAWNER.submit(lambda: subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT))
            self._processes[name] = started.result()

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait(self, path: str) -> None:
        until = time.monotonic() + READY_S
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {ADMIN}"})
        while True:
            try:
                with urllib.request.urlopen(request, context=self._admin, timeout=2):
                    return
            except OSError as e:
                dead = [name for name, process in self._processes.items() if process.poll() is not None]
                if dead or time.monotonic() > until:
                    raise RuntimeError(f"no control plane ({dead or path}): {e}\n{self.logs()}") from e
                time.sleep(0.05)


@contextmanager
def started(*, hpas: bool = False) -> Iterator[ControlPlane]:
    """Start a separate control plane."""
    plane = ControlPlane(hpas=hpas)
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


@asynccontextmanager
async def control_plane() -> AsyncIterator[ControlPlane]:
    """Start a separate control plane in this thread; stop it without blocking the event loop."""
    with started() as plane:
        try:
            yield plane
        finally:
            await asyncio.to_thread(plane.stop)


@asynccontextmanager
async def shared_plane() -> AsyncIterator[ControlPlane]:
    """Use the control plane of this test process, which stops when the process ends.

    Its processes are paused while no test uses it: idle ones take a twentieth of a core.
    """
    plane = _shared()
    if plane.users == 0:
        await asyncio.to_thread(plane.resume)
    plane.users += 1
    try:
        yield plane
    finally:
        plane.users -= 1
        if plane.users == 0:
            plane.pause()


@functools.cache
def _shared() -> ControlPlane:
    plane = ControlPlane()
    plane.start()
    atexit.register(plane.stop)
    return plane


def _binary(name: str) -> Path:
    return Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent") / name


def _etcd() -> str | None:
    own = _binary("etcd")
    return str(own) if own.exists() else shutil.which("etcd")


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
