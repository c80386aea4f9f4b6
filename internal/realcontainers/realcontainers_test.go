package realcontainers

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// variable makes the test's program one that is killed.
const variable = "VEDETTE_TEST_KILLED"

func TestMain(m *testing.M) {
	if os.Getenv(variable) == "" {
		os.Exit(m.Run())
	}
	f, err := New()
	if err == nil { // a shim in a session of its own, which names the folder, and its container, which does not
		shim := exec.Command("sh", "-c", `echo "$1"; sleep 1000; :`, "shim", f.Path+"/x")
		shim.Stdout, shim.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setsid: true}
		err = shim.Start()
	}
	if err != nil {
		panic(err)
	}
	for {
		_ = syscall.Pause()
		runtime.KeepAlive(f) // an open file that nobody needs is closed
	}
}

// What a killed test has left is ended by the next one, and a living one's is not.
func TestKilled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var killed []string
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Dir(line)
		killed = append(killed, path)
		deadline := time.Now().Add(patience)
		for poll := time.Tick(10 * time.Millisecond); len(Processes(path)) < 2; <-poll {
			if time.Now().After(deadline) {
				t.Fatalf("got the processes %v, want a shim and its container", Processes(path))
			}
		}
		if len(killed) == 2 { // the second one found the first one dead
			if left := Processes(killed[0]); len(left) > 0 {
				t.Errorf("processes %v are left", left)
			}
			if _, err := os.Stat(killed[0]); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left", killed[0])
			}
			living, err := New()
			if err != nil {
				t.Fatal(err)
			}
			if len(Processes(path)) < 2 {
				t.Error("what lives was ended")
			}
			if err := living.End(); err != nil {
				t.Error(err)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	last, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if left := Processes(killed[1]); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if err := last.End(); err != nil {
		t.Error(err)
	}
	if left := folders(); len(left) > 0 {
		t.Errorf("got the folders %v, want none", left)
	}
}

// Whoever tests is not ended, though it names the folder.
func TestProcesses(t *testing.T) {
	if slices.Contains(Processes(filepath.Dir(os.Args[0])), os.Getpid()) {
		t.Error("got this process")
	}
}
