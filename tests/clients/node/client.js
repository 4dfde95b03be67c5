// SPDX-License-Identifier: Apache-2.0
// @clickhouse/client at its defaults. A line a step: its name, ok or FAIL, what it saw.
import { createClient } from '@clickhouse/client'

const [url, username, password] = process.argv.slice(2)
const client = createClient({ url, username, password, database: 'ayaflow' })

async function step(name, run) {
  try {
    console.log(`${name}\tok\t${String(await run()).replaceAll('\n', ' ')}`)
  } catch (error) {
    console.log(`${name}\tFAIL\t${String(error).replaceAll('\n', ' ')} ${error?.code ?? ''}`)
  }
}

function check(good, seen) {
  if (!good) throw new Error(JSON.stringify(seen))
}

async function rows(query, more = {}) {
  return (await client.query({ query, format: 'JSONEachRow', ...more })).json()
}

async function wait(mark, wanted) {
  const query = `SELECT count() AS n FROM system.processes WHERE query NOT LIKE '%processes%' AND query LIKE '%${mark}%'`
  for (let i = 0; i < 100; i++) {
    if (Number((await rows(query))[0].n) === wanted) return
    await new Promise(done => setTimeout(done, 100))
  }
  throw new Error(`not ${wanted} of ${mark}`)
}

async function fails(promise, code) {
  try {
    await promise
  } catch (error) {
    check(String(error.code) === code, `${error.code} ${error}`)
    return error.code
  }
  throw new Error('no error')
}

async function counted(query) {
  const answer = await client.query({ query, format: 'JSONEachRow' })
  let found = 0
  for await (const some of answer.stream()) found += some.length
  return found
}

await step('connect', async () => {
  check((await client.ping()).success && (await client.ping({ select: true })).success, 'ping')
  return (await rows('SELECT version() AS v'))[0].v
})
await step('metadata', async () => {
  const found = await rows("SELECT name, type FROM system.columns WHERE database = 'system' AND table = 'tables'")
  check(found.length > 20, found.length)
  return `${found.length} columns`
})
await step('query', async () => {
  const found = await rows("SELECT sum(number)::UInt32 AS s, ['a'] AS l FROM numbers(1000)")
  check(found[0].s === 499500 && found[0].l[0] === 'a', found)
  const zipped = createClient({ url, username, password, compression: { response: true, request: true } })
  check((await (await zipped.query({ query: 'SELECT 1', format: 'CSV' })).text()) === '1\n', 'compressed')
  await zipped.close()
  return found[0].s
})
await step('parameters', async () => {
  const query_params = { a: 5, s: "it's \\ ü\n\t", l: [1, 2] }
  const [found] = await rows('SELECT {a:UInt32} AS a, {s:String} AS s, {l:Array(UInt8)} AS l', { query_params })
  check(found.a === 5 && found.s === query_params.s && found.l.length === 2, found)
  return found.s.trim()
})
await step('insert', async () => {
  await client.command({ query: 'CREATE TABLE node (a UInt64, b String) ENGINE = MergeTree ORDER BY a' })
  const values = Array.from({ length: 1000 }, (_, i) => ({ a: i, b: 'x' }))
  await client.insert({ table: 'node', values, format: 'JSONEachRow' })
  const [found] = await rows('SELECT count()::UInt32 AS n FROM node')
  check(found.n === 1000, found)
  return found.n
})
await step('500,000 rows', async () => {
  const found = await counted('SELECT number, toString(number) FROM numbers(500000)')
  check(found === 500_000, found)
  return found
})
await step('error', () => fails(rows('SELECT nosuch'), '47'))
await step('mid-stream', () =>
  fails(counted("SELECT number, throwIf(number = 3000000, 'boom') FROM numbers(4000000)"), '395'))
await step('cancel', async () => {
  const control = new AbortController()
  const query = "SELECT count() FROM numbers(100000000000) WHERE 'node_cancel' != ''"
  const asked = rows(query, { abort_signal: control.signal }).then(() => 'ended', error => String(error))
  await wait('node_cancel', 1)
  control.abort()
  check((await asked).includes('abort'), await asked)
  await wait('node_cancel', 0)
  return 'stopped'
})
await step('KILL', async () => {
  const asked = fails(rows("SELECT count() FROM numbers(100000000000) WHERE 'node_kill' != ''", { query_id: 'node-kill' }), '394')
  asked.catch(() => {})
  await wait('node_kill', 1)
  await client.command({ query: "KILL QUERY WHERE query_id = 'node-kill'" })
  return await asked
})
await client.close()
