"""A store that speaks S3 over HTTP on this machine, behind a proxy that can fail."""

import http.client
import http.server
import threading


class FaultyProxy:
    """Passes requests on to a server until it is told to fail.

    `failing`: how many further requests get 503 (None: all of them). `asked`: (method, path) of each request.
    """

    def __init__(self, host: str, port: int) -> None:
        self.failing: int | None = 0
        self.stopped = False
        self.asked: list[tuple[str, str]] = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.asked.append((self.command, self.path))
                if proxy.stopped:
                    self.close_connection = True
                    return
                if proxy.failing is None or proxy.failing > 0:
                    proxy.failing = proxy.failing and proxy.failing - 1
                    return self.answer(503, [], b"")
                connection = http.client.HTTPConnection(host, port)
                connection.request(self.command, self.path, body, dict(self.headers))
                given = connection.getresponse()
                content = given.read()
                left_out = ("content-length", "transfer-encoding", "connection")
                headers = [(n, v) for n, v in given.getheaders() if n.lower() not in left_out]
                length = given.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.answer(given.status, [*headers, ("Content-Length", str(length))], content)
                connection.close()

            def answer(self, status, headers, content):
                self.send_response(status)
                for name, value in headers or [("Content-Length", "0")]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answers nobody any more."""
        self.stopped = True
        self._server.shutdown()
        self._server.server_close()
