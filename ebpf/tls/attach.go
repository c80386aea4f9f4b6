package tls

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	multi    bool // the programs are loaded for many offsets at once
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
	for _, p := range plan(what) {
		more, err := b.place(ex, &p, 0)
		links = append(links, more...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach to %s: %w", f.name, err), detach(links))
		}
	}
	return links, nil
}

// probe is a program and the offsets in a file that it is for.
type probe struct {
	program string
	ret     bool // a uretprobe
	offsets []uint64
}

// plan lists the probes of a file, those of the ends of calls first.
func plan(what *found) []probe {
	var list []probe
	add := func(program string, ret bool, offsets ...uint64) {
		i := slices.IndexFunc(list, func(p probe) bool { return p.program == program })
		if i < 0 {
			i = len(list)
			list = append(list, probe{program: program, ret: ret})
		}
		list[i].offsets = append(list[i].offsets, offsets...)
	}
	for _, p := range what.places {
		switch {
		case !p.ends():
		case len(p.returns) == 0:
			add(ends[p.function], true, p.begin)
		case p.function < sslHandshake:
			add(bpf.TlsProgSslLeave, false, p.returns...)
		default:
			add(ends[p.function], false, p.returns...)
		}
	}
	for _, p := range what.places {
		if p.enters() {
			add(entries[p.function], false, p.enter)
		}
	}
	return list
}

// place attaches a program, in all processes or in one: by one link where the
// kernel can, which needs fewer rights, else by one for each offset.
func (b *fileSet) place(ex *link.Executable, p *probe, pid uint32) ([]link.Link, error) {
	program := b.programs[p.program]
	if b.multi {
		multi := ex.UprobeMulti
		if p.ret {
			multi = ex.UretprobeMulti
		}
		l, err := multi(nil, program, &link.UprobeMultiOptions{Addresses: p.offsets, PID: pid})
		if err != nil {
			return nil, err
		}
		return []link.Link{l}, nil
	}
	single := ex.Uprobe
	if p.ret {
		single = ex.Uretprobe
	}
	var links []link.Link
	for _, at := range p.offsets {
		l, err := single("", program, &link.UprobeOptions{Address: at, PID: int(pid)})
		if err != nil {
			return links, err
		}
		links = append(links, l)
	}
	return links, nil
}

// entries are the programs at the beginning of functions.
var entries = [functions]string{
	sslRead: bpf.TlsProgSslRead, sslWrite: bpf.TlsProgSslWrite, sslReadEx: bpf.TlsProgSslReadEx, sslWriteEx: bpf.TlsProgSslWriteEx,
	sslHandshake: bpf.TlsProgSslHandshake, sslFree: bpf.TlsProgSslFree, sslReadEarly: bpf.TlsProgSslEarly, sslWriteEarly: bpf.TlsProgSslEarly,
	goRead: bpf.TlsProgGoRead, goWrite: bpf.TlsProgGoWrite, goHandshake: bpf.TlsProgGoHandshake,
}

// ends are the programs where functions end.
var ends = [functions]string{
	sslRead: bpf.TlsProgSslReturn, sslWrite: bpf.TlsProgSslReturn, sslReadEx: bpf.TlsProgSslReturn, sslWriteEx: bpf.TlsProgSslReturn,
	sslHandshake: bpf.TlsProgSslHandshakeReturn, sslNew: bpf.TlsProgSslMade,
	goRead: bpf.TlsProgGoReturn, goWrite: bpf.TlsProgGoReturn, goHandshake: bpf.TlsProgGoHandshakeReturn,
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
