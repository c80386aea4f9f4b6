package tls

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
)

// cost says what watching costs, once a file; docs/ebpf.md says how it was
// measured.
func cost(library string) string {
	if library == "Go" {
		return "about 50 µs of processor time for each request of HTTP/1.1, as measured"
	}
	return "about 10 µs of processor time for each request of HTTP/1.1, as measured"
}

// file is one that was looked at, and what is attached to it.
type file struct {
	name     string
	library  string // empty: there is no TLS in it
	offsets  int
	links    []link.Link
	lastSeen time.Time // by a process that is watched
}

// fileSet is the files of the processes that are watched. It is for the use
// of one goroutine.
type fileSet struct {
	logger   *slog.Logger
	programs map[string]*ebpf.Program
	of       map[fileID]*file
}

// see notes that a process which is watched has a file, and attaches to one that
// is new.
func (b *fileSet) see(id fileID, now time.Time, open func() (*opened, error)) {
	if known := b.of[id]; known != nil {
		known.lastSeen = now
		return
	}
	f, err := open()
	if err != nil {
		return // the process is gone; if not, the next scan tells
	}
	defer f.Close()
	known := &file{name: f.name, lastSeen: now}
	b.of[f.id] = known
	what, err := inspect(f)
	if errors.Is(err, errNoTLS) {
		b.logger.Debug("no TLS that can be watched", "file", f.name)
		return
	}
	if err == nil {
		known.links, err = b.attach(f, what)
	}
	if err != nil {
		b.logger.Warn("TLS is not watched", "file", f.name, "error", err)
		return
	}
	known.library, known.offsets = what.library, what.offsets()
	b.logger.Info("TLS is watched", "file", f.name, "library", what.library, "functions", len(what.places),
		"offsets", known.offsets, "cost", cost(what.library))
}

// attach places all probes in a file, or none: what notes the end of calls first.
func (b *fileSet) attach(f *opened, what *found) ([]link.Link, error) {
	// The kernel follows this path to the file that is open, whatever has become
	// of its name.
	ex, err := link.OpenExecutable("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return nil, err
	}
	var links []link.Link
	var errs []error
	add := func(l link.Link, err error) {
		if err != nil {
			errs = append(errs, err)
			return
		}
		links = append(links, l)
	}
	for _, p := range what.places {
		end := b.programs[ends[p.function]]
		if p.ends() && len(p.returns) == 0 {
			add(ex.Uretprobe("", end, &link.UprobeOptions{Address: p.begin}))
		}
		if p.function < sslHandshake {
			end = b.programs[bpf.TlsProgSslLeave]
		}
		for _, at := range p.returns {
			add(ex.Uprobe("", end, &link.UprobeOptions{Address: at}))
		}
	}
	for _, p := range what.places {
		add(ex.Uprobe("", b.programs[entries[p.function]], &link.UprobeOptions{Address: p.enter}))
	}
	if len(errs) > 0 {
		return nil, errors.Join(fmt.Errorf("attach to %s: %w", f.name, errs[0]), detach(links))
	}
	return links, nil
}

// entries are the programs at the beginning of functions.
var entries = [functions]string{
	sslRead: bpf.TlsProgSslRead, sslWrite: bpf.TlsProgSslWrite, sslReadEx: bpf.TlsProgSslReadEx, sslWriteEx: bpf.TlsProgSslWriteEx,
	sslHandshake: bpf.TlsProgSslHandshake, sslFree: bpf.TlsProgSslFree,
	goRead: bpf.TlsProgGoRead, goWrite: bpf.TlsProgGoWrite, goHandshake: bpf.TlsProgGoHandshake,
}

// ends are the programs where functions end.
var ends = [functions]string{
	sslRead: bpf.TlsProgSslReturn, sslWrite: bpf.TlsProgSslReturn, sslReadEx: bpf.TlsProgSslReturn, sslWriteEx: bpf.TlsProgSslReturn,
	sslHandshake: bpf.TlsProgSslHandshakeReturn,
	goRead:       bpf.TlsProgGoReturn, goWrite: bpf.TlsProgGoReturn, goHandshake: bpf.TlsProgGoHandshakeReturn,
}

// detach closes links, what notes the beginning of calls first.
func detach(links []link.Link) error {
	reversed := make([]link.Link, 0, len(links))
	for i := len(links) - 1; i >= 0; i-- {
		reversed = append(reversed, links[i])
	}
	return feature.CloseAll(reversed)
}

// drop detaches from the files that no process has had since.
func (b *fileSet) drop(since time.Time) {
	for id, known := range b.of {
		if !known.lastSeen.Before(since) {
			continue
		}
		if err := detach(known.links); err != nil {
			b.logger.Warn("detach from TLS", "file", known.name, "error", err)
		} else if known.library != "" {
			b.logger.Info("TLS is no longer watched", "file", known.name)
		}
		delete(b.of, id)
	}
}

// watched counts the files and the instructions that have probes.
func (b *fileSet) watched() (files, offsets int) {
	for _, known := range b.of {
		if known.links != nil {
			files++
			offsets += known.offsets
		}
	}
	return files, offsets
}
