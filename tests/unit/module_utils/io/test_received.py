from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

from ansible.module_utils.tensorflow_stack.io import received

RECEIVE = """
import socket, sys
stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while stream.recv(1 << 16): pass
"""


def test_what_a_program_receives_is_counted_while_it_does() -> None:
    counter = received.Received(os.getpid())
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"x" * 3_000_000)
                done.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        # A program of a program, as uv is one of the module's.
        command = [sys.executable, "-c", RECEIVE, str(server.getsockname()[1])]
        with subprocess.Popen(["sh", "-c", '"$@"; true', "sh", *command]) as process:
            deadline = time.monotonic() + 30
            while counter.count() < 3_000_000 and time.monotonic() < deadline:
                time.sleep(0.05)
            done.set()
            process.wait(30)
        thread.join(30)
    assert counter.total == 3_000_000
    assert counter.count() == 3_000_000, "also after its end"


def test_what_this_program_itself_receives_is_nobodys() -> None:
    assert received.Received(os.getpid()).count() == 0
