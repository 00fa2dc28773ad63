#!/usr/bin/env python3
"""Tests the HTTP gateway of a master with curl and schemathesis.

    interop/http_api.py [--seconds N]

Runs the example `http_api`. schemathesis makes valid and invalid requests from /openapi.json, and checks each response
against it; curl tests HTTP/2, streams, and requests that schemathesis does not make.
Needs curl and, for the first run, a network: schemathesis is installed into a virtual environment in cargo's target
directory. (A file called `http.py` would hide the module `http` of Python from the other scripts here.)
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from run import TIMEOUT, ROOT, TARGET, Processes, listening

SCHEMATHESIS = 'schemathesis==4.32.5'
VENV = os.path.join(TARGET, 'schemathesis')
# Distinct from the ports of the other scripts.
OFFSET = 15000
HTTP = 8888 + OFFSET
URL = 'http://127.0.0.1:%d' % HTTP
# The functions of the worker.
PATHS = ['/' + name for name in ('count', 'echo', 'greet', 'languages', 'note', 'reverse', 'words')]


def schemathesis():
    """Returns the command; installs it if necessary."""
    command = os.path.join(VENV, 'bin', 'schemathesis')
    if not os.path.exists(command):
        subprocess.run([sys.executable, '-m', 'venv', VENV], check=True)
        pip = [os.path.join(VENV, 'bin', 'pip'), 'install', '--quiet', '--disable-pip-version-check', SCHEMATHESIS]
        subprocess.run(pip, check=True)
    return command


def curl(path, *options, data=None):
    """Returns status, HTTP version, media type and body of a response; or curl's exit status if it fails."""
    form = '\n%{http_code} %{http_version} %{content_type}'
    command = ['curl', '--silent', '--show-error', '--max-time', '10', '--write-out', form, *options, URL + path]
    if data is not None:
        command[1:1] = ['--data-binary', '@-']
    done = subprocess.run(command, input=data or b'', stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return done.returncode, 'curl failed', '', done.stdout
    body, _, written = done.stdout.rpartition(b'\n')
    status, version, content = (written.decode().split(' ', 2) + [''])[:3]
    return int(status), version, content, body


def described():
    """Waits until the worker has registered its functions; returns whether it has."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if listening(HTTP, deadline):
            status, _, _, body = curl('/openapi.json')
            paths = json.loads(body)['paths'] if status == 200 else {}
            if sorted(set(paths) & set(PATHS)) == PATHS:
                return True
        time.sleep(0.1)
    return False


def requests():
    """Yields the name, the response and the expected response of each request by curl."""
    h1, h2 = ['--http1.1'], ['--http2-prior-knowledge']
    lines = ['-H', 'accept: application/x-ndjson']
    events = ['-H', 'accept: text/event-stream']
    large = os.urandom(1 << 20)
    text, octets, problem = 'text/plain; charset=utf-8', 'application/octet-stream', 'application/problem+json'
    for name, path, options, data, expected in [
        ('text, HTTP/1.1', '/greet', h1, b'World', (200, '1.1', text, b'Hello, World!')),
        ('text, HTTP/2', '/greet', h2, b'World', (200, '2', text, b'Hello, World!')),
        ('GET, HTTP/2', '/languages', h2, None, (200, '2', 'application/json', b'["en"]')),
        ('HEAD of health', '/healthz', h2 + ['--head', '--output', '/dev/null'], None,
         (200, '2', 'application/json', b'')),
        ('1 MiB, HTTP/1.1', '/texts.reverse', h1, large, (200, '1.1', octets, large[::-1])),
        ('1 MiB, HTTP/2', '/texts.reverse', h2, large, (200, '2', octets, large[::-1])),
        ('chunks, HTTP/1.1', '/reverse', h1 + ['-H', 'transfer-encoding: chunked'], b'abc', (200, '1.1', octets, b'cba')),
        ('lines, HTTP/2', '/words', h2 + lines, b'one two', (200, '2', 'application/x-ndjson', b'"one"\n"two"\n')),
        ('events, HTTP/2', '/words', h2 + events, b'one',
         (200, '2', 'text/event-stream', b'data: "one"\n\nevent: end\ndata: 1\n\n')),
        ('nothing given', '/note', h2, b'a', (204, '2', '', b'')),
        ('no JSON', '/count', h2, b'{', (400, '2', problem, None)),
        ('no UTF-8', '/greet', h2, b'\xff', (400, '2', problem, None)),
        ('no function', '/none', h2, b'a', (404, '2', problem, None)),
        ('no method', '/greet', h2 + ['-X', 'DELETE'], None, (405, '2', problem, None)),
        ('no time', '/greet', h2 + ['-H', 'palm-timeout: 0'], b'a', (504, '2', problem, None)),
    ]:
        yield name, curl(path, *options, data=data), expected


def differs(response, expected):
    *head, body = response
    *expected_head, expected_body = expected
    if head != expected_head:
        return 'it is %s, not %s: %r' % (head, expected_head, body[:300])
    if expected_body is not None and body != expected_body:
        return 'the body is %r, not %r' % (body[:100], expected_body[:100])
    if expected_body is None and json.loads(body)['status'] != head[0]:
        return 'the problem has another status: %r' % body
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=int, default=60, help='how long schemathesis may take (default: 60)')
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    command = schemathesis()
    subprocess.run(['cargo', 'build', '--quiet', '--example', 'http_api'], cwd=ROOT, check=True)
    passed, failed = 0, []
    with tempfile.TemporaryDirectory() as log:
        processes = Processes(None, OFFSET, log)
        try:
            processes.start('http_api', 'master', False)
            processes.start('http_api', 'worker', False)
            if not described():
                failed.append('the worker does not register its functions')
            else:
                for name, response, expected in requests():
                    problem = differs(response, expected)
                    if problem:
                        failed.append('curl: %s: %s' % (name, problem))
                        print(failed[-1], flush=True)
                    passed += not problem
                # In the temporary folder schemathesis finds no configuration, and stores its examples.
                done = subprocess.run(
                    [command, 'run', URL + '/openapi.json', '--checks', 'all', '--max-time', str(options.seconds),
                     '--continue-on-failure', '--suppress-health-check', 'all', '--request-timeout', '10',
                     '--generation-database', 'none', '--seed', '1', '--no-color'],
                    cwd=log, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    timeout=options.seconds + 120)
                print(done.stdout, flush=True)
                passed += done.returncode == 0
                if done.returncode != 0:
                    failed.append('schemathesis ended with %d' % done.returncode)
                cases = re.search(r'(\d+) generated', done.stdout)
                print('schemathesis: all checks on %d functions, %s requests' % (len(PATHS), cases[1] if cases else '?'))
        finally:
            processes.stop()
        if failed:
            for name in ('master', 'worker'):
                with open(os.path.join(log, name), errors='replace') as out:
                    print('%s:\n%s' % (name, out.read()[-2000:]))
    print('curl: HTTP/1.1, HTTP/2, streams, statuses; schemathesis: the description')
    for problem in failed:
        print('failed: ' + problem)
    print('%d passed, %d failed' % (passed, len(failed)))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
