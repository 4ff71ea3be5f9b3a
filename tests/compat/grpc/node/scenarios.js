'use strict';
/*
 * Scenarios with the published Node SDK of the gRPC protocol: `scenarios.js LABEL ENDPOINT plain|tls SUFFIX [NAME...]`.
 *
 * The same as java/src/Scenarios.java: topics and groups exist, each scenario has its own, all run at the same time. One line per
 * scenario. With `tls` the SDK trusts only who signed the server's certificate: GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names that authority.
 */
const { Producer, SimpleConsumer, PushConsumer, FilterExpression, ConsumeResult } = require('rocketmq-client-nodejs');
const { FilterType, TransactionResolution } = require('rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb');

const SOON = 120_000;
const [label, endpoints, security, suffix, ...names] = process.argv.slice(2);
const silent = () => {};
const common = {
  endpoints, namespace: '', sslEnabled: security === 'tls', requestTimeout: 10_000,
  logger: { info: silent, warn: silent, error: silent, debug: silent, close: silent },
};

class Failed extends Error {}

function check(holds, what) {
  if (!holds) throw new Failed(what);
}

const name = base => base + suffix;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const body = view => view.body.toString();
const same = (a, b) => JSON.stringify([...a].sort()) === JSON.stringify([...b].sort());

/** Starts the clients, runs the scenario with them, and shuts them down. */
async function using(clients, run) {
  const started = [];
  try {
    for (const client of clients) {
      await client.startup();
      started.push(client);
    }
    await run(...clients);
  } finally {
    for (const client of started.reverse()) await client.shutdown();
  }
}

const producer = (topic, checker) => new Producer({ ...common, topics: [topic], checker });

const simple = (topic, group, filter = FilterExpression.SUB_ALL) => new SimpleConsumer({
  ...common, consumerGroup: group, subscriptions: new Map([[topic, filter]]), awaitDuration: 5000 });

const push = (topic, group, consume) => new PushConsumer({
  ...common, consumerGroup: group, subscriptions: new Map([[topic, FilterExpression.SUB_ALL]]), messageListener: { consume } });

const message = (topic, text, more = {}) => ({ topic, body: Buffer.from(text), ...more });

/** A new group begins with the last message of each queue: its first receives say where that is. */
async function begin(consumer) {
  for (;;) {
    const old = await consumer.receive(16, 30_000);
    if (old.length === 0) return;
    for (const view of old) await consumer.ack(view);
  }
}

/** Receives that many; acknowledges everything. */
async function receive(consumer, count) {
  const got = [], end = Date.now() + SOON;
  while (got.length < count) {
    check(Date.now() < end, `received ${got.length} of ${count}`);
    for (const view of await consumer.receive(16, 30_000)) {
      got.push(view);
      await consumer.ack(view);
    }
  }
  return got;
}

/** The message with this body; others are acknowledged. */
async function find(consumer, text) {
  const end = Date.now() + SOON;
  for (;;) {
    check(Date.now() < end, `not received: ${text}`);
    for (const view of await consumer.receive(1, 60_000)) {
      if (body(view) === text) return view;
      await consumer.ack(view);
    }
  }
}

async function wait(what, holds) {
  const end = Date.now() + SOON;
  while (!await holds()) {
    check(Date.now() < end, `not in time: ${what}`);
    await sleep(20);
  }
}

/** Sends until the push consumer is known to receive. */
const warm = (sender, messages, arrived) => wait('the consumer begins', async () => {
  for (const one of messages) await sender.send(one);
  await sleep(300);
  return arrived();
});

const scenarios = {
  async normal() {
    const topic = name('normal');
    await using([simple(topic, name('g-normal')), producer(topic)], async (consumer, sender) => {
      await begin(consumer);
      const receipt = await sender.send(message(topic, 'hello', { tag: 'a', keys: ['k1', 'k2'], properties: new Map([['own', 'v']]) }));
      const [view] = await receive(consumer, 1);
      check(view.messageId === receipt.messageId, 'message id');
      check(body(view) === 'hello' && view.tag === 'a' && view.properties.get('own') === 'v', 'content');
      check(same(view.keys, ['k1', 'k2']) && view.deliveryAttempt === 1, 'keys');
      await Promise.all(Array.from({ length: 100 }, (_, n) => sender.send(message(topic, `n${n}`))));
      check(new Set((await receive(consumer, 100)).map(body)).size === 100, '100 different messages');
      const large = 'x'.repeat(1 << 20);
      await sender.send(message(topic, large));
      check(body((await receive(consumer, 1))[0]) === large, 'a large message');
    });
  },

  async changeInvisible() {
    const topic = name('change');
    await using([simple(topic, name('g-change')), producer(topic)], async (consumer, sender) => {
      await begin(consumer);
      await sender.send(message(topic, 'later'));
      const first = await find(consumer, 'later');
      await consumer.changeInvisibleDuration(first, 1000);
      const again = await find(consumer, 'later');
      await consumer.ack(again);
      check(again.messageId === first.messageId && again.deliveryAttempt === 2, `delivered again, attempt ${again.deliveryAttempt}`);
    });
  },

  async filters() {
    const topic = name('filter');
    const clients = [simple(topic, name('g-tags'), new FilterExpression('a || b')),
      simple(topic, name('g-sql'), new FilterExpression('n > 1', FilterType.SQL)), producer(topic)];
    await using(clients, async (tags, sql, sender) => {
      await Promise.all([begin(tags), begin(sql)]);
      for (const [n, tag] of ['a', 'b', 'c'].entries()) await sender.send(message(topic, tag, { tag, properties: new Map([['n', `${n}`]]) }));
      const got = (await receive(tags, 2)).map(body);
      check(same(got, ['a', 'b']), `by tags ${got}`);
      check(body((await receive(sql, 1))[0]) === 'c', 'by SQL');
    });
  },

  async delayAndRecall() {
    const topic = name('delay');
    await using([simple(topic, name('g-delay')), producer(topic)], async (consumer, sender) => {
      await begin(consumer);
      const due = Date.now() + 4000, deliveryTimestamp = new Date(due);
      const gone = await sender.send(message(topic, 'recalled', { deliveryTimestamp }));
      await sender.send(message(topic, 'kept', { deliveryTimestamp }));
      const recalled = await sender.recallMessage(topic, gone.recallHandle);
      check(recalled.messageId === gone.messageId, 'recalled id');
      const text = body((await receive(consumer, 1))[0]);
      check(text === 'kept', `only the other one: ${text}`);
      check(Date.now() >= due, 'not early');
    });
  },

  async transactions() {
    const topic = name('transaction'), asked = new Set();
    const checker = {
      async check(view) {
        asked.add(body(view));
        return body(view) === 'orphan-commit' ? TransactionResolution.COMMIT : TransactionResolution.ROLLBACK;
      },
    };
    await using([simple(topic, name('g-transaction')), producer(topic, checker)], async (consumer, sender) => {
      await begin(consumer);
      for (const text of ['commit', 'rollback', 'orphan-commit', 'orphan-rollback']) {
        const transaction = sender.beginTransaction();
        await sender.send(message(topic, text), transaction);
        if (text === 'commit') await transaction.commit();
        if (text === 'rollback') await transaction.rollback();
      }
      const got = (await receive(consumer, 2)).map(body);
      check(same(got, ['commit', 'orphan-commit']), `committed ${got}`);
      await wait('both orphans are asked for', () => same(asked, ['orphan-commit', 'orphan-rollback']));
    });
  },

  async pushConsumer() {
    const topic = name('push'), got = new Set(), attempts = [];
    const consume = view => {
      if (body(view) === 'failing' && view.deliveryAttempt < 3) {
        attempts.push(view.deliveryAttempt);
        return ConsumeResult.FAILURE;
      }
      got.add(body(view));
      return ConsumeResult.SUCCESS;
    };
    await using([producer(topic), push(topic, name('g-push'), consume)], async sender => {
      await warm(sender, [message(topic, 'warm')], () => got.has('warm'));
      for (let n = 0; n < 50; n++) await sender.send(message(topic, `n${n}`));
      await sender.send(message(topic, 'failing'));
      await wait('all are consumed', () => got.size === 52);
      check(String(attempts) === '1,2', `failed twice: ${attempts}`);
    });
  },

  async fifo() {
    const topic = name('fifo'), got = {}, failed = new Set();
    const consume = view => {
      const [group, n] = body(view).split('-');
      if (group !== 'warm' && n === '3' && !failed.has(body(view))) {
        failed.add(body(view));
        return ConsumeResult.FAILURE;
      }
      (got[group] ??= []).push(Number(n));
      return ConsumeResult.SUCCESS;
    };
    await using([producer(topic), push(topic, name('g-fifo'), consume)], async sender => {
      await warm(sender, Array.from({ length: 8 }, (_, n) => message(topic, 'warm-0', { messageGroup: `w${n}` })), () => got.warm);
      for (let n = 0; n < 10; n++) for (const group of 'abc') await sender.send(message(topic, `${group}-${n}`, { messageGroup: group }));
      for (const group of 'abc') {
        await wait(`all of group ${group}`, () => got[group]?.length >= 10);
        check(String(got[group]) === '0,1,2,3,4,5,6,7,8,9', `in order ${group} ${got[group]}`);
      }
    });
  },

  /** The group retries once. */
  async deadLetters() {
    const topic = name('dead'), attempts = [];
    let arrived = false;
    const consume = view => {
      if (body(view) === 'warm') {
        arrived = true;
        return ConsumeResult.SUCCESS;
      }
      attempts.push(view.deliveryAttempt);
      return ConsumeResult.FAILURE;
    };
    await using([producer(topic), push(topic, name('g-dead'), consume)], async sender => {
      await warm(sender, [message(topic, 'warm')], () => arrived);
      await sender.send(message(topic, 'failing'));
      await wait('it failed twice', () => attempts.length >= 2);
      await sleep(5000);
      check(attempts.length === 2, `no third attempt: ${attempts}`);
    });
  },

  async wrongUse() {
    const topic = name('wrong');
    await using([simple(topic, name('g-wrong')), producer(topic)], async (consumer, sender) => {
      await begin(consumer);
      const stored = await sender.send(message(topic, 'x', { messageGroup: 'g' })).then(() => true, () => false);
      check(!stored, 'a message of another type was stored');
      await sender.send(message(topic, 'wrong'));
      const end = Date.now() + SOON;
      let got = [];
      while (got.length === 0) {
        check(Date.now() < end, 'not received: wrong');
        got = await consumer.receive(1, 10_000);
      }
      await sleep(12_000);
      const refused = await consumer.ack(got[0]).then(() => null, error => error);
      check(refused, 'an expired handle was taken');
      check(/expired|handle/i.test(String(refused)), String(refused));
      await receive(consumer, 1);
    });
  },
};

async function passes(scenario) {
  const start = Date.now();
  let why = null;
  try {
    await scenarios[scenario]();
  } catch (error) {
    why = String(error);
    if (!(error instanceof Failed)) console.error(error);
  }
  const line = `${why ? 'FAIL' : 'ok  '} ${scenario} [${label}] (${((Date.now() - start) / 1000).toFixed(1)} s)`;
  console.log(why ? `${line}\n       ${why}` : line);
  return !why;
}

Promise.all(Object.keys(scenarios).filter(one => names.length === 0 || names.includes(one)).map(passes))
  .then(outcomes => { process.exitCode = outcomes.every(Boolean) ? 0 : 1; })
  .finally(() => process.stdout.write('', () => process.exit())); // timers of the SDK do not end
