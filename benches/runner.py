#!/usr/bin/env python3
"""Measures `palm up`: its start, its logs, its own use of the machine, and the search in logs.

    benches/runner.py [start] [logs] [idle] [search] [--seconds N] [--writers N] [--rounds N]

Without names all are measured. It builds the command and the example `programs` with optimization; `--palm` and
`--programs` name built ones. Needs Linux and Python.
"""
import argparse
import contextlib
import glob
import gzip
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.environ.get('CARGO_TARGET_DIR', os.path.join(ROOT, 'target'))
TIMEOUT = 120
LINES_PER_SECOND = 10_000
# Writes as many lines of 100 bytes as it is told, so many at once.
WRITER = """
import os, sys, time
rate, seconds, portion = map(int, sys.argv[1:])
begin = time.monotonic()
for first in range(0, rate * seconds, portion):
    lines = ''.join('line %09d %s\\n' % (it, 'x' * 84) for it in range(first, first + portion))
    rest = memoryview(lines.encode())
    while rest:
        rest = rest[os.write(1, rest):]
    time.sleep(max(0, begin + (first + portion) / rate - time.monotonic()))
"""
COMPONENTS = """
[components.master]
kind = "master"
name = "images"
component = "images"
program = "PROGRAM"

[components.worker]
kind = "worker"
master = "master"
component = "Resizer"
program = "PROGRAM"
replicas = WORKERS
"""


class Cluster:
    """A cluster in a folder of its own, which is stopped at the end."""

    def __init__(self, options, components):
        self.options = options
        self.folder = tempfile.TemporaryDirectory()
        with open(os.path.join(self.folder.name, 'cluster.toml'), 'w') as file:
            file.write('name = "bench"\n' + components.replace('PROGRAM', options.programs))

    def palm(self, *arguments):
        done = subprocess.run([self.options.palm, *arguments], cwd=self.folder.name, stdout=subprocess.PIPE, text=True,
                              timeout=TIMEOUT)
        if done.returncode:
            sys.exit('palm %s: %d' % (' '.join(arguments), done.returncode))
        return done.stdout

    def runner(self):
        return json.loads(self.palm('ps', '-o', 'json'))['runner_pid']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([self.options.palm, 'down', '--kill'], cwd=self.folder.name, stdout=subprocess.DEVNULL)
        self.folder.cleanup()


def cpu_seconds(pid):
    """Processor time of the threads of a process, which all exist from its begin."""
    used = 0
    for path in glob.glob('/proc/%d/task/*/schedstat' % pid):
        with open(path) as file:
            used += int(file.read().split()[0])
    return used / 1e9


def memory_mib(pid, field='VmRSS'):
    with open('/proc/%d/status' % pid) as file:
        return int(re.search(field + r':\s+(\d+) kB', file.read())[1]) / 1024


def by_hand(options):
    """Starts a master, and three workers once it is ready; returns the time until all are ready."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        address = 'ipc://%s/master.db' % folder
        begin = time.monotonic()

        def start(name, *arguments):
            reports = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            reports.bind(os.path.join(folder, name))
            reports.settimeout(TIMEOUT)
            child = subprocess.Popen([options.programs, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     env=dict(os.environ, NOTIFY_SOCKET=os.path.join(folder, name)))
            stack.callback(child.wait)
            stack.callback(child.kill)
            return reports

        def until_ready(reports):
            while b'READY=1' not in reports.recv(4096):
                pass

        until_ready(start('master', 'master', 'images', '--bind', address))
        for reports in [start('worker%d' % number, 'worker', 'images', '--connect', address) for number in range(3)]:
            until_ready(reports)
        return time.monotonic() - begin


def start(options):
    by_palm, alone = [], []
    with Cluster(options, COMPONENTS.replace('WORKERS', '3')) as cluster:
        for _ in range(options.rounds):
            alone.append(by_hand(options))
            begin = time.monotonic()
            cluster.palm('up', '--wait')
            by_palm.append(time.monotonic() - begin)
            cluster.palm('down')
    more = [1000 * (palm - own) for palm, own in zip(by_palm, alone)]
    print('start: a master and three workers are ready after %.0f ms by hand and %.0f ms by `palm up --wait` (medians of %d);'
          ' the difference is %.0f ms, at most %.0f ms'
          % (1000 * statistics.median(alone), 1000 * statistics.median(by_palm), options.rounds,
             statistics.median(more), max(more)))


def logs(options):
    script = os.path.join(TARGET, 'palm-writer.py')
    with open(script, 'w') as file:
        file.write(WRITER)
    component = ('[components.writer]\nkind = "process"\nready = "running"\nrestart = { policy = "never" }\n'
                 'command = "%s"\nargs = ["%s", "%d", "%d", "%d"]\nreplicas = %d\n')
    rate = LINES_PER_SECOND // options.writers
    # Several writers write each line alone, as programs do; one writes what accumulates in 10 ms.
    portion = 1 if options.writers > 1 else rate // 100
    component %= (sys.executable, script, rate, options.seconds, portion, options.writers)
    with Cluster(options, component) as cluster:
        cluster.palm('up', '--wait')
        runner = cluster.runner()
        begin, used = time.monotonic(), cpu_seconds(runner)
        while any(it['state'] == 'ready' for it in json.loads(cluster.palm('ps', '-o', 'json'))['instances']):
            time.sleep(1)
        elapsed, used = time.monotonic() - begin, cpu_seconds(runner) - used
        memory = memory_mib(runner, 'VmHWM')
        cluster.palm('down')
        size = 0
        for index in range(options.writers):
            folder = os.path.join(cluster.folder.name, '.palm/logs/bench/writer/%d' % index)
            numbers = list(written(folder))
            size += sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
            if numbers != list(range(rate * options.seconds)):
                sys.exit('%d lines were written, and %d are kept' % (rate * options.seconds, len(numbers)))
    print('logs: %d lines of %d processes in %.0f s are all kept, in %.0f MB; the runner used %.1f %% of a processor,'
          ' and %.0f MiB at most'
          % (LINES_PER_SECOND * options.seconds, options.writers, elapsed, size / 1e6, 100 * used / elapsed, memory))


def written(folder):
    """Returns the numbers of all lines, in the order of the files."""
    def order(path):
        part = re.fullmatch(r'1\.log(?:\.(\d+)(?:\.gz)?)?', os.path.basename(path))[1]
        return int(part) if part else sys.maxsize

    for path in sorted(glob.glob(os.path.join(folder, '1.log*')), key=order):
        with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as file:
            for line in file:
                text = line.split(b' ', 3)[3]
                if text.startswith(b'line '):
                    yield int(text[5:14])


def idle(options):
    with Cluster(options, COMPONENTS.replace('WORKERS', '99')) as cluster:
        cluster.palm('up', '--wait')
        runner = cluster.runner()
        seconds = min(options.seconds, 60)
        # The start is over, and the first signs of life were sent.
        time.sleep(2)
        used = cpu_seconds(runner)
        time.sleep(seconds)
        used = cpu_seconds(runner) - used
        print('idle: the runner of 100 components has %.1f MiB, and uses %.2f %% of a processor'
              % (memory_mib(runner), 100 * used / seconds))


def search(options):
    patterns = ['needle-7', '^request 7777777 ', '[^ ]+ needle-7$', r'^request \d+ needle-[^ ]*$', 'absent', '^absent',
                r'^\w+ \d+ needle', r'^\d']
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, 'cluster.toml'), 'w') as file:
            file.write('name = "bench"\n[components.a]\nkind = "process"\ncommand = "true"\n')
        logs = os.path.join(folder, '.palm/logs/bench/a/0')
        os.makedirs(logs)
        total, number = 0, 0
        while total < 1 << 30:
            lines = []
            size = 0
            while size < 16 << 20:
                word = 'needle-%d' % (number // 1_000_000) if number % 1_000_000 == 0 else 'took 42 ms'
                lines.append('2026-11-28T12:%02d:%02d.%09dZ stdout F request %d of client %d %s path=/images/%d.png status=200\n'
                             % (number // 600_000 % 60, number // 10_000 % 60, number, number, number % 977, word, number % 7919)
                             if word[0] == 't' else
                             '2026-11-28T12:00:00.%09dZ stderr F request %d %s\n' % (number, number, word))
                size += len(lines[-1])
                number += 1
            total += size
            with open(os.path.join(logs, '1.log.%d' % (len(os.listdir(logs)) + 1)), 'w') as file:
                file.writelines(lines)
        print('search in %.2f GB, %d lines:' % (total / 1e9, number))
        for form in ('plain', 'compressed'):
            if form == 'compressed':
                files = glob.glob(os.path.join(logs, '1.log.*'))
                subprocess.run(['gzip', '-1'] + files, check=True)
            for pattern in patterns:
                times = []
                for _ in range(3):
                    begin = time.monotonic()
                    found = subprocess.run([options.palm, 'logs', '--grep', pattern], cwd=folder, stdout=subprocess.PIPE,
                                           check=True, timeout=TIMEOUT).stdout.count(b'\n')
                    times.append(time.monotonic() - begin)
                print('  %-10s %-28s %8d lines in %.2f s (%.2f to %.2f)'
                      % (form, pattern, found, statistics.median(times), min(times), max(times)), flush=True)


def main():
    measurements = {'start': start, 'logs': logs, 'idle': idle, 'search': search}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', choices=[[], *measurements], help='what is measured')
    parser.add_argument('--seconds', type=int, default=600, help='the duration of `logs` (600)')
    parser.add_argument('--writers', type=int, default=1, help='how many processes write in `logs` (1)')
    parser.add_argument('--rounds', type=int, default=10, help='how often `start` is measured (10)')
    parser.add_argument('--palm', help='the command; without it, it is built')
    parser.add_argument('--programs', help='the example; without it, it is built')
    options = parser.parse_args()
    if options.palm is None:
        subprocess.run(['cargo', 'build', '--release', '--quiet', '-p', 'palm-cli'], cwd=ROOT, check=True)
    if options.programs is None:
        subprocess.run(['cargo', 'build', '--release', '--quiet', '--example', 'programs'], cwd=ROOT, check=True)
    options.palm = os.path.abspath(options.palm or os.path.join(TARGET, 'release', 'palm'))
    options.programs = os.path.abspath(options.programs or os.path.join(TARGET, 'release', 'examples', 'programs'))
    for name in options.names or measurements:
        measurements[name](options)


if __name__ == '__main__':
    main()
