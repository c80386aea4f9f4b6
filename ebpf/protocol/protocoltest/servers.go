package protocoltest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/internal/freeport"
)

// tools gives where make test-tools unpacks programs.
func tools(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, ".cache", "tools")
		}
		require.NotEqual(t, "/", dir, "go.mod is above no folder")
		dir = filepath.Dir(dir)
	}
}

// Program finds a program that is installed, or that make test-tools has
// unpacked; else it skips the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && filepath.Base(path) == name {
			return path
		}
		path, _ = exec.LookPath(name)
		return path
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/", tools(t) + "/usr/lib/postgresql/*/bin/", tools(t) + "/usr/bin/", tools(t) + "/usr/sbin/",
	} {
		if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skipf("%s is missing; make test-tools unpacks it", name)
	return ""
}

// Command runs a program with the libraries that were unpacked with it.
func Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if strings.HasPrefix(program, tools(t)) {
		libs, _ := filepath.Glob(tools(t) + "/usr/lib/*-linux-gnu*")
		more, _ := filepath.Glob(tools(t) + "/lib/*-linux-gnu*")
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+strings.Join(append(libs, more...), ":"))
	}
	return cmd
}

// freePort gives a port that is kept for a server until the test ends.
func freePort(t testing.TB) string {
	t.Helper()
	p, err := freeport.Reserve()
	require.NoError(t, err)
	t.Cleanup(p.Release)
	return p.Text()
}

// log collects what a server says, for a test that fails.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// run starts a server, waits until it says that it is ready, and ends it with the
// test.
func run(t testing.TB, cmd *exec.Cmd, ready string, end os.Signal) {
	t.Helper()
	out := new(log)
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(end)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Log(out)
		}
	})
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(out.String(), ready) {
		select {
		case <-exited:
			t.Fatalf("%s has ended: %s", cmd.Path, out)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not get ready: %s", cmd.Path, out)
		}
	}
}

// unprivileged lets cmd run as nobody, and gives it dir, if this is root.
func unprivileged(t testing.TB, cmd *exec.Cmd, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody, as whom PostgreSQL could run")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	require.NoError(t, os.Chown(dir, uid, gid))
	for d := dir; len(d) > len(os.TempDir()); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	cmd.Dir = dir
}

// StartPostgres starts PostgreSQL with a database postgres that its user postgres
// needs no password for, or skips the test.
func StartPostgres(t testing.TB) (addr string) {
	t.Helper()
	return startPostgres(t, "", "")
}

// StartPostgresTLS is StartPostgres of a server that speaks TLS, too.
func StartPostgresTLS(t testing.TB, cert, key string) (addr string) {
	t.Helper()
	return startPostgres(t, cert, key)
}

func startPostgres(t testing.TB, cert, key string) (addr string) {
	t.Helper()
	// initdb finds its files from where it is, so a copy elsewhere does not do.
	var initdb string
	for _, pattern := range []string{"/usr", tools(t) + "/usr"} {
		if found, _ := filepath.Glob(pattern + "/lib/postgresql/*/bin/initdb"); len(found) > 0 && initdb == "" {
			initdb = found[len(found)-1]
		}
	}
	if initdb == "" {
		initdb = Program(t, "initdb")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	cmd := Command(t, initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	unprivileged(t, cmd, dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("PostgreSQL's initdb does not work here: %v: %s", err, out)
	}
	port := freePort(t)
	args := []string{
		"-D", data, "-h", "127.0.0.1", "-p", port, "-k", "", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=40",
	}
	if cert != "" {
		args = append(args, "-l")
		info, err := os.Stat(data)
		require.NoError(t, err)
		for from, to := range map[string]string{cert: "server.crt", key: "server.key"} {
			b, err := os.ReadFile(from)
			require.NoError(t, err)
			to = filepath.Join(data, to)
			require.NoError(t, os.WriteFile(to, b, 0o600))
			owner := info.Sys().(*syscall.Stat_t)
			require.NoError(t, os.Chown(to, int(owner.Uid), int(owner.Gid)))
		}
	}
	cmd = Command(t, filepath.Join(filepath.Dir(initdb), "postgres"), args...)
	unprivileged(t, cmd, dir)
	run(t, cmd, "ready to accept connections", os.Interrupt)
	return "127.0.0.1:" + port
}

// StartRedis starts Redis, or skips the test.
func StartRedis(t testing.TB) (addr string) {
	t.Helper()
	server := Program(t, "redis-server")
	port := freePort(t)
	cmd := Command(t, server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	run(t, cmd, "Ready to accept connections", os.Interrupt)
	return "127.0.0.1:" + port
}

// StartMariaDB starts MariaDB with a database test that user root needs no
// password for, or skips the test.
func StartMariaDB(t testing.TB) (addr string) {
	t.Helper()
	return startMariaDB(t)
}

// StartMariaDBTLS starts a MariaDB that offers TLS, with a certificate and its key.
func StartMariaDBTLS(t testing.TB, cert, key string) (addr string) {
	t.Helper()
	return startMariaDB(t, "--ssl-cert="+cert, "--ssl-key="+key)
}

func startMariaDB(t testing.TB, more ...string) (addr string) {
	t.Helper()
	server := Program(t, "mariadbd")
	dir := t.TempDir()
	port := freePort(t)
	share := filepath.Join(filepath.Dir(filepath.Dir(server)), "share", "mysql")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data", "test"), 0o755))
	cmd := Command(t, server, "--no-defaults", "--datadir="+filepath.Join(dir, "data"), "--lc-messages-dir="+share,
		"--socket="+filepath.Join(dir, "sock"), "--pid-file="+filepath.Join(dir, "pid"), "--port="+port,
		"--bind-address=127.0.0.1", "--skip-grant-tables", "--skip-networking=0", "--local-infile=1", "--skip-name-resolve",
		"--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0",
		"--innodb-use-native-aio=0", "--performance-schema=0", fmt.Sprintf("--plugin-dir=%s", dir))
	cmd.Args = append(cmd.Args, more...)
	if os.Getuid() == 0 {
		cmd.Args = append(cmd.Args, "--user=root")
	}
	run(t, cmd, "ready for connections", syscall.SIGTERM)
	return "127.0.0.1:" + port
}
