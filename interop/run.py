#!/usr/bin/env python3
"""Runs the documented examples in all mixes of palm's and pylm's components, and checks the output of the client.

    interop/run.py --python VENV/bin/python [--only EXAMPLE] [--verbose]

Each example runs with all components of palm, with one role of palm and the others of pylm, and with one role of pylm
and the others of palm; each mix with the client started last and first. Then pylm's client makes a thousand calls of a
palm server. Needs only Python, and pylm for the interpreter of `--python` (see setup-pylm.sh).
"""
import argparse
import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TARGET = os.environ.get('CARGO_TARGET_DIR', os.path.join(ROOT, 'target'))
TIMEOUT = 15

WORKERS = ['worker1', 'worker2']
PIPELINED = "Client got:  b'and I pipelined you sent me a message'"
CACHED = [(1, "b' cached data '")]
# The components in the order of their start, and the lines that the client prints, with their number.
EXAMPLES = {
    'server': (['server'], [(1, "Client got:  b'you sent me a message'")]),
    'parallel': (['master'] + WORKERS, [(10, r"b'(MyWorker@[^ ]+|[0-9a-f-]{36}) processed a message'")]),
    'cache': (['master'] + WORKERS, CACHED + [(10, r"b'worker[12] cached data a message'")]),
    'scatter': (['master'] + WORKERS, CACHED + [(30, r"b'worker[12] cached data a message'")]),
    'gather': (['master'] + WORKERS,
               CACHED + [(29, r"b'worker[12] cached data a message'"), (1, "b'final message'")]),
    'pipeline': (['server', 'pipeline'], [(1, PIPELINED)]),
    'tee': (['server', 'pipeline', 'silent_pipeline'], [(1, PIPELINED)]),
    'stream_control': (['server', 'even_pipeline', 'odd_pipeline'], [(5, PIPELINED)]),
    'sink': (['server', 'even_pipeline', 'odd_pipeline', 'sink'],
             [(10, "Client got:  b'and gathered and I pipelined you sent me a message'")]),
    'master_pipeline': (['master', 'pipeline'] + WORKERS,
                        [(10, r"b'and I pipelined worker[12] processed a message'")]),
    'hub': (['server', 'hub'] + WORKERS, [(1, r"Client got:  b'worker[12] processed you sent me a message'")]),
    'components': (['master'] + WORKERS, [(10, r"b'worker[12] processed a message'")]),
    'http_gateway': (['master', 'worker1'], [(1, "b'acknowledged'")]),
    'http_worker': (['web_worker', 'master'], [(10, "b'a message processed online'")]),
}
# The port of the last socket that a component binds, without the offset.
PORTS = {'server': 5555, 'master': 5559, 'pipeline': 5560, 'even_pipeline': 5560, 'silent_pipeline': 5570,
         'odd_pipeline': 5570, 'sink': 5580, 'hub': 5561, 'web_worker': 8888}
# pylm's lines have local times, and palm's the form of RFC 3339.
LOG = re.compile(r'^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.]\d{3}Z? - ')


def attempts(example, pylm):
    """Returns how often a mix may be tried.

    pylm's client subscribes when it sends, and pylm's publishers wait neither for it nor for the next step, so two
    thirds of the answers of a fast function are lost between them. palm cannot prevent that if both are pylm's."""
    publisher = {'pipeline': 'pipeline', 'tee': 'pipeline', 'stream_control': 'even_pipeline', 'sink': 'sink',
                 'master_pipeline': 'pipeline', 'hub': 'hub', 'http_worker': 'master'}.get(example, EXAMPLES[example][0][0])
    feeder = EXAMPLES[example][0][0]
    # A second attempt, because a busy machine may start a process too late.
    return 8 if 'client' in pylm and {publisher, feeder} & pylm else 2


def is_possible(example, order, pylm):
    """Returns whether a mix can work, whatever palm's components do.

    In `sink`, pylm's pipelines pass messages on to pylm's sink without waiting for it to subscribe, and the sink to
    pylm's client. If the client is there first, palm's server gives the pipelines all messages as soon as they
    subscribe, before the sink runs; only a client that starts more slowly than all of them receives any answer."""
    of_pylm = {'client', 'even_pipeline', 'odd_pipeline', 'sink'}
    return not (example == 'sink' and order == 'client first' and of_pylm <= pylm)


def listening(port, deadline):
    while time.monotonic() < deadline:
        try:
            socket.create_connection(('127.0.0.1', port), 0.2).close()
            return True
        except OSError:
            time.sleep(0.01)
    return False


class Processes:
    def __init__(self, python, offset, log):
        self.python, self.offset, self.log = python, offset, log
        self.children = []

    def start(self, example, role, by_pylm):
        if by_pylm:
            command = [self.python, '-u', os.path.join(HERE, 'roles.py'), example]
        else:
            command = [os.path.join(TARGET, 'debug', 'examples', example)]
        return self.spawn(role, command + [role, '--port-offset', str(self.offset)])

    def spawn(self, name, command):
        out = open(os.path.join(self.log, name), 'wb')
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self.children.append(child)
        return child

    def stop(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
        for child in self.children:
            child.wait()


def attempt(python, example, order, pylm, offset):
    """Runs one mix once; returns the problem, or None."""
    roles, expected = EXAMPLES[example]
    with tempfile.TemporaryDirectory() as log:
        processes = Processes(python, offset, log)
        try:
            deadline = time.monotonic() + TIMEOUT
            client = None
            if order == 'client first':
                client = processes.start(example, 'client', 'client' in pylm)
                time.sleep(0.3)
            for role in roles:
                processes.start(example, role, role in pylm)
                if role in PORTS and not listening(PORTS[role] + offset, deadline):
                    return '%s does not listen' % role
            if client is None:
                if 'server' in roles and 'server' in pylm:
                    # pylm's server loses its first message unless the next step has subscribed, and does not report it.
                    time.sleep(0.5)
                client = processes.start(example, 'client', 'client' in pylm)
            try:
                status = client.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                status = 'none: the client did not end'
        finally:
            processes.stop()
        with open(os.path.join(log, 'client'), errors='replace') as out:
            lines = [line.rstrip('\n') for line in out if not LOG.match(line)]
    wanted = sum(count for count, _ in expected)
    matching = all(sum(bool(re.fullmatch(line, seen)) for seen in lines) == count for count, line in expected)
    if status == 0 and len(lines) == wanted and matching:
        return None
    return 'exit status %s, %d of %d lines: %s' % (status, len(lines), wanted, ' | '.join(lines[-3:]))


def run(python, example, order, pylm, offset):
    begin = time.monotonic()
    tries = attempts(example, pylm)
    for number in range(1, tries + 1):
        problem = attempt(python, example, order, pylm, offset)
        if problem is None:
            break
    return problem, number, time.monotonic() - begin


def mixes(example):
    roles = EXAMPLES[example][0] + ['client']
    yield frozenset()
    for role in roles:
        yield frozenset(roles) - {role}
        yield frozenset([role])


def thousand_calls(python, offset):
    """Makes 1,000 calls of a palm server by pylm's client, one after another; returns the problem, or None."""
    code = '''
from pylm.clients import Client
client = Client('my_server', 'tcp://127.0.0.1:%d')
for number in range(1000):
    payload = str(number).encode()
    assert client.eval('my_server.echo', payload) == payload
print('done')
''' % (5555 + offset)
    with tempfile.TemporaryDirectory() as log:
        processes = Processes(python, offset, log)
        try:
            processes.start('server', 'server', False)
            if not listening(5555 + offset, time.monotonic() + TIMEOUT):
                return 'the server does not listen'
            done = subprocess.run([python, '-c', code], capture_output=True, text=True, timeout=180)
            return None if done.stdout.splitlines()[-1:] == ['done'] else done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            return 'an answer was lost: the client still waits'
        finally:
            processes.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', required=True, help='an interpreter that has pylm')
    parser.add_argument('--only', choices=sorted(EXAMPLES), help='run only this example')
    parser.add_argument('--verbose', action='store_true', help='print a line for each run, not only for failures')
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Not resolved: Python finds its virtual environment by the path of the interpreter.
    python = os.path.abspath(options.python)
    subprocess.run(['cargo', 'build', '--quiet', '--examples'], cwd=ROOT, check=True)

    runs = [(example, order, pylm)
            for example in EXAMPLES if options.only in (None, example)
            for pylm in mixes(example)
            for order in ('client last', 'client first')
            if is_possible(example, order, pylm)]
    passed, failed = 0, 0
    offsets = [3000, 6000, 9000]
    free = list(offsets)

    def job(entry):
        offset = free.pop()
        try:
            return run(python, *entry, offset)
        finally:
            free.append(offset)

    with concurrent.futures.ThreadPoolExecutor(len(offsets)) as pool:
        for entry, (problem, number, seconds) in zip(runs, pool.map(job, runs)):
            example, order, pylm = entry
            mix = 'pylm: ' + ', '.join(sorted(pylm)) if pylm else 'all palm'
            if problem or options.verbose:
                verdict = problem or 'ok' + (' at attempt %d' % number if number > 1 else '')
                print('%-15s %-12s %-60s %5.1f s  %s' % (example, order, mix, seconds, verdict), flush=True)
            passed += not problem
            failed += bool(problem)
    if options.only in (None, 'server'):
        problem = thousand_calls(python, offsets[0])
        print("pylm's client, 1,000 calls of a palm server: %s" % (problem or 'ok'), flush=True)
        passed += not problem
        failed += bool(problem)
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
