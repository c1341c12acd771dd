// npm install fastify@5.12.8 postgres@3.4.9
//
// Fastify over postgres.js: the fast end of Node, with serialisers compiled from schemas and statements
// that share connections.

const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const fastify = require('fastify')
const postgres = require('postgres')

// A Date has milliseconds, and the answers have microseconds: timestamps stay text.
const timestamps = { to: 1184, from: [1184], parse: (text) => text.replace(' ', 'T').replace('+00', 'Z') }
const sql = postgres({ max: 10, types: { date: timestamps }, connection: { TimeZone: 'UTC' } })

function statement(name) {
  const names = []
  const file = readFileSync(join(__dirname, '..', '..', 'sql', 'tasks', `${name}.sql`), 'utf8')
  const text = file.replace(/%\((\w+)\)s/g, (_, parameter) => {
    if (!names.includes(parameter)) names.push(parameter)
    return `$${names.indexOf(parameter) + 1}`
  })
  return (values) => sql.unsafe(text, names.map((parameter) => values[parameter] ?? null), { prepare: true })
}

const [list, get, create, update, complete] =
  ['list_newest_first', 'get', 'create', 'update', 'complete'].map(statement)

const text = { type: 'string' }
const nullable = { type: ['string', 'null'], maxLength: 1000 }
const properties = {
  id: text, user_id: text, title: text, description: { type: ['string', 'null'] },
  completed: { type: 'boolean' }, created_at: text, updated_at: text,
}
const task = { type: 'object', properties }
const body = {
  type: 'object',
  required: ['title'],
  properties: {
    title: { type: 'string', minLength: 1, maxLength: 200 },
    description: nullable,
    completed: { type: 'boolean' },
  },
}
const id = { type: 'string', format: 'uuid' }
const params = { type: 'object', properties: { user_id: id, task_id: id } }
const one = { schema: { params, response: { '2xx': task } } }
const withBody = { schema: { ...one.schema, body } }
const many = { schema: { params, response: { 200: { type: 'array', items: task } } } }

const app = fastify()
const found = ([row], reply) => row ?? reply.callNotFound()

app.get('/api/:user_id/tasks', many, ({ params }) => list({ ...params, page_size: 100 }))

app.post('/api/:user_id/tasks', withBody, async ({ params, body }, reply) => {
  const rows = await create({ completed: false, ...body, ...params })
  reply.code(201)
  return rows[0]
})

app.get('/api/:user_id/tasks/:task_id', one, async ({ params }, reply) => found(await get(params), reply))

app.put('/api/:user_id/tasks/:task_id', withBody, async ({ params, body }, reply) =>
  found(await update({ keep_description: !('description' in body), ...body, ...params }), reply))

app.patch('/api/:user_id/tasks/:task_id/complete', one, async ({ params }, reply) =>
  found(await complete(params), reply))

app.listen({ host: '127.0.0.1', port: 0 }).then((address) => console.log(`running on ${address}`))
