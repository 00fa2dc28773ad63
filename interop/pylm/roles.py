#!/usr/bin/env python3
"""One component of one example, made with pylm: the counterparts of `examples/*.rs`.

    roles.py EXAMPLE ROLE [--port-offset N]

Names, functions and ports are those of the Rust examples, so that any component can be replaced by
its counterpart. `run.py` does that.
"""
import argparse
from itertools import repeat

from pylm.clients import Client
from pylm.parts.servers import ServerTemplate
from pylm.parts.services import (CacheService, PubService, PullService, WorkerPullService,
                                 WorkerPushService)
from pylm.servers import Hub, Master, Pipeline, Server, Sink, Worker

OFFSET = 0


def at(port):
    return 'tcp://127.0.0.1:%d' % (port + OFFSET)


# Functions: what each component answers.

def says(base, text, log=True):
    """A kind of component whose `foo` puts `text` in front; `None` answers nothing."""
    class Component(base):
        def foo(self, message):
            if log:
                self.logger.info('Got a message')
            return None if text is None else text + message
    return Component


class Named(Worker):
    def foo(self, message):
        return self.name.encode() + b' processed ' + message


class Caching(Worker):
    def foo(self, message):
        return self.name.encode() + self.get('cached') + message


class Alternating(says(Server, b'you sent me ')):
    """Sends its answers to two topics by turns."""
    answers = 0

    def handle_stream(self, message):
        topic = ('even', 'odd')[self.answers % 2]
        self.answers += 1
        message.stage += 1
        return topic, message


class Deaf(says(Server, b'you sent me ', log=False)):
    """Answers ten calls; at the next one pylm's loop ends, as `None` is no answer for a server."""
    calls = 0

    def foo(self, message):
        self.calls += 1
        return super().foo(message) if self.calls <= 10 else None


class Threefold(Master):
    def scatter(self, message):
        return repeat(message, 3)


class MarksTheLast(Threefold):
    results = 0

    def gather(self, message):
        self.results += 1
        yield self.change_payload(message, b'final message') if self.results == 30 else message


# Components: where each is.

def server(kind=says(Server, b'you sent me '), name='my_server', pipelined=True):
    return kind(name, db_address=at(5555), pull_address=at(5556), pub_address=at(5557),
                pipelined=pipelined)


def pipeline(text=b'and I pipelined ', ports=(5560, 5561), after=5557, previous='my_server',
             to_client=True):
    db_address, pub_address = map(at, ports)
    return says(Pipeline, text)('my_pipeline', db_address=db_address, sub_address=at(after),
                                pub_address=pub_address, previous=previous, to_client=to_client)


def sink():
    return says(Sink, b'and gathered ')(
        'my_sink', db_address=at(5580), sub_addresses=[at(5561), at(5571)], pub_address=at(5581),
        previous=['my_pipeline', 'my_pipeline'], to_client=True)


def hub():
    return Hub(name='hub', sub_address=at(5557), pub_address=at(5558), worker_pull_address=at(5559),
               worker_push_address=at(5560), db_address=at(5561), previous='server')


MASTER = {'pull_address': 5555, 'pub_address': 5556, 'worker_pull_address': 5557,
          'worker_push_address': 5558, 'db_address': 5559}


def master(kind=Master, **options):
    addresses = {key: at(port) for key, port in MASTER.items()}
    return kind(name='server', **addresses, **options)


def master_of_parts():
    addresses = {key: at(port) for key, port in MASTER.items()}
    made = ServerTemplate()
    made.register_inbound(PullService, 'Pull', addresses['pull_address'], route='WorkerPush')
    made.register_inbound(WorkerPullService, 'WorkerPull', addresses['worker_pull_address'],
                          route='Pub')
    made.register_outbound(WorkerPushService, 'WorkerPush', addresses['worker_push_address'])
    made.register_outbound(PubService, 'Pub', addresses['pub_address'])
    made.register_bypass(CacheService, 'Cache', addresses['db_address'])
    made.preset_cache(name='server', **addresses)
    return made


def workers(kind=Named, db_port=5559, names=('worker1', 'worker2')):
    """The two workers by role; `None` is a random name."""
    return {'worker%d' % number: lambda name=name: kind(name, db_address=at(db_port))
            for number, name in enumerate(names, 1)}


# Clients: what each calls, and how it prints what it gets.

def got(answer):
    print('Client got: ', answer)


def client(name, db_port, functions, messages=None, answers=None, show=print, sub_port=None,
           cached=None):
    """A client that makes one call, or with `messages` a job."""
    def run():
        it = Client(name, at(db_port), sub_address=sub_port and at(sub_port))
        if cached is not None:
            it.set(cached, 'cached')
            show(it.get('cached'))
        if messages is None:
            show(it.eval(functions, b'a message'))
        else:
            for answer in it.job(functions, repeat(b'a message', messages), messages=answers):
                show(answer)
    return run


def thousand_calls():
    it = Client('my_server', at(5555))
    answers = sum(it.eval('my_server.foo', b'a message') == b'you sent me a message'
                  for _ in range(1000))
    print('%d answers, 0 lost' % answers)


TWO_STEPS = ['my_server.foo', 'my_pipeline.foo']

EXAMPLES = {
    'server': {
        'server': lambda: server(pipelined=False),
        'client': client('my_server', 5555, 'my_server.foo', show=got),
    },
    'calls': {
        'server': lambda: server(says(Server, b'you sent me ', log=False), pipelined=False),
        'deaf_server': lambda: server(Deaf, pipelined=False),
        'client': thousand_calls,
    },
    'parallel': {
        'master': master,
        **workers(names=(None, None)),
        'client': client('server', 5559, 'server.foo', 10, 10),
    },
    'cache': {
        'master': master,
        **workers(Caching),
        'client': client('server', 5559, 'server.foo', 10, 10, cached=b' cached data '),
    },
    'scatter': {
        'master': lambda: master(Threefold),
        **workers(Caching),
        'client': client('server', 5559, 'server.foo', 10, 30, cached=b' cached data '),
    },
    'gather': {
        'master': lambda: master(MarksTheLast),
        **workers(Caching),
        'client': client('server', 5559, 'server.foo', 10, 30, cached=b' cached data '),
    },
    'pipeline': {
        'server': server,
        'pipeline': pipeline,
        'client': client('my_server', 5555, TWO_STEPS, show=got, sub_port=5561),
    },
    'tee': {
        'server': server,
        'pipeline': pipeline,
        'silent_pipeline': lambda: pipeline(None, (5570, 5571)),
        'client': client('my_server', 5555, TWO_STEPS, show=got, sub_port=5561),
    },
    'stream_control': {
        'server': lambda: server(Alternating),
        'even_pipeline': lambda: pipeline(previous='even'),
        'odd_pipeline': lambda: pipeline(None, (5570, 5571), previous='odd'),
        'client': client('my_server', 5555, TWO_STEPS, 10, 5, show=got, sub_port=5561),
    },
    'sink': {
        'server': lambda: server(Alternating),
        'even_pipeline': lambda: pipeline(previous='even', to_client=False),
        'odd_pipeline': lambda: pipeline(ports=(5570, 5571), previous='odd', to_client=False),
        'sink': sink,
        'client': client('my_server', 5555, [*TWO_STEPS, 'my_sink.foo'], 10, 10, show=got,
                         sub_port=5581),
    },
    'master_pipeline': {
        'master': lambda: master(pipelined=True),
        'pipeline': lambda: pipeline(after=5556, previous='server'),
        **workers(),
        'client': client('server', 5559, ['server.foo', 'my_pipeline.foo'], 10, 10, sub_port=5561),
    },
    'hub': {
        'server': lambda: server(name='server'),
        'hub': hub,
        **workers(db_port=5561),
        'client': client('server', 5555, ['server.foo', 'hub.foo'], show=got, sub_port=5558),
    },
    'components': {
        'master': master_of_parts,
        **workers(),
        'client': client('server', 5559, 'server.foo', 10, 10),
    },
}


def main():
    global OFFSET
    arguments = argparse.ArgumentParser(description='One component of one example, made with pylm.')
    arguments.add_argument('example', choices=EXAMPLES)
    arguments.add_argument('role')
    arguments.add_argument('--port-offset', type=int, default=0, metavar='N')
    arguments = arguments.parse_args()
    OFFSET = arguments.port_offset
    made = EXAMPLES[arguments.example][arguments.role]()
    if made is not None:
        made.start()


if __name__ == '__main__':
    main()
