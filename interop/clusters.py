#!/usr/bin/env python3
"""Runs the documented examples as clusters of `palm up`, and checks the output of their clients.

    interop/clusters.py --python VENV/bin/python [--only EXAMPLE] [--palm PALM]

Each example is a `cluster.toml` whose components are commands at the documented addresses. It runs with all components
of palm, with all of pylm, and with pylm's workers or steps downstream of palm's first component. `parallel` also runs with
one worker in C++ and one of pylm. Needs Python, pylm for the interpreter of `--python` (see setup-pylm.sh), and for the
worker in C++ what other_languages.py needs.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

import other_languages
from run import EXAMPLES, HERE, LOG, PORTS, ROOT, TARGET

# Time within which a cluster and its client are done, in seconds.
TIMEOUT = 15
KINDS = {'server': 'server', 'master': 'master', 'hub': 'hub', 'sink': 'sink', 'web_worker': 'process',
         'worker1': 'worker', 'worker2': 'worker', 'client': 'job'}
# The component upstream; of the others it is the first one of the example.
UPSTREAM = {('sink', 'sink'): ['even_pipeline', 'odd_pipeline'], ('hub', 'worker1'): ['hub'], ('hub', 'worker2'): ['hub']}


def texts(values):
    return '[%s]' % ', '.join('"%s"' % value for value in values)


# The cluster with a worker in C++, whose name is `cpp`.
CPP = 'worker1'
CPP_LINE = "b'cpp processed a message'"


def component(python, example, role, pylm, offset):
    first = EXAMPLES[example][0][0]
    kind = KINDS.get(role, 'pipeline')
    if (example, role) == ('http_worker', 'master'):
        # Its worker is a web service, and none of the graph.
        kind = 'server'
    lines = ['[components.%s]' % role, 'kind = "%s"' % kind]
    upstream = UPSTREAM.get((example, role), [first])
    if kind == 'worker':
        lines.append('master = "%s"' % upstream[0])
    elif kind in ('pipeline', 'hub', 'sink'):
        lines.append('from = ' + texts(upstream))
    if role in PORTS:
        lines.append('address = "tcp://127.0.0.1:%d"' % (PORTS[role] + offset))
    if kind == 'job':
        # pylm's publishers do not wait for the components that follow, so all have to be ready.
        lines.append('after = ' + texts(EXAMPLES[example][0]))
        lines.append('restart = "never"')
    program = [os.path.join(TARGET, 'debug', 'examples', example)]
    if role in pylm:
        program = [python, '-u', os.path.join(HERE, 'roles.py'), example]
    command, *args = program + [role, '--port-offset', str(offset)]
    return definition(lines, command, args)


def definition(lines, command, args):
    return '\n'.join(lines + ['command = "%s"' % command, 'args = ' + texts(args)])


def cpp_worker():
    """The worker in C++: it learns the address of its master from a placeholder."""
    lines = ['[components.%s]' % CPP, 'kind = "worker"', 'master = "master"']
    program = os.path.join(other_languages.FOLDER, 'build', 'worker')
    return definition(lines, program, ['cpp', '{master.db}'])


def palm(options, folder, *arguments):
    return subprocess.run([options.palm, *arguments], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT)


def attempt(options, example, pylm, offset):
    """Runs one mix once; returns the problem, or None."""
    roles, expected = EXAMPLES[example]
    with tempfile.TemporaryDirectory() as folder:
        parts = ['name = "%s"' % example] + [component(options.python, example, role, pylm, offset) for role in roles + ['client']]
        with open(os.path.join(folder, 'cluster.toml'), 'w') as file:
            file.write('\n\n'.join(parts) + '\n')
        checked = palm(options, folder, 'validate', '--offline')
        if checked.returncode or 'no mistakes' not in checked.stdout:
            return checked.stdout + checked.stderr
        try:
            up = palm(options, folder, 'up', '--wait')
            log = palm(options, folder, 'logs', 'client').stdout
        except subprocess.TimeoutExpired:
            return 'the client did not end'
        finally:
            palm(options, folder, 'down')
    lines = printed(log)
    wanted = sum(count for count, _ in expected)
    matching = all(sum(bool(re.fullmatch(line, seen)) for seen in lines) == count for count, line in expected)
    if up.returncode == 0 and len(lines) == wanted and matching:
        return None
    return 'palm up: %d %s\n%d of %d lines: %s' % (up.returncode, up.stderr.strip(), len(lines), wanted, ' | '.join(lines[-3:]))


def printed(log):
    """Returns the lines of a client, without log lines and what palm says about its end."""
    lines = [line.split(' | ', 1)[-1] for line in log.splitlines()]
    return [line for line in lines if not LOG.match(line) and not line.startswith('palm: ')]


def with_cpp(options, offset):
    """Runs `parallel` with a worker in C++ and one of pylm until both have answered; returns the problem, or None."""
    roles, [(count, line)] = EXAMPLES['parallel']
    with tempfile.TemporaryDirectory() as folder:
        parts = ['name = "cpp"', cpp_worker()]
        others = [role for role in roles if role != CPP] + ['client']
        parts += [component(options.python, 'parallel', role, {'worker2'}, offset) for role in others]
        with open(os.path.join(folder, 'cluster.toml'), 'w') as file:
            file.write('\n\n'.join(parts) + '\n')
        deadline = time.monotonic() + 4 * TIMEOUT
        try:
            done = palm(options, folder, 'up', '--wait')
            jobs = 1
            while True:
                lines = printed(palm(options, folder, 'logs', 'client').stdout)
                strange = [it for it in lines if it != CPP_LINE and not re.fullmatch(line, it)]
                if done.returncode or strange or len(lines) != jobs * count:
                    return '%d: %s%s\n%d of %d lines' % (done.returncode, done.stderr, strange, len(lines), jobs * count)
                if 0 < lines.count(CPP_LINE) < len(lines):
                    break
                if time.monotonic() > deadline:
                    return 'after %d jobs, %d of %d answers are of the worker in C++' % (
                        jobs, lines.count(CPP_LINE), len(lines))
                done = palm(options, folder, 'restart', 'client')
                if done.returncode == 0:
                    # The command before this one does not wait for the end of a job.
                    done = palm(options, folder, 'status', '--wait')
                jobs += 1
        except subprocess.TimeoutExpired:
            return 'the client did not end'
        finally:
            palm(options, folder, 'down')
        log = palm(options, folder, 'logs', CPP).stdout
        ended = 'palm: run 1 of %s/0 exited with 0' % CPP
        return None if ended in log else 'the worker in C++ did not end after SIGTERM:\n' + log


def mixes(example):
    roles = EXAMPLES[example][0]
    yield 'palm', frozenset()
    yield 'pylm', frozenset(roles + ['client'])
    yield 'mixed', frozenset(roles[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', required=True, help='an interpreter that has pylm')
    parser.add_argument('--only', choices=sorted(EXAMPLES), help='run only this example')
    parser.add_argument('--palm', help='the command; without it, it is built')
    options = parser.parse_args()
    # Not resolved: Python finds its virtual environment by the path of the interpreter.
    options.python = os.path.abspath(options.python)
    if options.palm is None:
        options.palm = os.path.join(TARGET, 'debug', 'palm')
        subprocess.run(['cargo', 'build', '--quiet', '--bins', '--examples'], cwd=ROOT, check=True)
    options.palm = os.path.abspath(options.palm)
    failed = 0
    for example in EXAMPLES:
        for name, pylm in mixes(example) if options.only in (None, example) else ():
            # pylm loses answers of a client that subscribes while it sends, see run.py.
            for _ in range(8 if 'client' in pylm else 2):
                problem = attempt(options, example, pylm, 3000)
                if problem is None:
                    break
            failed += problem is not None
            print('%-16s %-6s %s' % (example, name, problem or 'passed'), flush=True)
    if options.only in (None, 'parallel'):
        problem = with_cpp(options, 3000) if other_languages.build() else 'the workers cannot be built'
        failed += problem is not None
        print('%-16s %-6s %s' % ('parallel', 'C++', problem or 'passed'), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
