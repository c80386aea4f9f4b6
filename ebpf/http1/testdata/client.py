# Asks a server 60 times over one connection, a third of them with bodies, and 20 times
# over one each; says done, and ends with its standard input.
import http.client, sys, urllib.error, urllib.request

at = sys.argv[1]
connection = http.client.HTTPConnection(at)
for i in range(60):
    if i % 3:
        connection.request("GET", "/status/%d" % (404 if i % 3 == 1 else 200))
    else:
        connection.request("POST", "/echo", iter([b"x" * 30000] * 2) if i % 2 else b"x" * 60000)
    connection.getresponse().read()
for i in range(20):
    try:
        urllib.request.urlopen("http://%s/status/404" % at).read()
    except urllib.error.HTTPError as answer:
        answer.read()
print("done", flush=True)
sys.stdin.read()
