const crypto = require('crypto');
const zlib = require('zlib');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');

function fill(seed, items) {
  let state = seed;
  const next = () => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) >>> 8;
  const map = new Map();
  const buffers = [];
  for (let i = 0; i < items; i++) {
    const key = `key-${next() % items}`;
    const entry = map.get(key) || { list: [], text: '' };
    entry.list.push({ i, square: i * i, name: `item ${i}` });
    entry.text += key;
    map.set(key, entry);
    if (i % 16 === 0) buffers.push(Buffer.alloc(next() % 20000, i));
    if (buffers.length > 500) buffers.splice(next() % 400, 50);
  }
  const hash = crypto.createHash('sha256');
  for (const key of [...map.keys()].sort()) hash.update(JSON.stringify(map.get(key)));
  for (const buffer of buffers) hash.update(zlib.deflateSync(buffer));
  return hash.digest('hex');
}

if (isMainThread) {
  console.log(fill(1, 200000));
  const answers = [];
  let open = 3;
  for (let i = 0; i < 3; i++) {
    const worker = new Worker(__filename, { workerData: i + 2 });
    worker.on('message', (answer) => { answers[i] = answer; });
    worker.on('error', (error) => { throw error; });
    worker.on('exit', () => { if (--open === 0) console.log(answers.join('\n')); });
  }
} else {
  parentPort.postMessage(fill(workerData, 40000));
}
