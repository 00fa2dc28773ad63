"""A worker in Python that uses only pyzmq and protobuf. docs/book/src/protocol.md explains it."""
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
    """Returns the value of `key` at the master's cache service; waits for the master."""
    request = PalmMessage(function='_.get', payload=key.encode())
    while True:
        with context.socket(zmq.REQ) as socket:  # A new one each time: a REQ without its reply cannot send again.
            socket.linger = 0
            socket.connect(db_address)
            socket.send(request.SerializeToString())
            if socket.poll(1000):
                return socket.recv().decode() or exit(f'{db_address} has no {key}')


def name(task):
    """Returns the function of this step: word number `stage`, or the whole text; the part after its dot."""
    words, step = task.function.split(), task.stage if ' ' in task.function else 0
    return words[step].partition('.')[2] if 0 <= step < len(words) else ''


def answer(data, worker):
    """Returns the answer to a task: the same message with a new payload; unknown fields are kept."""
    task = PalmMessage.FromString(data)
    with contextlib.suppress(DecodeError):  # palm's extensions, parsed from the same bytes.
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
    while not stopped:  # Checked five times a second. A task is received only if its answer can be sent.
        if answers.poll(200, zmq.POLLOUT) and tasks.poll(200):
            try:
                answers.send(answer(tasks.recv(), options.name))
            except DecodeError:
                logging.warning('dropping a frame that is not a PalmMessage')
    context.destroy(linger=2000)  # Time for the last answer to leave.


if __name__ == '__main__':
    main()
