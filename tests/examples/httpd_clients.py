"""httpd_clients.py TEST PORT SITE [ARGUMENT...] - clients that curl cannot be: raw bytes, slow,
rude, many. Exit status 0, or a traceback says what the server did wrong. Called by httpd.sh.

No time is asserted tightly: LATE is how long anything may take on a machine that is busy."""
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import sys
import threading
import time

LATE = 30
PORT = int(sys.argv[2])
SITE = sys.argv[3]


def content(name):
    with open(os.path.join(SITE, name), "rb") as file:
        return file.read()


class Client:
    """A connection, and what was received and not yet looked at."""

    def __init__(self, receive_buffer=0):
        self.socket = socket.socket()
        self.socket.settimeout(LATE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", PORT))
        self.data = bytearray()

    def send(self, data):
        self.socket.sendall(data)

    def get(self, path, more="", method="GET"):
        self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())

    def receive(self):
        """False: the end, by close or reset."""
        try:
            more = self.socket.recv(65536)
        except ConnectionError:
            more = b""
        self.data += more
        return len(more) > 0

    def answer(self, head=False):
        """The next (status, fields, body), None at the end."""
        while b"\r\n\r\n" not in self.data:
            if not self.receive():
                assert not self.data, f"ends within a head: {self.data!r}"
                return None
        text, self.data = self.data.split(b"\r\n\r\n", 1)
        first, *lines = text.decode("latin-1").split("\r\n")
        version, status, reason = first.split(" ", 2)
        assert version == "HTTP/1.1" and reason, first
        fields = dict(line.split(": ", 1) for line in lines)
        assert len(fields) == len(lines), f"a field is there twice: {lines}"
        if head or status == "304":
            body = b""
        elif "Transfer-Encoding" in fields:
            body = b"".join(iter(self.chunk, b""))
        else:
            body = self.take(int(fields["Content-Length"]))
        return int(status), fields, body

    def take(self, size):
        while len(self.data) < size:
            assert self.receive(), f"the body ends after {len(self.data)} of {size}"
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def chunk(self):
        """The next piece of a stream, empty: it was the last one."""
        while b"\r\n" not in self.data:
            assert self.receive(), "a stream ends without its last piece"
        size, self.data = self.data.split(b"\r\n", 1)
        piece = self.take(int(size, 16))
        assert self.take(2) == b"\r\n"
        return piece

    def at_end(self):
        return not self.data and not self.receive()

    def reset(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def serves():
    client = Client()
    client.get("/small.txt", "Connection: close\r\n")
    status, _, body = client.answer()
    assert (status, body) == (200, content("small.txt"))
    assert client.at_end()


def in_pieces(client, data, rng):
    while data:
        n = rng.choice([1, 7, 100, 3000])
        client.send(data[:n])
        data = data[n:]


def pipeline(seed="1"):
    """Many requests in one piece, and the same in pieces that end anywhere; answers in order."""
    rng = random.Random(int(seed))
    names = ["small.txt", "empty", "page.html", "missing", "big.bin"]
    wanted = [(rng.choice(names), rng.random() < 0.3) for _ in range(60)]
    data = b"".join(f"{'HEAD' if head else 'GET'} /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                    for name, head in wanted)
    for pieces in (False, True):
        client = Client()
        feed = in_pieces if pieces else lambda client, data, rng: client.send(data)
        sender = threading.Thread(target=feed, args=(client, data, rng))
        sender.start()
        for name, head in wanted:
            status, fields, body = client.answer(head)
            assert status == (404 if name == "missing" else 200), (name, status)
            if status == 200:
                assert int(fields["Content-Length"]) == len(content(name)), (name, fields)
                assert head or body == content(name), name
        sender.join()
        client.socket.shutdown(socket.SHUT_WR)
        assert client.at_end()


HOST = "\r\nHost: x\r\n"
REQUESTS = [  # what is sent, the status, whether another request may follow
    ("GET /small.txt HTTP/1.1" + HOST + "\r\n", 200, True),
    ("\r\n\r\nGET /small.txt HTTP/1.1" + HOST + "\r\n", 200, True),
    ("GET http://elsewhere/small.txt HTTP/1.1" + HOST + "\r\n", 200, True),
    ("GET /small.txt?a=/../b HTTP/1.1" + HOST + "\r\n", 200, True),
    ("GET /%73mall%2Etxt HTTP/1.1" + HOST + "\r\n", 200, True),
    ("GET //sub///plain.txt HTTP/1.1" + HOST + "\r\n", 200, True),
    ("GET /small.txt HTTP/1.1\r\nhOsT:x\r\nX:\t \r\nContent-Length: 0\r\n\r\n", 200, True),
    ("GET /small.txt HTTP/1.1" + HOST + "Connection: foo , CLOSE\r\n\r\n", 200, False),
    ("GET /small.txt HTTP/1.0\r\n\r\n", 200, False),
    ("GET /small.txt HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, True),
    ("GET /small.txt HTTP/1.7" + HOST + "\r\n", 200, True),
    ("GET /sub HTTP/1.1" + HOST + "\r\n", 301, True),
    ("GET /missing HTTP/1.1" + HOST + "\r\n", 404, True),
    ("GET /small.txt/ HTTP/1.1" + HOST + "\r\n", 404, True),
    ("GET /" + "n" * 300 + " HTTP/1.1" + HOST + "\r\n", 404, True),
    ("GET /pipe HTTP/1.1" + HOST + "\r\n", 403, True),
    ("GET /small.txt HTTP/1.1\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Host: y\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Bad Name: y\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Spaced : y\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "X: a\r\n folded\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "X: a\0b\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "X: end\0\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "X: a\rb\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "no colon\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1\nHost: x\n\n\r\n\r\n", 400, False),
    ("GET  /small.txt HTTP/1.1" + HOST + "\r\n", 400, False),
    ("GET /small.txt HTTP/1.1 " + HOST + "\r\n", 400, False),
    ("GET /small.txt HTTP/1.x" + HOST + "\r\n", 400, False),
    ("GET /small.txt" + HOST + "\r\n", 400, False),
    ("GET small.txt HTTP/1.1" + HOST + "\r\n", 400, False),
    ("GET /small%2 HTTP/1.1" + HOST + "\r\n", 400, False),
    ("GET /small%zz HTTP/1.1" + HOST + "\r\n", 400, False),
    ("GET /small.txt%00.html HTTP/1.1" + HOST + "\r\n", 400, False),
    ("GET /sm\tall HTTP/1.1" + HOST + "\r\n", 400, False),
    ("\0\0\0\0\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Content-Length: x\r\n\r\n", 400, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Content-Length: 5\r\n\r\nGET /", 413, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Content-Length: 99999999999999999999\r\n\r\n", 413, False),
    ("GET /small.txt HTTP/1.1" + HOST + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501, False),
    ("POST /small.txt HTTP/1.1" + HOST + "Content-Length: 3\r\n\r\nabc", 405, False),
    ("BREW /small.txt HTTP/1.1" + HOST + "\r\n", 501, False),
    ("get /small.txt HTTP/1.1" + HOST + "\r\n", 501, False),
    ("GET /small.txt HTTP/2.0" + HOST + "\r\n", 505, False),
    ("GET /" + "n" * 4200 + " HTTP/1.1" + HOST + "\r\n", 414, False),
    ("GET /" + "n" * 9000, 414, False),
    ("GET / HTTP/1.1\r\n" + "X: y\r\n" * 2000, 431, False),
    ("\r\n" * 6000, 431, False),
]


def malformed():
    for text, wanted, more in REQUESTS:
        client = Client()
        client.send(text.encode("latin-1"))
        status, fields, body = client.answer()
        assert status == wanted, (text[:80], status)
        assert status != 200 or body == content("sub/plain.txt" if "sub" in text else "small.txt")
        assert status != 301 or fields["Location"] == "/sub/"
        assert status != 405 or fields["Allow"] == "GET, HEAD"
        assert fields["Connection"] == ("keep-alive" if more else "close"), (text[:80], fields)
        if more:
            client.get("/small.txt")
            assert client.answer()[2] == content("small.txt"), text[:80]
        else:
            assert client.at_end(), text[:80]

    # A body that nobody wants must not make the answer get lost: an end, not a reset.
    client = Client()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(100000))
    assert client.answer()[0] == 405
    assert client.socket.recv(1) == b""


def idle():
    """1,000 connections that say nothing, while others are served; then they are served, too."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    clients = [Client() for _ in range(min(1000, hard - 50))]
    for _ in range(200):
        serves()
    for client in clients:
        client.get("/small.txt")
    for client in clients:
        assert client.answer()[2] == content("small.txt")


def until_end(client):
    begin = time.monotonic()
    while client.receive():
        assert time.monotonic() - begin < LATE, "it is not cut off"
    return client.data


def slow():
    """The server runs with -t 1. Each of these would take far longer than LATE."""

    def dribble():  # a byte now and then is no progress
        client = Client()
        head = b"GET /small.txt HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1000
        begin = time.monotonic()
        client.socket.settimeout(0.1)
        for i in range(len(head)):
            assert time.monotonic() - begin < LATE, "not cut off"
            try:
                client.send(head[i:i + 1])
                client.data += client.socket.recv(1000)
                break  # an answer
            except TimeoutError:
                pass
        assert time.monotonic() - begin > 0.9, "cut off too soon"
        client.socket.settimeout(LATE)
        assert client.answer()[0] == 408

    def silent():  # before the first request, and between two
        client = Client()
        assert until_end(client) == b""
        client = Client()
        client.get("/small.txt")
        client.answer()
        assert until_end(client) == b""

    def deaf():  # takes in nothing
        client = Client(4096)
        client.get("/big.bin")
        time.sleep(3)
        assert len(until_end(client)) < len(content("big.bin"))

    def never_closes():  # has had its last answer, but stays
        client = Client()
        client.get("/small.txt", "Connection: close\r\n")
        client.answer()
        begin = time.monotonic()
        try:
            while True:
                assert time.monotonic() - begin < LATE, "not cut off"
                client.send(b"x")
                time.sleep(0.05)
        except ConnectionError:
            pass

    def deaf_streams():  # of which nobody knew how long they would be
        client = Client(4096)
        try:
            for _ in range(1000):
                client.get("/metrics")
        except ConnectionError:
            pass
        time.sleep(3)
        assert until_end(client).count(b"HTTP/1.1 200 OK") < 1000

    together(dribble, silent, deaf, never_closes, deaf_streams)


def together(*functions):
    failures = []

    def call(function):
        try:
            function()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def half_closed():
    for path, name in ("/small.txt", "small.txt"), ("/big.bin", "big.bin"):
        client = Client()
        client.get(path)
        client.get("/page.html")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer()[2] == content(name)
        assert client.answer()[2] == content("page.html")
        assert client.at_end()
    client = Client()
    client.send(b"GET / HTTP/1.1\r\nHo")
    client.socket.shutdown(socket.SHUT_WR)
    assert client.at_end()


def shrinks():
    """A file becomes shorter while it is sent: the connection breaks off, the server goes on."""
    name = os.path.join(SITE, "shrinks")
    with open(name, "wb") as file:
        file.truncate(50000000)
    client = Client(4096)
    client.get("/shrinks")
    client.get("/small.txt")
    client.data += client.socket.recv(1000)
    os.truncate(name, 0)
    assert 0 < len(until_end(client)) < 50000000
    os.remove(name)
    serves()


def reset():
    for _ in range(50):
        for n in (0, 1, 100000):
            for half in (False, True):  # the server's next write gets ECONNRESET, or EPIPE
                client = Client(4096)
                client.get("/big.bin")
                if half:
                    client.socket.shutdown(socket.SHUT_WR)
                if n:
                    client.socket.recv(n)
                client.reset()
        client = Client()
        client.send(b"GET / HT")
        client.reset()
    serves()


def descriptors():
    """The server runs with -t 1 and may have 32 descriptors."""
    clients = [Client() for _ in range(100)]  # those that it cannot take wait in the queue
    for client in clients[60:]:
        client.get("/small.txt")
    answers = [client.answer() for client in clients]
    assert all(a is None for a in answers[:60]), "an answer to nothing"
    statuses = [a and a[0] for a in answers[60:]]
    assert set(statuses) <= {200, 503}, statuses  # 503: a socket it had, but none for the file
    for client in clients:
        client.socket.close()
    serves()


def stop(pid):
    """Who is served at SIGTERM is served to the end; who is not is told to go."""
    idle = Client()
    idle.get("/small.txt")
    idle.answer()
    download, slowest = Client(4096), Client(4096)
    for client in download, slowest:
        client.get("/big.bin")
        client.get("/small.txt")  # not begun: it may be left out
        client.data += client.socket.recv(1000)
    os.kill(int(pid), signal.SIGTERM)
    assert idle.at_end()
    def refused():
        try:
            Client()
        except ConnectionError:
            return True
        return False

    eventually("no connections are taken any more", refused)
    for client in download, slowest:
        status, fields, body = client.answer()
        assert status == 200 and body == content("big.bin")
        second = client.answer()
        assert second is None or second[1]["Connection"] == "close"


def stop_limit(pid):
    """The server runs with -t 2. A download that goes on and on is cut off at last."""
    size = 200000000
    with open(os.path.join(SITE, "huge"), "wb") as file:
        file.truncate(size)
    client = Client()
    client.get("/huge")
    received = len(client.socket.recv(1000))
    os.kill(int(pid), signal.SIGTERM)
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < 6:  # slow, but no piece is later than the time-out
            time.sleep(0.02)
            received += len(client.socket.recv(100000))
        received += len(until_end(client))
    except ConnectionError:
        pass
    assert received < size, "not cut off"


def metric(name):
    client = Client()
    client.get("/metrics", "Connection: close\r\n")
    status, _, body = client.answer()
    assert status == 200 and client.at_end()
    return int(re.search(rf"^{name} (\d+)$", body.decode(), re.M)[1])


def eventually(what, condition):
    end = time.monotonic() + LATE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Watcher(Client):
    def __init__(self, query="?interval=50"):
        super().__init__()
        self.get("/sched/events" + query)
        self.text = b""
        while b"\r\n\r\n" not in self.data:
            assert self.receive()
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        self.status = int(head.split()[1])
        if self.status == 200:
            assert b"\r\nContent-Type: text/event-stream" in head
            assert b"\r\nTransfer-Encoding: chunked" in head and b"Content-Length" not in head

    def message(self):
        """The next one, None after the last piece of the stream."""
        while b"\n\n" not in self.text:
            piece = self.chunk()
            if not piece:
                assert not self.text, "ends within a message"
                return None
            self.text += piece
        text, self.text = self.text.split(b"\n\n", 1)
        if text.startswith(b"retry: "):
            return self.message()
        assert text.startswith(b"data: {") and b"\n" not in text, text
        return json.loads(text[6:])


def watchers():
    """The server runs with -m."""
    oldest = Client()  # waits for longer than all that comes
    workers, alive = metric("sch_workers"), metric("sch_alive_tasks")
    begin = time.monotonic()
    watcher, last = Watcher(), None
    gauges = ("stack_count", "timer_count")
    for _ in range(5):
        message = watcher.message()
        assert len(message["workers"]) == workers
        for name in message:
            if last and (name.endswith("_count") or name == "now") and name not in gauges:
                assert message[name] >= last[name], f"{name} goes back"
        assert last is None or message["now"] > last["now"]
        assert last is None or polls <= message["total.poll_count"]
        polls = sum(w["polls"] for w in message["workers"])
        assert message["total.poll_count"] <= polls  # the workers were looked at after it
        last = message
    eventually("the listener waits", lambda: any(task["name"] == "listener"
                                                 for task in watcher.message()["waits"]))
    eventually("looks", lambda: sum(watcher.message()["workers"][0]["looks"]) > 0)

    # Who leaves, in whatever way, is gone at once: not when the next message is due.
    for i in range(30):
        leaver = Watcher("?interval=60000")
        leaver.message()
        leave = [leaver.reset, leaver.socket.close, lambda: leaver.socket.shutdown(socket.SHUT_WR)]
        leave[i % 3]()
    eventually("watchers that have left", lambda: metric("sch_alive_tasks") <= alive + 2)

    many = [Watcher() for _ in range(50)]
    for _ in range(3):
        assert all(w.message() for w in many)
        serves()

    fresh = Watcher()

    def longest():  # the longest ones first, and the one that we know of
        times = [task["ns"] / 1e9 for task in fresh.message()["waits"]]
        assert times == sorted(times, reverse=True), times
        return len(times) == 8 and times[0] > (time.monotonic() - begin) / 2

    eventually("the longest waits", longest)
    oldest.socket.close()
    many.append(fresh)
    many += [Watcher("?interval=60000") for _ in range(48)]
    assert Watcher().status == 503  # 100 with the first one
    assert many[-1].status == 200 and many[-1].message()
    for w in many:
        w.reset()
    eventually("room for another", lambda: Watcher().status == 200)

    client = Client()
    client.send(b"GET /sched/events?interval=50 HTTP/1.0\r\n\r\n")
    while client.data.count(b"\n\ndata: {") < 3:
        assert client.receive()
    assert b"chunked" not in client.data and b"\r\nConnection: close\r\n" in client.data


def traces():
    """The server runs with -m. One trace at a time; what is asked for behind one is answered."""
    client, other = Client(), Client()
    client.get("/sched/trace?seconds=2")
    time.sleep(0.5)
    client.get("/small.txt")
    other.get("/sched/trace?seconds=1")
    assert other.answer()[0] == 503 and other.at_end()
    status, fields, body = client.answer()
    assert status == 200 and "attachment" in fields["Content-Disposition"]
    assert any(event["ph"] == "X" for event in json.loads(body)["traceEvents"])
    assert client.answer()[2] == content("small.txt")

    leaver = Client()
    leaver.get("/sched/trace?seconds=60")
    time.sleep(0.2)
    leaver.reset()

    def recorded():
        again = Client()
        again.get("/sched/trace?seconds=1", "Connection: close\r\n")
        return again.answer()[0] == 200

    eventually("a trace after one that nobody waited for", recorded)


def stop_live(pid):
    """The server runs with -m. Streams end as they should: nothing is missing at the end."""
    many, client = [Watcher("?interval=60000") for _ in range(20)], Client()
    client.get("/sched/trace?seconds=60")
    assert all(w.message() for w in many)
    time.sleep(0.2)

    def begun():  # one trace at a time
        probe = Client()
        probe.get("/sched/trace?seconds=1", "Connection: close\r\n")
        return probe.answer()[0] == 503

    eventually("the trace has begun", begun)
    os.kill(int(pid), signal.SIGTERM)
    for w in many:
        assert w.message() is None and w.at_end()
    json.loads(client.answer()[2])
    assert client.at_end()


def one_of_storm(rng, big):
    client = Client(rng.choice([0, 0, 4096]))
    kind = rng.randrange(9)
    if kind == 0:  # noise
        client.send(rng.randbytes(rng.choice([1, 50, 5000])))
        if rng.random() < 0.5:
            client.send(b"\r\n\r\n")
            client.socket.shutdown(socket.SHUT_WR)
            while client.receive():
                pass
        client.reset()
    elif kind == 1:  # one byte of a good request is wrong: anything but silence will do
        text = bytearray(b"GET /small.txt HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2\r\n\r\n")
        text[rng.randrange(len(text))] = rng.randrange(256)
        client.send(bytes(text))
        client.socket.shutdown(socket.SHUT_WR)
        client.receive()
    elif kind == 2:
        client.get("/big.bin")
        client.socket.recv(rng.choice([1, 50000]))
        client.reset()
    elif kind == 3:
        client.get("/sub/")
        assert b"plain.txt" in client.answer()[2]
    elif kind == 4:  # with -m these are streams, else they are not there
        client.get(rng.choice(["/sched", "/sched/events?interval=50", "/sched/dump", "/metrics",
                               "/sched/trace?seconds=1"]), "Connection: close\r\n")
        for _ in range(rng.randrange(4)):
            client.receive()
        if rng.random() < 0.5:
            client.reset()
    else:  # ranges, one after the other on one connection
        for _ in range(rng.choice([1, 5])):
            first, last = rng.randrange(len(big)), rng.randrange(len(big))
            last = min(max(first, last), first + 200000)
            client.get("/big.bin", f"Range: bytes={first}-{last}\r\n")
            status, _, body = client.answer()
            assert status == 206 and body == big[first:last + 1]
    client.socket.close()


def storm(seed, seconds):
    """Everything at once. Meant for a server that was built with a sanitizer."""
    big = content("big.bin")
    end = time.monotonic() + float(seconds)
    done = [0] * 8

    def run(i):
        rng = random.Random(int(seed) * 8 + i)
        while time.monotonic() < end:
            try:
                one_of_storm(rng, big)
            except (ConnectionError, BrokenPipeError):
                pass  # noise is answered by an end of the connection, which we may still write to
            done[i] += 1

    together(*[lambda i=i: run(i) for i in range(8)])
    serves()
    print(sum(done), "connections")


globals()[sys.argv[1]](*sys.argv[4:])
