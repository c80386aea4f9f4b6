package tls

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// A process that runs another program than before is decided about anew, though it is
// the same process: launchers speak TLS themselves, for secrets, and then become what
// they launch.
func TestExec(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is missing")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is missing")
	}
	script := filepath.Join(t.TempDir(), "launch.py")
	require.NoError(t, os.WriteFile(script, []byte(`
import http.client, os, ssl, sys
port, curl = sys.argv[1:]
c = http.client.HTTPSConnection("127.0.0.1", port, context=ssl._create_unverified_context())
c.request("GET", "/hello")
c.getresponse().read()
c.close()
print("asked", flush=True)
sys.stdin.readline()
os.execv(curl, [curl, "-sSk", "--http1.1", "https://127.0.0.1:" + port + "/missing", "-o", os.devnull])
`), 0o644))
	for target, want := range map[string]counts{
		"curl":     {"GET 404 1.1": 1},
		"python3*": {"GET 200 1.1": 1},
	} {
		t.Run(target, func(t *testing.T) {
			port, _ := featuretest.StartNginxTLS(t)
			_, reg := start(t, "nginx", target)
			watching(t, reg, 1)
			launcher := launch(t, python, script, port, curl)
			require.Equal(t, "asked", launcher.line(t))
			requireCounts(t, reg, "server", port, counts{"GET 200 1.1": 1})
			_, err := launcher.in.Write([]byte("\n"))
			require.NoError(t, err)
			requireCounts(t, reg, "server", port, counts{"GET 200 1.1": 1, "GET 404 1.1": 1})
			requireCounts(t, reg, "client", port, want)
		})
	}
}
