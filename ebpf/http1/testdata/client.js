// Asks a server 80 times, 10 at a time, a quarter of them with bodies; says done, and
// ends with its standard input.
const at = 'http://' + process.argv[2];
const ask = async (i) => {
  const answer = i % 4 === 0
    ? await fetch(at + '/echo', { method: 'POST', body: Buffer.alloc(60000) })
    : await fetch(at + '/status/' + (i % 4 === 1 ? 200 : 404));
  await answer.arrayBuffer();
};
(async () => {
  for (let i = 0; i < 80; i += 10) {
    await Promise.all([...Array(10).keys()].map((k) => ask(i + k)));
  }
  console.log('done');
})();
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
