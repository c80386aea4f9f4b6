package enginetest

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/realcontainers"
)

const patience = time.Minute

// unpacked is where make test-tools puts programs and libraries.
func unpacked() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../../.cache/tools")
}

// environment is this process's, with the unpacked programs behind its own.
func environment() []string {
	tools := unpacked()
	return append(os.Environ(),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin:"+filepath.Join(tools, "usr/bin")+":"+filepath.Join(tools, "usr/sbin"),
		"LD_LIBRARY_PATH="+filepath.Join(tools, "lib/x86_64-linux-gnu")+":"+filepath.Join(tools, "usr/lib/x86_64-linux-gnu"),
	)
}

// program finds a program, or skips the test.
func program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", filepath.Join(unpacked(), "usr/bin"), filepath.Join(unpacked(), "usr/sbin")} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Skipf("%s is not here; make test-tools unpacks it", name)
	return ""
}

// needs skips a test that cannot run engines.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("short: starts a container engine")
	}
	if os.Getuid() != 0 {
		t.Skip("running containers takes root")
	}
	for _, name := range append(programs, "go") {
		program(t, name)
	}
}

// newDir makes the directory of an engine, which ends when all that was started in it
// has ended.
func newDir(t testing.TB) string {
	t.Helper()
	f, err := realcontainers.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.End(); err != nil {
			t.Error(err)
		}
	})
	return f.Path
}

// daemon is a program that runs until it is stopped.
type daemon struct {
	cmd *exec.Cmd
	log string
}

func startDaemon(t testing.TB, log, name string, args ...string) *daemon {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program(t, name), args...)
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &daemon{cmd, log}
}

// stop ends the daemon as its init system would.
func (d *daemon) stop(t testing.TB) {
	t.Helper()
	if d.cmd.ProcessState != nil {
		return
	}
	late := time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() })
	defer late.Stop()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
}

// ready waits until a daemon answers; one that will not has its log shown.
func (d *daemon) ready(t testing.TB, socket string, answers func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) && answers() {
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			text, _ := os.ReadFile(d.log)
			t.Fatalf("%s does not answer:\n%s", d.cmd.Path, text)
		}
	}
}

// run runs a program to its end and gives what it says on its standard output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}

func try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Env = environment()
	out, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New(strings.TrimSpace(string(e.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Errorf("not within %s: %s", patience, what)
			return
		}
	}
}
