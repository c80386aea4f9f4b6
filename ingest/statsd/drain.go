package statsd

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// maxDrainBytes bounds what is read of a socket after its deadline, when senders go
// on: twice what the kernel is asked to hold of packets.
const maxDrainBytes = 2 * receiveBytes

// drainer reads a socket until its deadline and then what the kernel holds of it. A
// deadline that has passed tells nothing about the latter: on a busy machine nobody
// may have read for as long.
type drainer struct {
	read   func(b []byte) (int, error)
	raw    syscall.RawConn
	stream bool // its end is io.EOF
	taken  int  // after the deadline
}

func newDrainer(conn any, read func(b []byte) (int, error), stream bool) *drainer {
	d := &drainer{read: read, stream: stream}
	if c, ok := conn.(syscall.Conn); ok {
		d.raw, _ = c.SyscallConn() // without it, the deadline ends it
	}
	return d
}

// Read implements io.Reader.
func (d *drainer) Read(b []byte) (int, error) {
	n, err := d.read(b)
	if d.raw == nil || d.taken > maxDrainBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	held := false
	if failed := d.raw.Control(func(fd uintptr) { n, held = readNow(fd, b) }); failed != nil || !held {
		return 0, err
	}
	const least = 256 // so that packets of nothing come to an end, too
	d.taken += n + least
	if n == 0 && d.stream {
		return 0, io.EOF
	}
	return n, nil
}
