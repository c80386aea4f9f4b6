// An HTTPS server: prints its port, ends with its standard input.
const fs = require('fs'), https = require('https');
const server = https.createServer({ cert: fs.readFileSync(process.argv[2]), key: fs.readFileSync(process.argv[3]) }, (req, res) => {
  req.resume();
  req.on('end', () => {
    const status = Number(req.url.split('/').pop());
    res.writeHead(status, { 'Content-Type': 'text/plain' });
    res.end('x'.repeat(status === 200 ? 20000 : 3));
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
