#!/usr/bin/env python3
"""One component of a documented example, implemented with pylm.

    roles.py EXAMPLE ROLE [--port-offset N]

The counterpart of `cargo run --example EXAMPLE -- ROLE`: the same names, ports and output.
"""
import argparse
import itertools
import logging
import time
import uuid

from pylm.clients import Client
from pylm.parts.servers import ServerTemplate
from pylm.parts.services import (CacheService, PubService, PullService, WorkerPullService,
                                 WorkerPushService)
from pylm.servers import Hub, Master, Pipeline, Server, Sink, Worker

arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument('example')
arguments.add_argument('role')
arguments.add_argument('--port-offset', type=int, default=0)
arguments = arguments.parse_args()
EXAMPLE, ROLE = arguments.example, arguments.role


def at(port):
    return 'tcp://127.0.0.1:%d' % (port + arguments.port_offset)


class AnswersSent(Server):
    def foo(self, message):
        return b'you sent me ' + message


class Alternating(AnswersSent):
    """Publishes under the topics even and odd alternately."""
    count = 0

    def handle_stream(self, message):
        self.count += 1
        message.stage += 1
        return ('odd', 'even')[self.count % 2], message


class Pipelined(Pipeline):
    def foo(self, message):
        return b'and I pipelined ' + message


class Silent(Pipeline):
    def foo(self, message):
        pass


class Gathered(Sink):
    def foo(self, message):
        return b'and gathered ' + message


class Processes(Worker):
    def foo(self, message):
        return self.name.encode() + b' processed ' + message


class AddsCached(Worker):
    def foo(self, message):
        return self.name.encode() + self.get('cached') + message


class Acknowledging(Worker):
    def function(self, message):
        return b'acknowledged'


class Tripling(Master):
    def scatter(self, message):
        return itertools.repeat(message, 3)


class Finishing(Tripling):
    """Replaces the thirtieth result, the last one."""
    count = 0

    def gather(self, message):
        self.count += 1
        if self.count == 30:
            message = self.change_payload(message, b'final message')
        yield message


def server(kind=AnswersSent, name='my_server', **options):
    return kind(name, db_address=at(5555), pull_address=at(5556), pub_address=at(5557), **options)


def master(kind=Master, **options):
    return kind('server', pull_address=at(5555), pub_address=at(5556), worker_pull_address=at(5557),
                worker_push_address=at(5558), db_address=at(5559), **options)


def pipeline(kind=Pipelined, number=0, before=5557, previous='my_server', to_client=True):
    return kind('my_pipeline', db_address=at(5560 + 10 * number), sub_address=at(before),
                pub_address=at(5561 + 10 * number), previous=previous, to_client=to_client)


def from_parts():
    template = ServerTemplate()
    template.register_inbound(PullService, 'Pull', at(5555), route='WorkerPush')
    template.register_inbound(WorkerPullService, 'WorkerPull', at(5557), route='Pub')
    template.register_outbound(WorkerPushService, 'WorkerPush', at(5558))
    template.register_outbound(PubService, 'Pub', at(5556))
    template.register_bypass(CacheService, 'Cache', at(5559))
    template.preset_cache(name='server', db_address=at(5559), pull_address=at(5555), pub_address=at(5556),
                          worker_pull_address=at(5557), worker_push_address=at(5558))
    return template


# HTTP modules are imported on demand: pylm's clients do not wait long for components that start after them.

def behind_http():
    from pylm.parts.gateways import GatewayDealer, GatewayRouter, HttpGateway
    template = ServerTemplate()
    inside = 'inproc://gateway_router'
    template.register_inbound(GatewayRouter, 'gateway_router', inside, route='WorkerPush')
    template.register_outbound(GatewayDealer, 'gateway_dealer', listen_address=inside)
    template.register_bypass(HttpGateway, name='HttpGateway', listen_address=inside, hostname='localhost',
                             port=8888 + arguments.port_offset)
    template.register_inbound(WorkerPullService, 'WorkerPull', at(5557), route='gateway_dealer')
    template.register_outbound(WorkerPushService, 'WorkerPush', at(5558))
    template.register_bypass(CacheService, 'Cache', at(5559))
    template.preset_cache(name='server', db_address=at(5559), worker_pull_address=at(5557),
                          worker_push_address=at(5558))
    return template


def in_front_of_http():
    from pylm.parts.connections import HttpConnection
    template = ServerTemplate()
    template.register_inbound(PullService, 'Pull', at(5555), route='HttpConnection')
    template.register_outbound(HttpConnection, 'HttpConnection',
                               'http://localhost:%d' % (8888 + arguments.port_offset), route='Pub', max_workers=1)
    template.register_outbound(PubService, 'Pub', at(5556))
    template.register_bypass(CacheService, 'Cache', at(5559))
    template.preset_cache(name='server', db_address=at(5559), pull_address=at(5555), pub_address=at(5556))
    return template


def component():
    if ROLE.startswith('worker'):
        if EXAMPLE in ('cache', 'scatter', 'gather'):
            return AddsCached(ROLE, at(5559))
        if EXAMPLE == 'hub':
            return Processes(ROLE, at(5561))
        if EXAMPLE == 'http_gateway':
            return Acknowledging(ROLE, at(5559))
        return Processes(str(uuid.uuid4()) if EXAMPLE == 'parallel' else ROLE, at(5559))
    if ROLE == 'master':
        if EXAMPLE == 'components':
            return from_parts()
        if EXAMPLE == 'http_gateway':
            return behind_http()
        if EXAMPLE == 'http_worker':
            return in_front_of_http()
        kind = {'scatter': Tripling, 'gather': Finishing}.get(EXAMPLE, Master)
        return master(kind, pipelined=EXAMPLE == 'master_pipeline')
    if ROLE == 'hub':
        return Hub('hub', sub_address=at(5557), pub_address=at(5558), worker_pull_address=at(5559),
                   worker_push_address=at(5560), db_address=at(5561), previous='server', pipelined=False)
    if ROLE == 'sink':
        return Gathered('my_sink', db_address=at(5580), sub_addresses=[at(5561), at(5571)],
                        pub_address=at(5581), previous=['my_pipeline', 'my_pipeline'], to_client=True)
    if ROLE == 'server':
        if EXAMPLE == 'server':
            return server()
        if EXAMPLE == 'hub':
            return server(name='server', pipelined=True)
        return server(Alternating if EXAMPLE in ('stream_control', 'sink') else AnswersSent, pipelined=True)
    if ROLE == 'pipeline':
        if EXAMPLE == 'master_pipeline':
            return pipeline(before=5556, previous='server')
        return pipeline()
    if ROLE == 'silent_pipeline':
        return pipeline(Silent, number=1)
    if ROLE == 'even_pipeline':
        return pipeline(previous='even', to_client=EXAMPLE == 'stream_control')
    if ROLE == 'odd_pipeline':
        kind = Silent if EXAMPLE == 'stream_control' else Pipelined
        return pipeline(kind, number=1, previous='odd', to_client=EXAMPLE == 'stream_control')
    raise SystemExit('no role %s in %s' % (ROLE, EXAMPLE))


# The name and db_address of the first server, the port that publishes the answers, the functions, and the number of
# messages and answers.
CLIENTS = {
    'server': ('my_server', 5555, None, 'my_server.foo', 1, 1),
    'parallel': ('server', 5559, None, 'server.foo', 10, 10),
    'cache': ('server', 5559, None, 'server.foo', 10, 10),
    'scatter': ('server', 5559, None, 'server.foo', 10, 30),
    'gather': ('server', 5559, None, 'server.foo', 10, 30),
    'pipeline': ('my_server', 5555, 5561, ['my_server.foo', 'my_pipeline.foo'], 1, 1),
    'tee': ('my_server', 5555, 5561, ['my_server.foo', 'my_pipeline.foo'], 1, 1),
    'stream_control': ('my_server', 5555, 5561, ['my_server.foo', 'my_pipeline.foo'], 10, 5),
    'sink': ('my_server', 5555, 5581, ['my_server.foo', 'my_pipeline.foo', 'my_sink.foo'], 10, 10),
    'master_pipeline': ('server', 5559, 5561, ['server.foo', 'my_pipeline.foo'], 10, 10),
    'hub': ('server', 5555, 5558, ['server.foo', 'hub.foo'], 1, 1),
    'components': ('server', 5559, None, 'server.foo', 10, 10),
    'http_worker': ('server', 5559, None, 'server.foo', 10, 10),
}
ANNOUNCED = ('server', 'pipeline', 'tee', 'stream_control', 'sink', 'hub')


def web_worker():
    from pylm.remote.server import DebugServer, RequestHandler

    class Online(RequestHandler):
        def foo(self, payload):
            return payload + b' processed online'

    DebugServer('localhost', 8888 + arguments.port_offset, Online).serve_forever()


def http_client():
    """Sends a GET, and repeats it until the gateway answers."""
    import urllib.error
    import urllib.request
    for _ in range(100):
        try:
            with urllib.request.urlopen('http://localhost:%d/function' % (8888 + arguments.port_offset)) as answer:
                return print(answer.read())
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit('the gateway does not answer')


def client():
    name, db, answers_from, functions, messages, answers = CLIENTS[EXAMPLE]
    peer = Client(name, at(db), sub_address=at(answers_from) if answers_from else None, logging_level=logging.ERROR)
    if EXAMPLE in ('cache', 'scatter', 'gather'):
        peer.set(b' cached data ', 'cached')
        print(peer.get('cached'))
    if messages == 1:
        print('Client got: ', peer.eval(functions, b'a message'))
        return
    payloads = itertools.repeat(b'a message', messages)
    for answer in peer.job(functions, payloads, messages=answers):
        if EXAMPLE in ANNOUNCED:
            print('Client got: ', answer)
        else:
            print(answer)


if __name__ == '__main__':
    if ROLE == 'client':
        http_client() if EXAMPLE == 'http_gateway' else client()
    elif ROLE == 'web_worker':
        web_worker()
    else:
        component().start()
