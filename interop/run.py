#!/usr/bin/env python3
"""Runs every example with some components of palm and some of pylm, and checks what the client prints.

    cargo build --examples
    interop/setup-pylm.sh /tmp/pylm
    interop/run.py --pylm /tmp/pylm

For each example: all components are palm's; all but one are; all but one are pylm's. Each with the
components started first, and with the client started first. One line a run; the last line counts
them, and the exit status is 0 when none failed.
"""
import argparse
import collections
import concurrent.futures
import itertools
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
UUID = '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}'
LOG = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - ')

# The components in the order in which messages pass, each with the port of its cache service, which
# is open when it runs; and what the client prints: a regular expression, and how many lines match it.
SERVER, MASTER = ('server', 5555), ('master', 5559)
WORKERS = [('worker1', None), ('worker2', None)]
EVEN, ODD = ('even_pipeline', 5560), ('odd_pipeline', 5570)
PIPELINED = r"Client got:  b'and I pipelined you sent me a message'"
CACHED = {r"b' cached data '": 1}
EXAMPLES = {
    'server': ([SERVER], {r"Client got:  b'you sent me a message'": 1}),
    'calls': ([SERVER], {r'1000 answers, 0 lost': 1}),
    'parallel': ([MASTER, *WORKERS], {rf"b'{UUID} processed a message'": 10}),
    'cache': ([MASTER, *WORKERS], {**CACHED, r"b'worker[12] cached data a message'": 10}),
    'scatter': ([MASTER, *WORKERS], {**CACHED, r"b'worker[12] cached data a message'": 30}),
    'gather': ([MASTER, *WORKERS], {**CACHED, r"b'worker[12] cached data a message'": 29,
                                    r"b'final message'": 1}),
    'pipeline': ([SERVER, ('pipeline', 5560)], {PIPELINED: 1}),
    'tee': ([SERVER, ('pipeline', 5560), ('silent_pipeline', 5570)], {PIPELINED: 1}),
    'stream_control': ([SERVER, EVEN, ODD], {PIPELINED: 5}),
    'sink': ([SERVER, EVEN, ODD, ('sink', 5580)],
             {r"Client got:  b'and gathered and I pipelined you sent me a message'": 10}),
    'master_pipeline': ([MASTER, ('pipeline', 5560), *WORKERS],
                        {r"b'and I pipelined worker[12] processed a message'": 10}),
    'hub': ([SERVER, ('hub', 5561), *WORKERS],
            {r"Client got:  b'worker[12] processed you sent me a message'": 1}),
    'components': ([MASTER, *WORKERS], {r"b'worker[12] processed a message'": 10}),
}

PALM, PYLM = 'palm', 'pylm'


class Run:
    """One example, with one mix of components, in one order."""

    def __init__(self, example, usual, other, client_first):
        self.example = example
        self.servers, self.lines = EXAMPLES[example]
        self.client_first = client_first
        roles = [role for role, _ in self.servers] + ['client']
        self.made_by = {role: usual for role in roles}
        if other:
            self.made_by[other] = PYLM if usual == PALM else PALM
        self.name = '%s: %s%s, %s first' % (
            example, usual, ', %s %s' % (self.made_by[other], other) if other else '',
            'client' if client_first else 'servers')

    def expected(self, printed):
        lines = [line for line in printed.splitlines() if not LOG.match(line)]
        counts = {pattern: sum(1 for line in lines if re.fullmatch(pattern, line))
                  for pattern in self.lines}
        return counts == self.lines and len(lines) == sum(counts.values())


def all_runs():
    seen = set()
    for example, (servers, _) in EXAMPLES.items():
        roles = [role for role, _ in servers] + ['client']
        mixes = [(PALM, None)] + [(usual, role) for usual in (PALM, PYLM) for role in roles]
        for (usual, other), client_first in itertools.product(mixes, (False, True)):
            run = Run(example, usual, other, client_first)
            key = (example, client_first, *run.made_by.items())
            if key not in seen:      # with two components, each is all but the other
                seen.add(key)
                yield run


class Processes:
    """The processes of a run, on ports of their own."""

    def __init__(self, options, example):
        self.options = options
        self.example = example
        self.offset = options.ports.take()
        self.running = {}
        self.folder = tempfile.TemporaryDirectory(prefix='palm-interop-')

    def start(self, role, made_by):
        if made_by == PALM:
            command = [self.options.examples / self.example]
        else:
            command = [self.options.pylm / 'bin' / 'python', '-u', HERE / 'pylm' / 'roles.py',
                       self.example]
        command += [role, '--port-offset', str(self.offset)]
        with open(self.log_path(role), 'wb') as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT)
        self.running[role] = (process, made_by)
        return process

    def wait_until_ready(self, role, port):
        """A worker, which has no port, is not waited for: its master does that."""
        process, _ = self.running[role]
        deadline = time.monotonic() + self.options.patience
        while port is not None:
            try:
                socket.create_connection(('127.0.0.1', port + self.offset), 1).close()
                return
            except OSError:
                if process.poll() is not None:
                    raise Failure('%s ended' % role) from None
                if time.monotonic() > deadline:
                    raise Failure('%s is not ready' % role) from None
                time.sleep(0.01)

    def log_path(self, role):
        return os.path.join(self.folder.name, role)

    def log(self, role):
        with open(self.log_path(role), errors='replace') as log:
            return log.read()

    def stop(self):
        """Ends all that still run. Those of palm do it in order, so their exit status counts."""
        for process, _ in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        problems = []
        for role, (process, made_by) in self.running.items():
            try:
                status = process.wait(self.options.patience)
            except subprocess.TimeoutExpired:
                process.kill()
                status = 'none, it had to be killed'
                process.wait()
            if made_by == PALM and status != 0:
                problems.append('exit status of %s: %s' % (role, status))
        self.options.ports.give_back(self.offset)
        return problems


class Ports:
    """Ranges of ports, none of which two runs have at the same time."""

    def __init__(self):
        self.lock = threading.Lock()
        # Below the ports that the system gives to outgoing connections.
        self.offsets = collections.deque(range(14_000, 27_000, 40))

    def take(self):
        with self.lock:
            while True:
                offset = self.offsets.popleft()
                if all(self.is_free(port + offset) for port in range(5555, 5582)):
                    return offset

    def give_back(self, offset):
        with self.lock:
            self.offsets.append(offset)

    @staticmethod
    def is_free(port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('127.0.0.1', port))
                return True
            except OSError:
                return False


class Failure(Exception):
    """What went wrong in a run."""


def attempt(run, options):
    """Runs it once. Returns what went wrong, and what everybody printed, or `None`."""
    processes = Processes(options, run.example)
    problems = []
    try:
        if run.client_first:
            client = processes.start('client', run.made_by['client'])
            time.sleep(options.gap)
            for role, port in run.servers:
                processes.start(role, run.made_by[role])
                processes.wait_until_ready(role, port)
        else:
            for role, _ in run.servers:
                processes.start(role, run.made_by[role])
            for role, port in run.servers:
                processes.wait_until_ready(role, port)
            client = processes.start('client', run.made_by['client'])
        client.wait(options.patience)
    except subprocess.TimeoutExpired:
        problems.append('the client hangs')
        client.kill()
        client.wait()
        del processes.running['client']
    except Failure as failure:
        problems.append(str(failure))
    problems += processes.stop()
    if not problems and not run.expected(processes.log('client')):
        problems.append('the client prints something else')
    if not problems:
        return None
    roles = [role for role, _ in run.servers] + ['client']
    logs = ['    %-16s %s' % (role, line) for role in roles
            if os.path.exists(processes.log_path(role))
            for line in processes.log(role).splitlines()[-options.tail:]]
    return ', '.join(problems), logs


def execute(run, options):
    start = time.monotonic()
    problem = attempt(run, options)
    seconds = time.monotonic() - start
    with options.printing:
        if problem is None:
            print('ok    %5.2f s  %s' % (seconds, run.name))
        else:
            print('FAIL  %5.2f s  %s: %s' % (seconds, run.name, problem[0]))
            for line in problem[1]:
                print(line)
        sys.stdout.flush()
    return problem is None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    arguments.add_argument('--pylm', type=pathlib.Path, required=True, metavar='VENV',
                           help='what setup-pylm.sh made')
    arguments.add_argument('--examples', type=pathlib.Path, metavar='FOLDER',
                           help="where cargo's examples are; default: of the debug build")
    arguments.add_argument('--only', default='', metavar='TEXT',
                           help='only runs with this text in their name')
    arguments.add_argument('--repeat', type=int, default=1, metavar='N')
    arguments.add_argument('--jobs', type=int, default=2, metavar='N', help='runs at a time')
    arguments.add_argument('--gap', type=float, default=0.4, metavar='SECONDS',
                           help='head start of a client that is first')
    arguments.add_argument('--patience', type=float, default=8, metavar='SECONDS',
                           help='longest wait for a process')
    arguments.add_argument('--tail', type=int, default=6, metavar='LINES',
                           help='lines of each log that are printed after a failure')
    options = arguments.parse_args()
    target = os.environ.get('CARGO_TARGET_DIR', HERE.parent / 'target')
    options.examples = (options.examples or pathlib.Path(target, 'debug', 'examples')).resolve()
    options.pylm = options.pylm.absolute()
    options.ports = Ports()
    options.printing = threading.Lock()

    runs = [run for run in all_runs() if options.only in run.name] * options.repeat
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        passed = list(pool.map(lambda run: execute(run, options), runs))
    print('%d passed, %d failed' % (passed.count(True), passed.count(False)))
    return 0 if all(passed) else 1


if __name__ == '__main__':
    sys.exit(main())
