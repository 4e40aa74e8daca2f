# kafka-python: create a topic, send gzip batches with headers, read them back in a group, commit, look at the group.
import sys
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

broker, count = sys.argv[1], 1000
admin = KafkaAdminClient(bootstrap_servers=broker)
admin.create_topics([NewTopic('python', num_partitions=3, replication_factor=1)])

producer = KafkaProducer(bootstrap_servers=broker, acks='all', compression_type='gzip', linger_ms=5)
futures = [producer.send('python', key=b'k%d' % (i % 10), value=b'v%d' % i, headers=[('n', b'%d' % i)]) for i in range(count)]
producer.flush()
placed = [f.get(timeout=10) for f in futures]
assert len({(m.partition, m.offset) for m in placed}) == count, 'two records at one offset'

consumer = KafkaConsumer('python', bootstrap_servers=broker, group_id='python-group', auto_offset_reset='earliest',
                         enable_auto_commit=False, consumer_timeout_ms=10000)
seen = {}
for m in consumer:
    assert m.headers == [('n', m.value[1:])], m.headers
    seen.setdefault((m.partition, m.key), []).append(int(m.value[1:]))
    if sum(map(len, seen.values())) == count:
        break
assert sum(map(len, seen.values())) == count, 'read %d of %d' % (sum(map(len, seen.values())), count)
assert all(v == sorted(v) for v in seen.values()), 'order within a key is broken'
assert len({p for p, _ in seen}) > 1, 'all keys landed in one partition'
consumer.commit()

committed = admin.list_consumer_group_offsets('python-group')
assert sum(o.offset for o in committed.values()) == count, committed
group = admin.describe_consumer_groups(['python-group'])[0]
assert group.state == 'Stable' and len(group.members) == 1, group
ends = consumer.end_offsets([TopicPartition('python', p) for p in range(3)])
assert sum(ends.values()) == count, ends
consumer.close()
admin.delete_topics(['python'])
print('kafka-python: %d records' % count)
