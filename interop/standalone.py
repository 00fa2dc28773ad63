#!/usr/bin/env python3
"""A master or a worker of pylm that is started by flags, as pylm-registry starts the services of a cluster.

    standalone.py --pull A --pub A --workerpull A --workerpush A --db A     a master called `valuation`
    standalone.py --db A                                                    a worker of it

It prints its arguments first.
"""
import argparse
import logging
import sys
import uuid

from pylm.servers import Master, Worker


class Valuation(Worker):
    def value(self, message):
        return b'valued ' + message


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for flag in ('--pull', '--pub', '--workerpull', '--workerpush'):
        parser.add_argument(flag)
    parser.add_argument('--db', required=True)
    addresses = parser.parse_args()
    print('arguments:', *sys.argv[1:], flush=True)
    if addresses.workerpull:
        component = Master(name='valuation', pull_address=addresses.pull, pub_address=addresses.pub,
                           worker_pull_address=addresses.workerpull, worker_push_address=addresses.workerpush,
                           db_address=addresses.db, log_level=logging.ERROR)
    else:
        component = Valuation(str(uuid.uuid4()), addresses.db, log_level=logging.ERROR)
    component.start()


if __name__ == '__main__':
    main()
