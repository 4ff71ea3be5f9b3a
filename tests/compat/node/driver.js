// The npm client behind one line of JSON per request; see ../java/src/Driver.java for the requests. Nothing is asserted here.
'use strict';

const crypto = require('crypto');
const readline = require('readline');
const { Message, Producer, Consumer } = require('ali-ons');

const say = process.stdout.write.bind(process.stdout);
console.log = console.info = console.warn = console.error;
const quiet = { debug() {}, info() {}, warn() {}, error(...text) { console.error(...text); } };
process.on('unhandledRejection', problem => console.error('unhandled', problem));

const clients = new Map();
const inboxes = new Map();

function options(r) {
  return {
    httpclient: { request() { throw new Error('no address server here'); } },
    nameSrv: r.namesrv,
    instanceName: r.instance || r.h,
    logger: quiet,
    accessKeyId: 'unused',
    accessKeySecret: 'unused',
    heartbeatBrokerInterval: r.heartbeat_ms || 5000,
    pollNameServerInteval: r.route_ms || 1000,
    persistConsumerOffsetInterval: r.persist_ms || 1000,
    rebalanceInterval: 2000,
  };
}

async function producer(r) {
  const client = new Producer({
    ...options(r),
    producerGroup: r.group,
    compressMsgBodyOverHowmuch: r.compress_over || 1 << 30,
    retryTimesWhenSendFailed: r.retries === undefined ? 2 : r.retries,
    sendMsgTimeout: r.timeout_ms || 10000,
  });
  client.on('error', problem => console.error(r.h, problem));
  await client.ready();
  clients.set(r.h, client);
}

function message(r) {
  const out = new Message(r.topic, r.tags || null, r.b64 ? Buffer.from(r.b64, 'base64') : Buffer.from(r.text || ''));
  if (r.keys) out.keys = r.keys.split(' ');
  Object.assign(out.properties, r.props || {});
  out.flag = r.flag || 0;
  return out;
}

function described(result) {
  return {
    status: result.sendStatus, msg_id: result.msgId, offset_msg_id: result.offsetMsgId, offset: Number(result.queueOffset),
    queue: result.messageQueue && Number(result.messageQueue.queueId),
  };
}

async function sendMany(r) {
  const results = [];
  for (let i = 0; i < r.count; i++) {
    results.push(described(await clients.get(r.h).send(message({ ...r, text: `${r.prefix}${i}` }))));
  }
  return { results };
}

async function push(r) {
  const client = new Consumer({
    ...options(r),
    consumerGroup: r.group,
    isBroadcast: r.model === 'BROADCASTING',
    consumeFromWhere: `CONSUME_FROM_${r.start || 'FIRST_OFFSET'}`,
  });
  client.on('error', problem => console.error(r.h, problem));
  const inbox = { received: [], waiting: [] };
  inboxes.set(r.h, inbox);
  clients.set(r.h, client);
  for (const [ topic, expression ] of Object.entries(r.subs)) {
    client.subscribe(topic, expression, async m => {
      if (r.delay_ms) await new Promise(resolve => setTimeout(resolve, r.delay_ms));
      const body = m.body || Buffer.alloc(0);
      const item = {
        topic: m.topic, queue: m.queueId, offset: Number(m.queueOffset), msg_id: m.msgId, offset_msg_id: m.offsetMsgId, tags: m.tags,
        keys: m.keys, props: m.properties, flag: m.flag, sys_flag: m.sysFlag, reconsumed: m.reconsumeTimes, size: body.length,
      };
      const text = body.toString('utf8');
      if (body.length <= 300 && Buffer.from(text).equals(body)) item.text = text;
      else item.sha256 = crypto.createHash('sha256').update(body).digest('hex');
      inbox.received.push(item);
      inbox.waiting.forEach(look => look());
    });
  }
  await client.ready();
}

function received(r) {
  const inbox = inboxes.get(r.h);
  const from = r.from || 0;
  return new Promise(resolve => {
    let timer;
    const look = (late) => {
      if (inbox.received.length < (r.min || 0) && late !== true) return;
      clearTimeout(timer);
      inbox.waiting = inbox.waiting.filter(other => other !== look);
      resolve({ messages: inbox.received.slice(from), next: inbox.received.length });
    };
    timer = setTimeout(() => look(true), r.timeout_ms === undefined ? 10000 : r.timeout_ms);
    inbox.waiting.push(look);
    look();
  });
}

async function perform(r) {
  switch (r.op) {
    case 'producer': return producer(r);
    case 'send': return described(await clients.get(r.h).send(message(r)));
    case 'send_many': return sendMany(r);
    case 'push': return push(r);
    case 'received': return received(r);
    case 'stop': {
      const client = clients.get(r.h);
      clients.delete(r.h);
      return client && void await client.close();
    }
    default: throw new Error(`unsupported: ${r.op}`);
  }
}

readline.createInterface({ input: process.stdin }).on('line', async line => {
  const r = JSON.parse(line);
  let reply;
  try {
    reply = { id: r.id, ok: (await perform(r)) || {} };
  } catch (problem) {
    reply = { id: r.id, error: String(problem.message || problem), code: Number.isInteger(problem.code) ? problem.code : null };
  }
  say(JSON.stringify(reply) + '\n');
}).on('close', () => process.exit(0));
