// For each line of its standard input, asks that many times, over 5 connections at
// a time, and says so.
const https = require('https');
const agent = new https.Agent({ keepAlive: true, maxSockets: 5, rejectUnauthorized: false });
const ask = () => new Promise((resolve, reject) => {
  https.get({ host: '127.0.0.1', port: process.argv[2], path: '/hello', agent }, (res) => {
    res.resume();
    res.on('end', resolve);
  }).on('error', reject);
});
console.log('ready');
require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  const lane = async () => { for (let i = 0; i < Number(line); i++) await ask(); };
  await Promise.all([1, 2, 3, 4, 5].map(lane));
  console.log('done');
}).on('close', () => process.exit(0));
