# Answers /status/<code> and /echo over keep-alive, a thread for each connection, and
# says its port. It ends with its standard input.
import http.server, sys, threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    def do_GET(self):
        self.answer(int(self.path.rsplit("/", 1)[1]), b"from Python")

    do_HEAD = do_DELETE = do_GET

    def do_POST(self):
        n = 0
        if "Content-Length" in self.headers:
            n = len(self.rfile.read(int(self.headers["Content-Length"])))
        else:
            while size := int(self.rfile.readline(), 16):
                n += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        self.answer(200, str(n).encode())


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
