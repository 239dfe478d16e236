"""A headless Chromium that tests talk to by the DevTools protocol over a WebSocket."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
START_SECONDS, ANSWER_SECONDS = 60, 60


class Browser:
    """One page at a time; `errors` has what the page complained of since it was opened."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        self.folder = tempfile.TemporaryDirectory(prefix="browser_", ignore_cleanup_errors=True)
        options = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--mute-audio",
        )
        options += (
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
        )
        profile = f"--user-data-dir={self.folder.name}/profile"
        self.log = (Path(self.folder.name) / "log").open("wb+")
        self.process = subprocess.Popen(
            [PROGRAM, *options, profile, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            stdin=subprocess.DEVNULL,
        )
        self.errors: list[str] = []
        self.number = 0
        try:
            self.socket = WebSocket(self._address())
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self.session = self._call("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def open(self, path: Path, fragment: str = "") -> None:
        """Opens a file anew and waits until it is loaded."""
        self.call("Page.navigate", url="about:blank")
        self.errors.clear()
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; promises are waited for."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until it is true."""
        end = time.monotonic() + ANSWER_SECONDS
        while not self.run(expression):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """A key, as from a keyboard."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def colours(self, scheme: str) -> None:
        """What the reader's system prefers: "light" or "dark"."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def size(self, width: int, height: int, scale: float = 1) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    def screenshot(self, path: Path) -> None:
        path.write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        )

    def pdf(self, path: Path) -> None:
        path.write_bytes(
            base64.b64decode(
                self.call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)["data"]
            )
        )

    def call(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol to the page."""
        return self._call(method, self.session, **parameters)

    def close(self) -> None:
        if hasattr(self, "socket"):
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.log.close()
        self.folder.cleanup()

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": session} if session else {})))
        while True:
            answer = json.loads(self.socket.receive())
            self._note(answer)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def _note(self, answer: dict[str, Any]) -> None:
        parameters = answer.get("params", {})
        if answer.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        if answer.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in (
            "error",
            "warning",
        ):
            self.errors.append(str(parameters["args"]))
        if answer.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in (
            "error",
            "warning",
        ):
            self.errors.append(parameters["entry"]["text"])

    def _address(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(r"ws://\S+", Path(self.log.name).read_text(errors="replace"))
            if found:
                return found.group()
            time.sleep(0.05)
        raise AssertionError(
            f"{PROGRAM} did not start: {Path(self.log.name).read_text(errors='replace')[-2000:]}"
        )


class WebSocket:
    """The client's side of RFC 6455, as much as a browser on this machine needs."""

    def __init__(self, address: str) -> None:
        host, port, path = re.fullmatch(r"ws://([^:/]+):(\d+)(/.*)", address).groups()  # type: ignore[union-attr]
        self.connection = socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection:"
            f" Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.connection.sendall(request.encode())
        self.stream = self.connection.makefile("rb")
        status = self.stream.readline()
        assert b" 101 " in status, status
        while self.stream.readline().strip():
            pass

    def send(self, text: str) -> None:
        data, mask = text.encode(), os.urandom(4)
        length = len(data)
        head = (
            struct.pack("!BB", 0x81, 0x80 | length)
            if length < 126
            else struct.pack("!BBH", 0x81, 0x80 | 126, length)
        )
        if length >= 2**16:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, length)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.connection.sendall(head + mask + masked)

    def close(self) -> None:
        self.stream.close()
        self.connection.close()

    def receive(self) -> str:
        parts = b""
        while True:
            first, second = self.stream.read(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self.stream.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self.stream.read(8))
            content = self.stream.read(length)
            if first & 0x0F in (0, 1):  # text and its continuations; all else is not for us
                parts += content
                if first & 0x80:
                    return parts.decode()
