//go:build linux && (amd64 || arm64)

package statsd

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sys/unix"
)

// registerDrops shows how many packets the kernel has dropped since the socket's
// buffer was full. Only Linux tells.
func registerDrops(reg prometheus.Registerer, p packetSocket) {
	c, ok := p.conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	var last atomic.Uint32 // of an open socket
	promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
		Name:        "vedette_ingest_statsd_kernel_dropped_packets_total",
		Help:        "Packets that the kernel has dropped because they came faster than they were read.",
		ConstLabels: prometheus.Labels{"socket": p.kind},
	}, func() float64 {
		_ = raw.Control(func(fd uintptr) {
			if n, ok := droppedPackets(fd); ok {
				last.Store(n)
			}
		})
		return float64(last.Load())
	})
}

// droppedPackets asks for SO_MEMINFO, whose last word is the number of drops.
func droppedPackets(fd uintptr) (uint32, bool) {
	const drops = 8
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[drops], errno == 0 && size == uint32(unsafe.Sizeof(info))
}
