"""Sends messages and consumes those with one of two tags.

Prints:
   sent 3 orders
   consumed order 1 (new), order 3 (express)
"""
import os
import queue

from rocketmq.client import Message, Producer, PushConsumer

producer = Producer('shop')
producer.set_namesrv_addr(os.environ['NAMESRV_ADDR'])
producer.start()
for number, tag in enumerate(['new', 'cancelled', 'express'], 1):
    message = Message('PythonOrders')
    message.set_tags(tag)
    message.set_keys(f'order-{number}')
    message.set_body(f'order {number} ({tag})')
    producer.send_sync(message)
print('sent 3 orders')

consumed = queue.Queue()
consumer = PushConsumer('warehouse')
consumer.set_namesrv_addr(os.environ['NAMESRV_ADDR'])
consumer.subscribe('PythonOrders', lambda message: consumed.put(message.body.decode()), 'new || express')
consumer.start()
print('consumed', ', '.join(sorted([consumed.get(), consumed.get()])))

consumer.shutdown()
producer.shutdown()
