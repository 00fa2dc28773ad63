#!/usr/bin/env python3
"""Imports clusters from pylm-registry, and runs them with `palm up` as its own runner does.

    interop/registry.py --python VENV/bin/python [--palm PALM]

The registry runs as a peer. It receives each configuration that its package contains, and returns it; `palm import`
reads what it returns. `cluster.conf` is then run twice, by pylm-runner and by `palm up`, with a master and a worker of
pylm: a call must be answered by both, and the services must get the same flags, with the same sockets shared. Needs pylm
for the interpreter of `--python` (see setup-pylm.sh), into whose environment pylm-registry is installed.
"""
import argparse
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from ports import free_ports
from run import HERE, ROOT, TARGET

TIMEOUT = 60
PACKAGES = ['tornado==6.6.1', 'sqlalchemy==1.4.54', 'cryptography==50.0.2']
# The registry asks for the password of its administrator, on a terminal.
REGISTRY = ("import getpass; getpass.getpass = lambda prompt: 'secret'\n"
            'from pylm.registry.application import main; main()')
RUNNER = 'from pylm.registry.runner import main; main()'
NODE = '[DEFAULT]\nName = node\nIp = 127.0.0.1\nProcessors = 2\nPorts_from = %d\n'
# Scripts of cluster.conf, which the package does not contain.
SCRIPTS = ['valuation_standalone_master.py', 'valuation_worker.py']


class Failed(Exception):
    pass


def environment(python):
    return dict(os.environ, PATH=os.path.dirname(python) + os.pathsep + os.environ['PATH'],
                # The package has messages of an old protobuf.
                PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION='python')


def install(python):
    """Returns the folder of the package."""
    find = 'import pylm.registry; print(pylm.registry.__path__[0])'
    found = subprocess.run([python, '-c', find], capture_output=True, text=True)
    if found.returncode:
        pip = [python, '-m', 'pip', '--disable-pip-version-check', 'install', '--quiet']
        # Without its dependencies: it would replace pylm's.
        subprocess.run(pip + ['--no-deps', 'pylm-registry==0.4.14'], check=True)
        subprocess.run(pip + PACKAGES, check=True)
        found = subprocess.run([python, '-c', find], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def eventually(what, function):
    """Polls `function` until it returns something."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        with contextlib.suppress(OSError, sqlite3.Error):
            result = function()
            if result:
                return result
        if time.monotonic() > deadline:
            raise Failed(what)
        time.sleep(0.05)


class Registry:
    """The registry in a process of its own."""

    def __init__(self, python, folder):
        port = free_ports(1)
        self.url = 'http://127.0.0.1:%d' % port
        self.db = os.path.join(folder, 'registry.db')
        arguments = ['--db', 'sqlite:///' + self.db, '--port', str(port), '--sync']
        self.log = open(os.path.join(folder, 'registry.log'), 'w+')
        self.process = subprocess.Popen([python, '-c', REGISTRY] + arguments, env=environment(python),
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)
        try:
            self.key = eventually('the registry does not start', self.read_key)
            eventually('the registry does not answer', lambda: self.get(method='clusters_list'))
        except Failed:
            self.stop()
            raise

    def read_key(self):
        with contextlib.closing(sqlite3.connect(self.db)) as db:
            return next(iter(db.execute('select key from users')), [None])[0]

    def get(self, **arguments):
        url = '%s/cluster?%s' % (self.url, urllib.parse.urlencode(arguments))
        with urllib.request.urlopen(urllib.request.Request(url, headers={'Key': self.key}), timeout=TIMEOUT) as answer:
            return answer.read().decode()

    def stop(self):
        self.process.kill()
        self.process.wait()


def run(command, folder, python, succeeds=True):
    done = subprocess.run(command, cwd=folder, env=environment(python), capture_output=True, text=True, timeout=TIMEOUT)
    if succeeds and done.returncode:
        raise Failed('%s: %d\n%s%s' % (' '.join(command), done.returncode, done.stdout, done.stderr))
    return done.stdout


def imported(options, registry, name, folder):
    """Stores a configuration of the package in the registry, and writes the `cluster.toml` of what it returns."""
    with open(os.path.join(options.package, 'static', name + '.conf')) as file:
        registry.get(method='new_cluster', description=file.read(), key=name)
    stored = json.loads(registry.get(method='clusters_list'))[name]['description']
    with open(os.path.join(folder, 'stored.conf'), 'w') as file:
        file.write(stored)
    with open(os.path.join(folder, 'cluster.toml'), 'w') as file:
        file.write(run([options.palm, 'import', 'stored.conf'], folder, options.python))
    checked = run([options.palm, 'validate', '--offline'], folder, options.python)
    if 'no mistakes' not in checked:
        raise Failed('the imported file has mistakes:\n' + checked)


def answer(options, folder, address):
    """Calls the worker. A master of pylm answers at its `--db` before its publisher listens, and then loses an answer."""
    call = [options.palm, 'call', '--address', address, '--connect-timeout', str(TIMEOUT), '--timeout', '5',
            'valuation.value', 'one']
    return eventually('no call is answered at ' + address, lambda: run(call, folder, options.python, succeeds=False))


def shape(text):
    """Returns the arguments of each service, with a number for each address: equal numbers for equal addresses."""
    addresses = {}
    found = set()
    # The lines of several services have no order: that of the master is the longest.
    for line in sorted(re.findall(r'arguments: (.*)', text), key=lambda line: -len(line.split())):
        words = [addresses.setdefault(word, len(addresses)) if '://' in word else word for word in line.split()]
        found.add(tuple(words))
    return found


def by_pylm(options, registry, name, folder):
    """Runs the cluster with pylm's runner; returns the answer to a call, and the arguments of the services."""
    # The registry gives them to the sockets of the services.
    port = free_ports(5)
    with open(os.path.join(folder, 'node.conf'), 'w') as file:
        file.write(NODE % port)
    commands = json.loads(registry.get(method='node_config', cluster=name, node=NODE % port))
    registry.get(method='cluster_reset', cluster=name)
    db = next(re.search(r'--db (\S+)', command)[1] for command in commands)
    runner = subprocess.Popen([options.python, '-c', RUNNER, '--registry', registry.url, '--cluster', name,
                               '--config', 'node.conf'], cwd=folder, env=environment(options.python),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        found = answer(options, folder, db)
    finally:
        # The runner and its services: they are one session.
        os.killpg(runner.pid, 9)
        runner.wait()
    # The runner splits them in the same way. It loses lines of its services now and then, so these cannot be compared.
    return found, '\n'.join('arguments: ' + ' '.join(command.split()[2:]) for command in commands)


def by_palm(options, folder):
    try:
        run([options.palm, 'up', '--wait'], folder, options.python)
        plan = run([options.palm, 'plan'], folder, options.python)
        address = re.search(r'^valuation-master\.db = (\S+)$', plan, re.MULTILINE)[1]
        found = answer(options, folder, address)
        text = run([options.palm, 'logs'], folder, options.python)
    finally:
        run([options.palm, 'down'], folder, options.python, succeeds=False)
    return found, text


def valuation(options, registry, folder):
    for script in SCRIPTS:
        os.symlink(os.path.join(HERE, 'standalone.py'), os.path.join(folder, script))
    imported(options, registry, 'cluster', folder)
    palm, palm_text = by_palm(options, folder)
    pylm, pylm_text = by_pylm(options, registry, 'cluster', folder)
    if (palm, pylm) != ('valued one', 'valued one'):
        raise Failed('answer of palm up: %s, of pylm-runner: %s' % (palm, pylm))
    if len(shape(palm_text)) != 2 or shape(palm_text) != shape(pylm_text):
        raise Failed('the services were started differently:\n%s\n%s' % (palm_text, pylm_text))


def echo(options, registry, folder):
    """A process that only writes lines. The package contains its script."""
    os.symlink(os.path.join(options.package, 'static', 'echoer.py'), os.path.join(folder, 'echoer.py'))
    imported(options, registry, 'echo_cluster', folder)
    try:
        run([options.palm, 'up', '--wait'], folder, options.python)
        eventually('the lines of the process', lambda: 'Hi counter #2' in run(
            [options.palm, 'logs', 'echoer'], folder, options.python))
    finally:
        run([options.palm, 'down'], folder, options.python, succeeds=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', required=True, help='an interpreter that has pylm')
    parser.add_argument('--palm', help='the command; without it, it is built')
    options = parser.parse_args()
    # Not resolved: Python finds its virtual environment by the path of the interpreter.
    options.python = os.path.abspath(options.python)
    if options.palm is None:
        options.palm = os.path.join(TARGET, 'debug', 'palm')
        # With the examples, although none is needed, because then cargo uses the build that `cargo test` has made.
        subprocess.run(['cargo', 'build', '--quiet', '--bins', '--examples'], cwd=ROOT, check=True)
    options.palm = os.path.abspath(options.palm)
    options.package = install(options.python)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(options.python, folder)
        try:
            for test in (valuation, echo):
                own = os.path.join(folder, test.__name__)
                os.mkdir(own)
                try:
                    test(options, registry, own)
                    problem = 'passed'
                except (Failed, subprocess.TimeoutExpired) as error:
                    failed += 1
                    problem = 'FAILED: %s' % error
                print('%-10s %s' % (test.__name__, problem), flush=True)
        finally:
            registry.stop()
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
