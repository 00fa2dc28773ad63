"""A worker in Python, made of pyzmq and protobuf alone. docs/protocol.md says what it does and why."""
import argparse
import contextlib
import logging
import signal

import zmq
from google.protobuf.message import DecodeError

from palm_pb2 import Error, Extensions, PalmMessage


def foo(payload, worker):
    return worker.encode() + b' processed ' + payload


FUNCTIONS = {'foo': foo}


def ask(context, db_address, key):
    """What the master's cache service has under `key`, as soon as the master is there."""
    request = PalmMessage(function='_.get', payload=key.encode())
    while True:
        with context.socket(zmq.REQ) as socket:  # A new one each time: without its reply it is stuck.
            socket.linger = 0
            socket.connect(db_address)
            socket.send(request.SerializeToString())
            if socket.poll(1000):
                return socket.recv().decode() or exit(f'{db_address} has no {key}')


def name(task):
    """The word number `stage` of `function`, or all of it if it has no space; what follows its dot."""
    words, step = task.function.split(), task.stage if ' ' in task.function else 0
    return words[step].partition('.')[2] if 0 <= step < len(words) else ''


def answer(data, worker):
    """The answer to a task: the same message, unknown fields and all, with another payload."""
    task = PalmMessage.FromString(data)
    with contextlib.suppress(DecodeError):  # The fields that palm adds, out of the same bytes.
        if Extensions.FromString(data).HasField('error'):
            return data  # An earlier step has failed.
    error = Error(component=worker, step=task.stage)
    try:
        if function := FUNCTIONS.get(name(task)):
            task.payload = function(task.payload, worker)
            return task.SerializeToString()
        error.kind, error.message = Error.UNKNOWN_FUNCTION, 'the worker has no such function'
    except Exception as failure:
        error.message = repr(failure)
    task.payload = b'0'
    return task.SerializeToString() + Extensions(error=error).SerializeToString()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('name')
    parser.add_argument('db_address', help="the master's, e.g. tcp://127.0.0.1:5559")
    options = parser.parse_args()
    context, stopped = zmq.Context(), []
    tasks, answers = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    answers.connect(ask(context, options.db_address, 'worker_pull_address'))
    tasks.connect(ask(context, options.db_address, 'worker_push_address'))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    while not stopped:  # It looks five times a second. What cannot be answered yet is not begun.
        if answers.poll(200, zmq.POLLOUT) and tasks.poll(200):
            try:
                answers.send(answer(tasks.recv(), options.name))
            except DecodeError:
                logging.warning('what came is no PalmMessage')
    context.destroy(linger=2000)  # How long the last answer may take to leave.


if __name__ == '__main__':
    main()
