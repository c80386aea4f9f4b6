package tls

import (
	"errors"
	"slices"
	"strconv"

	"github.com/cilium/ebpf/link"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/identity"
)

// maxReaders bounds the processes in which reading from memory is watched.
const maxReaders = 1024

// readerSet is the processes that hand OpenSSL memory instead of sockets and
// carry the bytes themselves. There it is also watched what OpenSSL reads from that
// memory: the socket that has received the same bytes is the connection's. That
// costs two more probes for each part of a record, and for whatever else the process
// reads from such memory, so it is done nowhere else.
type readerSet struct {
	search *processes
	files  *fileSet
	of     map[identity.Key][]link.Link // none: nothing was found to watch
}

// see begins to watch a process.
func (r *readerSet) see(k identity.Key) {
	if _, known := r.of[k]; known || len(r.of) >= maxReaders || r.files.programs[bpf.TlsProgReceived] == nil {
		return
	}
	r.of[k] = nil
	visit := func(_ fileID, open func() (*opened, error)) {
		if r.of[k] != nil {
			return
		}
		f, err := open()
		if err != nil {
			return
		}
		defer f.Close()
		at, err := inspectMemory(f)
		if err != nil {
			return
		}
		links, err := r.attach(f, &at, k.PID)
		if err != nil {
			r.files.logger.Warn("connections of TLS in memory have no addresses", "file", f.name, "process", k.PID, "error", err)
			return
		}
		r.of[k] = links
		r.files.logger.Info("TLS in memory is watched", "file", f.name, "process", k.PID,
			"cost", "about 50 µs of processor time for each request of HTTP/1.1, all probes together, as measured with Python's asyncio")
	}
	r.search.files(k.PID, visit)
	r.search.libraries(k.PID, "libcrypto", visit)
}

// attach watches where OpenSSL reads from memory, in one process.
func (r *readerSet) attach(f *opened, p *place, pid uint32) ([]link.Link, error) {
	ex, err := link.OpenExecutable("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return nil, err
	}
	end := probe{program: bpf.TlsProgBioReturn, ret: true, offsets: []uint64{p.begin}}
	if len(p.returns) > 0 {
		end = probe{program: bpf.TlsProgBioReturn, offsets: p.returns}
	}
	links, err := r.files.place(ex, &end, pid)
	if err != nil {
		return nil, errors.Join(err, detach(links))
	}
	more, err := r.files.place(ex, &probe{program: bpf.TlsProgBioRead, offsets: []uint64{p.enter}}, pid)
	links = append(links, more...)
	if err != nil {
		return nil, errors.Join(err, detach(links))
	}
	return links, nil
}

// drop detaches from the processes that have ended.
func (r *readerSet) drop() {
	for k, links := range r.of {
		if r.search.env.Resolver.Alive(k) {
			continue
		}
		_ = detach(links)
		delete(r.of, k)
	}
}

// forget detaches from a process.
func (r *readerSet) forget(pid uint32) {
	for k, links := range r.of {
		if k.PID == pid {
			_ = detach(links)
			delete(r.of, k)
		}
	}
}

// all gives the links.
func (r *readerSet) all() []link.Link {
	var all []link.Link
	for _, links := range r.of {
		all = slices.Concat(all, links)
	}
	return all
}
