package enginetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vedette-io/vedette/internal/realcontainers"
)

// Guest is the program in a running container.
type Guest struct {
	// ID is the engine's 64 hexadecimal digits.
	ID string
	// Name is the engine's name for the container, if it has one.
	Name string

	client *http.Client
}

// newGuest gives the guest that listens in a directory of the host's, which is
// /control in the container.
func newGuest(id, name, control string) *Guest {
	socket := filepath.Join(control, "guest")
	return &Guest{ID: id, Name: name, client: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// ready waits until the guest listens.
func (g *Guest) ready(t testing.TB) {
	t.Helper()
	eventually(t, "the guest in "+g.ID+" answers", func() bool { _, err := g.try("GET", "/hello"); return err == nil })
}

// Tell tells the guest to do something, such as /burn?ms=100, and waits until it
// has.
func (g *Guest) Tell(t testing.TB, format string, args ...any) {
	t.Helper()
	if err := g.Try(format, args...); err != nil {
		t.Fatal(err)
	}
}

// Try is Tell for what the guest may not survive.
func (g *Guest) Try(format string, args ...any) error {
	_, err := g.try("POST", fmt.Sprintf(format, args...))
	return err
}

// Address is where the guest serves by TCP.
func (g *Guest) Address(t testing.TB) string {
	t.Helper()
	addr, err := g.try("GET", "/address")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func (g *Guest) try(method, path string) (string, error) {
	r, err := http.NewRequest(method, "http://guest"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := g.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return string(b), err
}

// writeImage builds the guest, and writes the image of it.
func writeImage(t testing.TB, dir, image string) {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(dir, "guest")
	err := realcontainers.Build(path, filepath.Join(filepath.Dir(file), "testdata/guest"))
	if err == nil {
		err = realcontainers.WriteImage(image, Image, "guest", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}
