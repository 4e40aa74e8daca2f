// kafkajs: produce gzip batches, read them in a group, look at the group.
const assert = require('node:assert')
const { Kafka, CompressionTypes, logLevel } = require(process.env.MILLSTREAM_KAFKAJS || 'kafkajs')

const count = 1000
const kafka = new Kafka({ clientId: 'js', brokers: [process.argv[2]], logLevel: logLevel.ERROR })

async function main () {
  const admin = kafka.admin()
  await admin.connect()
  await admin.createTopics({ topics: [{ topic: 'js', numPartitions: 2 }] })

  const producer = kafka.producer()
  await producer.connect()
  for (let start = 0; start < count; start += 100) {
    await producer.send({
      topic: 'js',
      acks: -1,
      compression: CompressionTypes.GZIP,
      messages: Array.from({ length: 100 }, (_, i) => ({ key: `k${(start + i) % 10}`, value: `v${start + i}`, headers: { n: String(start + i) } }))
    })
  }
  await producer.disconnect()

  const consumer = kafka.consumer({ groupId: 'js-group' })
  await consumer.connect()
  await consumer.subscribe({ topics: ['js'], fromBeginning: true })
  const seen = new Set()
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`read ${seen.size} of ${count}`)), 30000)
    consumer.run({
      eachMessage: async ({ message }) => {
        assert.strictEqual('v' + message.headers.n.toString(), message.value.toString())
        seen.add(message.value.toString())
        if (seen.size === count) { clearTimeout(timer); resolve() }
      }
    }).catch(reject)
  })
  const { groups } = await admin.describeGroups(['js-group'])
  assert.strictEqual(groups[0].state, 'Stable')
  await consumer.disconnect()
  const offsets = await admin.fetchOffsets({ groupId: 'js-group', topics: ['js'] })
  assert.strictEqual(offsets[0].partitions.reduce((n, p) => n + Number(p.offset), 0), count)
  await admin.disconnect()
  console.log(`kafkajs: ${seen.size} records`)
}

main().catch(err => { console.error(err); process.exit(1) })
