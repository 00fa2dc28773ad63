#!/usr/bin/env python3
"""Builds and tests the workers of examples/other_languages.

    interop/other_languages.py

Runs the example `parallel` with three workers, in C++, Python and Rust: each job must receive ten answers, and each
worker must answer. Then runs the tests in `tests/it/other_languages.rs`.
examples/other_languages/README.md lists the requirements; on Debian, as root, the script installs them.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from run import PORTS, ROOT, Processes, listening

FOLDER = os.path.join(ROOT, 'examples', 'other_languages')
PACKAGES = 'g++ make pkg-config protobuf-compiler libprotobuf-dev libzmq3-dev cppzmq-dev python3-venv'
# Distinct from the ports of run.py.
OFFSET = 12000
TIMEOUT = 60
LINE = re.compile(r"b'(cpp|python|MyWorker@[^ ]+) processed a message'")


def build():
    make = ['make', '--no-print-directory', '-C', FOLDER]
    done = subprocess.run(make, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return True
    if not (shutil.which('apt-get') and os.geteuid() == 0):
        print(done.stdout)
        return False
    environment = dict(os.environ, DEBIAN_FRONTEND='noninteractive')
    for command in ['update -qq', 'install -y -qq --no-install-recommends ' + PACKAGES]:
        subprocess.run(['apt-get'] + command.split(), env=environment, stdout=subprocess.DEVNULL, check=False)
    return subprocess.run(make).returncode == 0


def share(log):
    """Runs clients until each worker has answered; returns the number of answers of each, and the problem if any."""
    processes = Processes(None, OFFSET, log)
    at = 'tcp://127.0.0.1:%d' % (PORTS['master'] + OFFSET)
    answers = {}
    try:
        # The workers are started before the master: they ask until it answers.
        processes.spawn('cpp', [os.path.join(FOLDER, 'build', 'worker'), 'cpp', at])
        python = os.path.join(FOLDER, 'build', 'venv', 'bin', 'python')
        processes.spawn('python', [python, os.path.join(FOLDER, 'worker.py'), 'python', at])
        deadline = time.monotonic() + TIMEOUT
        processes.start('parallel', 'master', False)
        if not listening(PORTS['master'] + OFFSET, deadline):
            return None, 'the master does not listen'
        processes.start('parallel', 'worker1', False)
        while len(answers) < 3:
            client = processes.start('parallel', 'client', False)
            try:
                status = client.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                return None, 'within %d s only these have answered: %s' % (TIMEOUT, answers)
            with open(os.path.join(log, 'client')) as out:
                lines = [LINE.fullmatch(line) for line in out.read().splitlines() if line.startswith("b'")]
            if status != 0 or len(lines) != 10 or not all(lines):
                return None, 'a client ended with %s and %d answers' % (status, len(lines))
            for line in lines:
                name = line[1] if line[1] in ('cpp', 'python') else 'rust'
                answers[name] = answers.get(name, 0) + 1
        foreign = processes.children[:2]
        for worker in foreign:
            worker.terminate()
        statuses = [worker.wait(TIMEOUT) for worker in foreign]
        return answers, None if statuses == [0, 0] else 'after SIGTERM, the workers ended with %s' % statuses
    except subprocess.TimeoutExpired:
        return None, 'a worker does not stop after SIGTERM'
    finally:
        processes.stop()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if not build():
        print('0 passed, 1 failed: the workers cannot be built')
        return 1
    subprocess.run(['cargo', 'build', '--quiet', '--examples'], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as log:
        answers, problem = share(log)
        if problem:
            for name in ('cpp', 'python', 'master', 'client'):
                with open(os.path.join(log, name), errors='replace') as out:
                    print('%s:\n%s' % (name, out.read()))
    print('parallel with workers in C++, Python and Rust: %s' % (problem or 'ok, %s' % answers), flush=True)
    tests = ['cargo', 'test', '--test', 'it', '--', '--ignored', 'other_languages']
    failed = bool(problem) + bool(subprocess.run(tests, cwd=ROOT).returncode)
    print('%d passed, %d failed' % (2 - failed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
