// Answers /status/<code> and /echo over keep-alive, and says its port. It ends with its
// standard input.
const server = require('http').createServer((request, response) => {
  if (request.method === 'POST') {
    let n = 0;
    request.on('data', (b) => { n += b.length; });
    request.on('end', () => response.end(String(n)));
    return;
  }
  response.statusCode = Number(request.url.split('/').pop());
  response.end('from Node.js');
});
server.listen(0, '127.0.0.1', 256, () => console.log(server.address().port));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
