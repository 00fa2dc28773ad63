"""One component of pylm, on free ports, for the benchmarks and for the tests of palm with pylm.

    components.py server NAME [pipelined] | master NAME | worker DB_ADDRESS
    components.py pipeline NAME PREVIOUS SUB_ADDRESS [to_client]
    components.py parts INBOUND ADDRESS OUTBOUND ADDRESS [PREVIOUS]
    components.py client NAME DB_ADDRESS SUB_ADDRESS FUNCTIONS=PAYLOAD...

Prints its db_address and its pub_address; a worker has neither, and prints two unused addresses. `parts` builds a
component of two parts, by the names of their classes, and prints their addresses; `-` stands for a free address.
A client makes the calls one after another (payloads are hexadecimal), and prints each answer on a line.
"""
import logging
import sys

from pylm.clients import Client
from pylm.parts import connections, services
from pylm.parts.servers import ServerTemplate
from pylm.servers import Master, Pipeline, Server, Worker

from ports import free_ports


def free(count):
    first = free_ports(count)
    return ['tcp://127.0.0.1:%d' % port for port in range(first, first + count)]


class Functions:
    def foo(self, message):
        return message

    def mark(self, message):
        return message + b' pylm'


class AnyServer(Functions, Server):
    pass


class AnyPipeline(Functions, Pipeline):
    pass


class AnyWorker(Functions, Worker):
    pass


def component(kind, arguments, db, pub, pull, worker_pull, worker_push):
    if kind == 'server':
        return AnyServer(name=arguments[0], db_address=db, pull_address=pull, pub_address=pub,
                         pipelined='pipelined' in arguments[1:], log_level=40)
    if kind == 'pipeline':
        name, previous, sub = arguments[:3]
        return AnyPipeline(name=name, db_address=db, sub_address=sub, pub_address=pub, previous=previous,
                           to_client='to_client' in arguments[3:], log_level=40)
    if kind == 'master':
        return Master(name=arguments[0], db_address=db, pub_address=pub, pull_address=pull,
                      worker_pull_address=worker_pull, worker_push_address=worker_push, log_level=40)
    return AnyWorker('pylm', arguments[0], log_level=40)


def from_parts(inbound, inbound_address, outbound, outbound_address, previous=None):
    def part(name):
        return getattr(services, name, None) or getattr(connections, name)

    addresses = [free(1)[0] if address == '-' else address for address in (inbound_address, outbound_address)]
    template = ServerTemplate(logging_level=logging.ERROR)
    options = {'previous': previous} if previous else {}
    template.register_inbound(part(inbound), 'In', addresses[0], route='Out', **options)
    template.register_outbound(part(outbound), 'Out', addresses[1])
    print(*addresses, flush=True)
    template.start()


def call(name, db, sub, *calls):
    client = Client(name, db, sub_address=sub, logging_level=logging.ERROR)
    for functions, payload in (each.split('=') for each in calls):
        print(client.eval(functions, bytes.fromhex(payload)).decode(), flush=True)


def main():
    kind, *arguments = sys.argv[1:]
    if kind == 'client':
        call(*arguments)
        return
    if kind == 'parts':
        from_parts(*arguments)
        return
    addresses = free(5)
    started = component(kind, arguments, *addresses)
    print(*addresses[:2], flush=True)
    started.start()


if __name__ == '__main__':
    main()
