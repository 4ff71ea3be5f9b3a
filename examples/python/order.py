"""The steps of one order are consumed in the order in which they were sent: all of them go to one queue, which the order's number selects.
The topic has to exist: apogeemq admin updateTopic -c DefaultCluster -t PythonSteps

Prints:
   order-1: created, paid, shipped
   order-2: created, paid, shipped
"""
import os
import queue

from rocketmq.client import Message, Producer, PushConsumer

producer = Producer('shop')
producer.set_namesrv_addr(os.environ['NAMESRV_ADDR'])
producer.start()
for step in ('created', 'paid', 'shipped'):
    for order in (1, 2):
        message = Message('PythonSteps')
        message.set_keys(f'order-{order}')
        message.set_body(step)
        producer.send_orderly(message, order)

consumed = queue.Queue()
consumer = PushConsumer('history', orderly=True)
consumer.set_namesrv_addr(os.environ['NAMESRV_ADDR'])
consumer.subscribe('PythonSteps', lambda message: consumed.put((message.keys.decode(), message.body.decode())))
consumer.start()
steps = {}
for _ in range(6):
    order, step = consumed.get()
    steps.setdefault(order, []).append(step)
for order, done in sorted(steps.items()):
    print(f'{order}: {", ".join(done)}')

consumer.shutdown()
producer.shutdown()
