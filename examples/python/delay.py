"""A message that consumers get later: level 1 is one second (level 18 two hours).

Prints:
   close the unpaid order
   not before a second: True
"""
import os
import queue
import time

from rocketmq.client import Message, Producer, PushConsumer

producer = Producer('shop')
producer.set_namesrv_addr(os.environ['NAMESRV_ADDR'])
producer.start()
message = Message('PythonReminders')
message.set_delay_time_level(1)
message.set_body('close the unpaid order')
sent = time.time()
producer.send_sync(message)

consumed = queue.Queue()
consumer = PushConsumer('reminder')
consumer.set_namesrv_addr(os.environ['NAMESRV_ADDR'])
consumer.subscribe('PythonReminders', lambda message: consumed.put(message.body.decode()))
consumer.start()
print(consumed.get())
print('not before a second:', time.time() - sent >= 1)

consumer.shutdown()
producer.shutdown()
