// Package identity says what a process is: its executable, systemd unit,
// container, pod and the name of the service that it belongs to.
//
// Everything is read from /proc, once for each program of a process, which is told
// by its id and its start time together. A program is known from the next by where
// its arguments lie, so that one that a process execs is named as what it is:
// within two seconds of the fork, later at the next sweep, or at once where the
// kernel tells (Introduce). All names are UTF-8 and of bounded length. The service's name is settled by the first
// of these that says something:
//
//  1. OTEL_SERVICE_NAME, or service.name in OTEL_RESOURCE_ATTRIBUTES, in the
//     process's environment;
//  2. in a container, what the labels of its pod or container call it
//     (app.kubernetes.io/instance, app.kubernetes.io/name,
//     com.docker.compose.service), else the workload of its pod, as soon as a
//     Directory knows them;
//  3. the systemd service it runs in: nginx.service gives nginx. Units of
//     sessions, of login managers and of container engines do not name it;
//  4. what an interpreter runs: java -jar shop.jar gives shop, python3 -m api
//     gives api, node /srv/web/server.js gives server. Text of a program, as
//     after perl -e, names nothing;
//  5. the link by which the executable was called, else its file name;
//  6. the thread name that the kernel kept, for a process already gone.
//
// Log records of a container have the name of its main process by this rule, see
// package container of the collector. Nothing but /proc and the Directory is asked.
package identity
