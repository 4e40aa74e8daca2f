# confluent-kafka (librdkafka): every codec, a group, committed offsets, watermarks.
import sys
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

broker, count = sys.argv[1], 500
admin = AdminClient({'bootstrap.servers': broker})
for f in admin.create_topics([NewTopic('confluent', 2, 1)]).values():
    f.result(10)

for codec in ('none', 'gzip', 'snappy', 'lz4', 'zstd'):
    failed = []
    producer = Producer({'bootstrap.servers': broker, 'compression.type': codec, 'acks': 'all', 'linger.ms': 5})
    for i in range(count):
        producer.produce('confluent', value='%s %d' % (codec, i), key=str(i % 7),
                         on_delivery=lambda err, msg: failed.append(err) if err else None)
    assert producer.flush(20) == 0 and not failed, failed

consumer = Consumer({'bootstrap.servers': broker, 'group.id': 'confluent-group', 'auto.offset.reset': 'earliest', 'enable.auto.commit': False})
consumer.subscribe(['confluent'])
seen = set()
while len(seen) < 5 * count:
    m = consumer.poll(15)
    assert m is not None, 'read %d of %d' % (len(seen), 5 * count)
    assert m.error() is None, m.error()
    seen.add(m.value())
consumer.commit(asynchronous=False)
committed = consumer.committed([TopicPartition('confluent', 0), TopicPartition('confluent', 1)], timeout=10)
assert sum(c.offset for c in committed) == 5 * count, committed
low, high = consumer.get_watermark_offsets(TopicPartition('confluent', 0), timeout=10)
assert low == 0 and high == committed[0].offset, (low, high)
consumer.close()
print('confluent-kafka: %d records' % len(seen))
