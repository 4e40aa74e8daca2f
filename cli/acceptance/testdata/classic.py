# The snippet of every tutorial, to the letter.
import sys
from kafka import KafkaProducer

producer = KafkaProducer(bootstrap_servers=sys.argv[1])
producer.send('topic', b'hello')
producer.flush()
