"""A libzmq socket that obeys: one command a line on stdin, one answer a line on stdout.

Frames are hexadecimal, joined by commas; `-` stands for an empty one. The socket's type is the
argument. Every wait is bounded; the process ends with its stdin.
"""

import sys

import zmq

context = zmq.Context()
socket = context.socket(getattr(zmq, sys.argv[1]))
socket.setsockopt(zmq.RCVTIMEO, 20_000)
socket.setsockopt(zmq.SNDTIMEO, 20_000)
socket.setsockopt(zmq.RECONNECT_IVL, 10)
socket.setsockopt(zmq.LINGER, 0)


def decode(word):
    return [b"" if frame == "-" else bytes.fromhex(frame) for frame in word.split(",")]


def encode(frames):
    return ",".join(frame.hex() or "-" for frame in frames)


def obey(command, words):
    match command:
        case "bind":
            socket.bind(words[0])
            return socket.getsockopt_string(zmq.LAST_ENDPOINT)
        case "connect":
            socket.connect(words[0])
        case "subscribe":
            socket.subscribe(decode(words[0])[0])
        case "unsubscribe":
            socket.unsubscribe(decode(words[0])[0])
        case "send":
            socket.send_multipart(decode(words[0]))
        case "send_many":
            # Messages of `length` bytes that begin with their numbers.
            for number in range(int(words[0])):
                socket.send(number.to_bytes(8, "big").ljust(int(words[1]), b"."))
        case "recv":
            return encode(socket.recv_multipart())
        case "recv_many":
            for number in range(int(words[0])):
                received = int.from_bytes(socket.recv_multipart()[-1][:8], "big")
                if received != number:
                    return f"got {received} instead of {number}"
        case "echo":
            for _ in range(int(words[0])):
                socket.send_multipart(socket.recv_multipart())
        case "close":
            socket.close(int(words[0]))
            context.term()
        case _:
            return f"unknown command {command}"
    return "done"


for line in sys.stdin:
    command, *words = line.split()
    try:
        answer = obey(command, words)
    except zmq.ZMQError as error:
        answer = f"failed: {error}"
    print(answer, flush=True)
