// Package pythontest gives tests a Python that has libraries of other people,
// so that what those send can be looked at. Each set of libraries has an
// environment below .cache/python of the checkout, which outlives the tests and
// is made again when the list of libraries changes. A test whose Python cannot
// be had is skipped with the reason.
package pythontest

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

//go:embed otlp.txt
var otlp []byte

//go:embed zipkin.txt
var zipkin []byte

// OTLP returns an interpreter that has OpenTelemetry's SDK and its OTLP exporters.
func OTLP(t testing.TB) string { t.Helper(); return environment(t, "otlp", otlp) }

// Zipkin returns an interpreter that has Zipkin's client py_zipkin.
func Zipkin(t testing.TB) string { t.Helper(); return environment(t, "zipkin", zipkin) }

// environment returns the interpreter of an environment that has what pip reads
// from requirements.
func environment(t testing.TB, name string, requirements []byte) string {
	t.Helper()
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, name)
	unlock, err := lock(dir + ".lock") // tests of several packages run at once
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	program, marker := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "requirements.txt")
	if have, err := os.ReadFile(marker); err == nil && bytes.Equal(have, requirements) {
		return program
	}
	if testing.Short() {
		t.Skipf("the environment %s of Python is not there, and -short does not make it", name)
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is missing")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "python3", "-m", "venv", dir).CombinedOutput(); err != nil {
		t.Skipf("python3 makes no environment: %v: %s", err, out)
	}
	list := filepath.Join(dir, "wanted.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(ctx, program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--retries", "1", "--timeout", "20", "-r", list)
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("pip does not install the libraries of %s: %v: %s", name, err, out)
	}
	if err := os.Rename(list, marker); err != nil {
		t.Fatal(err)
	}
	return program
}

// cacheDir returns the folder of the environments.
func cacheDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for begin := dir; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			dir = filepath.Join(dir, ".cache", "python")
			return dir, os.MkdirAll(dir, 0o755)
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the module's folder: no go.mod in %s or above", begin)
		}
	}
}

// lock waits until no other process has the file locked.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	return func() { _ = f.Close() }, nil
}
