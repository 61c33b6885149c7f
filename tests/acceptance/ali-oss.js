// A client of OSS that is not ours: the SDK for Node, `ali-oss`.
//
//   node ali-oss.js put BUCKET KEY FILE     node ali-oss.js get BUCKET KEY FILE
//   node ali-oss.js list BUCKET PREFIX      node ali-oss.js form BUCKET KEY FILE
//   node ali-oss.js features BUCKET         what tests/support/oss_server offers, one line each
//
// The environment has ENDPOINT, REGION, KEY_ID, KEY_SECRET, TOKEN, SIGNATURE (v1 or v4), and in NODE_PATH
// the folder of the SDK.
const assert = require('assert')
const fs = require('fs')
const OSS = require('ali-oss')

const { ENDPOINT, REGION, KEY_ID, KEY_SECRET, TOKEN, SIGNATURE } = process.env
const [command, bucket, key, file] = process.argv.slice(2)
const client = new OSS({
  endpoint: ENDPOINT, region: `oss-${REGION}`, bucket, accessKeyId: KEY_ID, accessKeySecret: KEY_SECRET,
  authorizationV4: SIGNATURE === 'v4',
  ...(TOKEN && { stsToken: TOKEN, refreshSTSTokenInterval: 1e9, refreshSTSToken: async () => ({}) }),
})

async function postForm(key, data) {
  const expiration = new Date(Date.now() + 60000).toISOString()
  const conditions = [{ bucket }, ['starts-with', '$key', key], ['content-length-range', 1, 1e8]]
  const fields = client.calculatePostSignature({ expiration, conditions })
  const form = new FormData()
  form.set('key', key)
  for (const name of ['OSSAccessKeyId', 'policy', 'Signature']) form.set(name, fields[name])
  if (TOKEN) form.set('x-oss-security-token', TOKEN)
  form.set('success_action_status', '201')
  form.set('file', new Blob([data]), 'file')
  const answer = await fetch(`${ENDPOINT}/${bucket}`, { method: 'POST', body: form })
  assert.strictEqual(answer.status, 201, await answer.text())
}

async function list(prefix) {
  // With V4 this client signs an empty parameter otherwise than documented.
  const { objects } = await client.listV2({ ...(prefix && { prefix }), 'max-keys': 1000 })
  return (objects || []).map((object) => object.name)
}

async function features() {
  const name = 'a+b c/é=&?#.txt'
  await client.put(name, Buffer.from('data'), { meta: { a: 'b' } })
  assert.strictEqual((await client.get(name)).content.toString(), 'data')
  assert.deepStrictEqual((await client.head(name)).meta, { a: 'b' })
  assert((await client.getObjectMeta(name)).res.headers.etag)
  await client.copy('copied+1', name)
  await client.multipartUpload('parts+1', Buffer.alloc(250 * 1024, 'x'), { partSize: 102400 })
  await postForm('form+1', 'posted')
  assert.strictEqual((await client.get('form+1')).content.toString(), 'posted')
  assert.deepStrictEqual(await list(''), [name, 'copied+1', 'form+1', 'parts+1'])
  const { stat } = await client.getBucketStat(bucket)
  assert.deepStrictEqual([stat.ObjectCount, stat.Storage], ['4', String(4 + 4 + 6 + 256000)])
  await client.putBucketLifecycle(bucket, [{ id: 'old', prefix: 'work/', status: 'Enabled', days: 3 }])
  const [rule] = (await client.getBucketLifecycle(bucket)).rules
  assert.deepStrictEqual([rule.id, rule.prefix, rule.expiration.days], ['old', 'work/', '3'])
  await client.deleteBucketLifecycle(bucket)
  await assert.rejects(client.getBucketLifecycle(bucket), { code: 'NoSuchLifecycle' })
  await client.deleteMulti([name, 'copied+1', 'form+1', 'parts+1'])
  assert.deepStrictEqual(await list(''), [])
}

async function main() {
  if (command === 'put') await client.put(key, file)
  else if (command === 'get') await client.get(key, file)
  else if (command === 'form') await postForm(key, fs.readFileSync(file))
  else if (command === 'list') console.log((await list(key)).join('\n'))
  else if (command === 'features') await features()
  else throw new Error(`unknown command ${command}`)
}

main().catch((error) => { console.error(error); process.exit(1) })
