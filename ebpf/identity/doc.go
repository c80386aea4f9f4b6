// Package identity says what a process is: its executable, systemd unit,
// container, pod and the name of the service that it belongs to.
//
// Everything is read from /proc, once for each process, for a process is told by
// its id and its start time together. The service's name is settled by the first
// of these that says something:
//
//  1. OTEL_SERVICE_NAME, or service.name in OTEL_RESOURCE_ATTRIBUTES, in the
//     process's environment;
//  2. the systemd service it runs in: nginx.service gives nginx. Units of
//     sessions, of login managers and of container engines do not name it;
//  3. what an interpreter runs: java -jar shop.jar gives shop, python3 -m api
//     gives api, node /srv/web/server.js gives server;
//  4. the executable's file name;
//  5. the thread name that the kernel kept, for a process already gone.
//
// Nothing outside /proc is asked.
package identity
